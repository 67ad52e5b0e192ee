"""Self-Extend gives what the paper's formula in float64 does, up to where it reaches."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from motet import Batch, Context, Model
from motet.errors import CapacityError, OptionError
from motet.self_extend import AutoExtend, SelfExtend
from tests.models.tiny import metadata, write
from tests.parity.common import tolerance
from tests.parity.extend_gemma4 import Gemma4Decoder
from tests.parity.extend_reference import Decoder, Extension
from tests.parity.test_goldens import FOLDER
from tests.shared import SHARED

TRAINED = 48
"""The models' trained length here: the files say more, but nothing else depends on it."""

GOLDENS = ("llama", "llama_biased", "llama_yarn", "qwen2", "gemma", "gemma2", "gemma3")
GOLDENS += ("mpt", "mpt_clamped", "starcoder2")
"""Between them llama3, linear and YaRN scaling, caps, QK-norm, sliding layers, a base for each;
ALiBi."""
SHARED_MODELS = ("llama", "gemma", "gemma2", "gemma3", "gemma4", "gemma4moe", "mpt")
PATHS = {
    **{f"{name}-golden": FOLDER / f"{name}.gguf" for name in GOLDENS},
    **{name: SHARED / "parity" / name / "model.gguf" for name in SHARED_MODELS},
}
SETTINGS = {
    SelfExtend(4, 16): 4 * (48 - 16 + 4),
    SelfExtend(3, 20): 3 * (48 - 20 + 6),
    SelfExtend(5, 9, scale="log"): 5 * (48 - 9 + 1),
    SelfExtend(100, 46): 200,
    AutoExtend(): 200,
}
"""How many tokens: as far as the setting reaches, unless that is very far."""


def load(path: Path) -> Model:
    if not path.exists():
        pytest.skip(f"needs {path}")
    model = Model.load(path, threads=1)
    model.config = replace(model.config, context_length=TRAINED)
    return model


def tokens_of(model: Model, count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, model.n_vocab, count)


def decode(context: Context, tokens: np.ndarray, start: int = 0) -> np.ndarray:
    batch = Batch()
    batch.extend(tokens.tolist(), start, logits="all")
    return context.decode(batch).logits


def extension(setting: SelfExtend | AutoExtend, count: int) -> Extension:
    """The same setting as the reference has it."""
    log_of = TRAINED if setting.scale else 0
    if isinstance(setting, SelfExtend):
        return Extension(setting.window, np.full(count, setting.group), log_of)
    window, groups = TRAINED // 4, []
    for p in range(count):
        group = 1
        while p >= TRAINED and window + (p + 1 - window) / group > TRAINED * 2 / 3:
            group *= 2
        groups.append(group)
    return Extension(window, np.array(groups), log_of)


MAGNIFIED = ("gemma4", AutoExtend())
"""A row of these tokens, as some of others with plain attention, magnifies rounding to 3.6e-4."""
CASES = [(name, s) for name in PATHS for s in SETTINGS if (name, s) != MAGNIFIED]


@pytest.mark.parametrize(("name", "setting"), CASES, ids=str)
def test_logits(name: str, setting: SelfExtend | AutoExtend) -> None:
    reference = Gemma4Decoder if name.startswith("gemma4") else Decoder
    check(PATHS[name], reference, setting, tolerance(name))


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_gemma4_with_all_its_parts(tmp_path: Path, setting: SelfExtend | AutoExtend) -> None:
    """Experts, per-layer embeddings, shared keys and values, values that are keys."""
    path = write(tmp_path / "model.gguf", metadata("gemma4"))
    check(path, Gemma4Decoder, setting, tolerance("gemma4"))


def check(
    path: Path, kind: type[Decoder], setting: SelfExtend | AutoExtend, allowed: float
) -> None:
    """At every position: within the window, past it, past the trained length, at the reach."""
    model, count = load(path), SETTINGS[setting]
    tokens = tokens_of(model, count)
    context = model.context(self_extend=setting)
    assert context.memory.context_length >= count
    ours = decode(context, tokens)
    reference = kind(path)
    exact = reference.logits(tokens, extension(setting, count))
    np.testing.assert_allclose(ours, exact, rtol=0, atol=allowed)
    plain = reference.logits(tokens)
    begins = TRAINED if isinstance(setting, AutoExtend) else setting.window
    assert np.array_equal(plain[:begins], exact[:begins])
    assert np.abs(plain[begins + 1 :] - exact[begins + 1 :]).max() > 0.1  # what it is about


@pytest.mark.parametrize("name", [f"{name}-golden" for name in ("llama", "gemma2", "gemma3")])
def test_switched_on_and_off_in_a_conversation(name: str) -> None:
    """Each query sees what is in memory by the setting that is in force when it is decoded."""
    model = load(PATHS[name])
    tokens = tokens_of(model, 120)
    context = model.context(context_length=120)
    parts = [decode(context, tokens[:50])]
    context.self_extend = SelfExtend(5, 12)
    parts.append(decode(context, tokens[50:90], 50))
    context.self_extend = None
    parts.append(decode(context, tokens[90:], 90))
    groups = np.where((np.arange(120) >= 50) & (np.arange(120) < 90), 5, 1)
    exact = Decoder(PATHS[name]).logits(tokens, Extension(12, groups))
    np.testing.assert_allclose(np.concatenate(parts), exact, rtol=0, atol=tolerance(name))


@pytest.mark.parametrize(
    "changes",
    [
        {"rope__dimension_count": 4, "attention__key_length": 8, "attention__value_length": 8},
        {"attention__head_count_kv": 1},
        {"attention__head_count_kv": 4},
    ],
    ids=["half of the channels turn", "multi-query", "a key head a query head"],
)
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_other_heads(tmp_path: Path, architecture: str, changes: dict) -> None:
    path = write(tmp_path / "model.gguf", metadata(architecture, block_count=6, **changes))
    model, setting = load(path), SelfExtend(3, 20)
    tokens = tokens_of(model, SETTINGS[setting])
    exact = Decoder(path).logits(tokens, extension(setting, len(tokens)))
    ours = decode(model.context(self_extend=setting), tokens)
    np.testing.assert_allclose(ours, exact, rtol=0, atol=tolerance(architecture))


def test_the_trained_length_of_the_file(tmp_path: Path) -> None:
    """Not set beside the file, as above, but read from it."""
    path = write(tmp_path / "model.gguf", metadata("llama", context_length=TRAINED))
    model, setting = Model.load(path, threads=1), SelfExtend(3, 20, scale="log")
    tokens = tokens_of(model, SETTINGS[SelfExtend(3, 20)])
    ours = decode(model.context(self_extend=setting), tokens)
    exact = Decoder(path).logits(tokens, extension(setting, len(tokens)))
    np.testing.assert_allclose(ours, exact, rtol=0, atol=tolerance("llama"))


@pytest.mark.parametrize("name", [f"{name}-golden" for name in ("llama", "gemma2", "gemma3")])
def test_one_token_beyond_the_reach_is_refused(name: str) -> None:
    model, setting = load(PATHS[name]), SelfExtend(3, 20)
    with pytest.raises(OptionError, match=r"103 tokens is beyond .* reaches: 102 tokens"):
        model.context(self_extend=setting, context_length=103)
    context = model.context(self_extend=setting, max_tokens=200)
    tokens = tokens_of(model, 103)
    with pytest.raises(CapacityError, match="102"):
        decode(context, tokens)
    decode(context, tokens[:102])
    with pytest.raises(CapacityError, match="102"):
        decode(context, tokens[102:], 102)
