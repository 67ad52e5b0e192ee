"""The solo law: every row is, bit for bit, what its sequence gives alone in one go."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from motet import Batch, Model
from motet.kernels import _cpu
from tests.shared import SHARED
from tests.solo.voices import SPLITS, UBATCHES, Voices, alone, feed, load, random_tokens

GOLDENS = Path(__file__).parents[1] / "parity" / "goldens"
SHIPPED = Path(__file__).parents[2] / "src" / "motet" / "data"
MODELS = {
    **{f"golden-{path.stem}": path for path in sorted(GOLDENS.glob("*.gguf"))},
    **{
        name: SHIPPED / f"{name}.gguf"
        for name in ("motet-tiny", "motet-tiny-jamba", "motet-tiny-mamba")
    },
    "stories260K": SHARED / "stories260K" / "stories260K-F32.gguf",
    **{
        name: SHARED / "parity" / name / "model.gguf"
        for name in (
            *("llama", "mistral", "qwen2", "gemma", "gemma2", "gemma2_46l", "gemma3"),
            *("openelm", "deepseek2", "deepseek2_lite27", "deepseek2_yarn", "deepseek3"),
            *("mamba", "falcon_mamba", "mamba2", "jamba", "rwkv6", "rwkv6_real", "mpt"),
            *("qwen3next", "qwen35", "qwen35moe", "kimilinear"),
            *("rwkv7", "nemotronhmoe"),
            *("glm4moe", "olmo3", "granitehybrid", "falconh1", "lfm2moe"),  # and test_families.py
            *("gptoss", "gptoss_mxfp4"),
            *("gemma4", "gemma4moe"),
        )
    },
    **{
        f"{name}-{type}": SHARED / "parity" / name / f"model-{type}.gguf"
        for name, type in (
            ("llama_q", "Q4_0"),
            ("llama_q", "Q5_1"),
            ("gemma2_q", "Q4_K_M_mix"),
            ("gemma2_q", "Q8_0"),
            ("gemma2_q", "IQ4_XS"),
        )
    },
}


@cache
def model_of(name: str, isa: str, threads: int) -> Model:
    if not MODELS[name].exists():
        pytest.skip(f"needs {MODELS[name]}")
    return load(MODELS[name], isa, threads)


@pytest.mark.parametrize("isa", _cpu.supported())
@pytest.mark.parametrize("name", MODELS)
def test_random_batches(name: str, isa: str) -> None:
    seeds = range(6 if isa == _cpu.supported()[0] else 2)
    for seed in seeds:
        rng = np.random.default_rng([seed, len(name)])
        model = model_of(name, isa, 1 + seed % 2)
        voices = Voices.random(model, rng, int(rng.integers(1, 17)), 150)
        context = model.context(
            max_sequences=len(voices.tokens),
            ubatch=int(rng.choice(UBATCHES)),
            split=SPLITS[seed % 3],
        )
        rows = feed(context, voices.entries(rng), rng)
        assert rows
        expected = [alone(model_of(name, isa, 2 - seed % 2), t) for t in voices.tokens]
        for (seq, position), logits in rows.items():
            assert np.array_equal(logits, expected[seq][position]), (seed, seq, position)


@pytest.mark.parametrize(
    "name",
    [
        "golden-gemma2",
        "motet-tiny",
        "stories260K",
        "gemma3",
        "gemma4",
        "mamba2",
        "jamba",
        "rwkv6",
        "deepseek3",
        "qwen35",
        "kimilinear",
        "gptoss",
    ],
)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("ubatch", UBATCHES)
def test_every_ubatch_and_split(name: str, split: str, ubatch: int) -> None:
    """Five sequences, longer than the sliding window, in parallel."""
    model = model_of(name, _cpu.supported()[0], 2)
    rng = np.random.default_rng(7)
    tokens = [random_tokens(model, rng, n) for n in (1, 90, 33, 130, 64)]
    context = model.context(max_sequences=5, ubatch=ubatch, split=split)
    batch = Batch()
    for seq in (3, 0, 4, 1, 2):
        batch.extend(tokens[seq], 0, seq, logits="all")
    logits = context.decode(batch).logits
    assert np.array_equal(
        logits, np.concatenate([alone(model, tokens[s]) for s in (3, 0, 4, 1, 2)])
    )


@pytest.mark.parametrize("kv_type", ["f32", "f16", "bf16", "q8_0"])
@pytest.mark.parametrize(
    "name", ["golden-gemma2", "motet-tiny", "llama_q-Q4_0", "deepseek2", "gptoss"]
)
def test_fork_rewind_and_go_on(name: str, kv_type: str) -> None:
    model = model_of(name, _cpu.supported()[0], 2)
    rng = np.random.default_rng(11)
    prefix, tails = random_tokens(model, rng, 70), [random_tokens(model, rng, n) for n in (50, 90)]

    def fresh(tokens: list[int]) -> np.ndarray:
        batch = Batch()
        batch.extend(tokens, 0, logits="all")
        return model.context(kv_type=kv_type).decode(batch).logits

    context = model.context(max_sequences=4, kv_type=kv_type, ubatch=16)
    batch = Batch()
    batch.extend(prefix, 0, 2, logits="none")
    batch.extend(tails[0], 70, 2, logits="none")
    batch.extend(random_tokens(model, rng, 100), 0, 0, logits="none")
    context.decode(batch)
    memory = context.memory
    memory.copy(2, 1, 0, 115)
    memory.remove(1, 112)  # a few tokens back, which a sliding window still has
    memory.remove(0)
    kept = prefix + tails[0][:42]
    batch = Batch()
    for seq, tokens in ((0, prefix + tails[1]), (1, kept + tails[1]), (2, kept + tails[0])):
        start = 0 if seq == 0 else 112 if seq == 1 else 120
        batch.extend(tokens[start:], start, seq, logits="all")
    logits = context.decode(batch).logits
    expected = [
        fresh(prefix + tails[1]),
        fresh(kept + tails[1])[112:],
        fresh(prefix + tails[0] + (kept + tails[0])[120:])[120:],
    ]
    assert np.array_equal(logits, np.concatenate(expected))
