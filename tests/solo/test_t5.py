"""The solo law of encoder-decoders: what a sequence's tokens give depends on its own text alone."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from motet import Batch, Context, Model
from motet.kernels import CPU, _cpu
from motet.weights.gguf import GGUFFile
from tests.models.tiny import metadata, shapes, write
from tests.shared import SHARED
from tests.solo.voices import SPLITS, UBATCHES, random_tokens

NAMES = ("plain", "gated", "t5_ungated", "t5_gated")


def made(path: Path, gated: bool) -> Path:
    """A tiny one: gated and with an output head of its own, or neither."""
    keys = metadata("t5")
    tensors = shapes(keys)
    if gated:
        ups = [name for name in tensors if name.endswith("ffn_up.weight")]
        tensors |= {name.replace("ffn_up", "ffn_gate"): tensors[name] for name in ups}
        tensors["output.weight"] = tensors["token_embd.weight"]
    return write(path, keys, tensors)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory):
    @cache
    def make(name: str, isa: str, threads: int) -> Model:
        path = SHARED / "parity" / name / "model.gguf"
        if not name.startswith("t5"):
            path = made(tmp_path_factory.mktemp(name) / "m.gguf", name == "gated")
        elif not path.exists():
            pytest.skip(f"needs {path}")
        with GGUFFile.open(path) as file:
            file.metadata = {**file.metadata, "tokenizer.ggml.model": "no_vocab"}
            return Model(file, CPU(threads, isa))

    return make


def encode(context: Context, texts: dict[int, list[int]]) -> None:
    batch = Batch()
    for seq, text in texts.items():
        batch.extend(text, 0, seq)
    context.encode(batch)


def decode(
    context: Context, tokens: list[int], seqs: int | tuple[int, ...] = 0, start: int = 0
) -> np.ndarray:
    batch = Batch()
    batch.extend(tokens, start, seqs, logits="all")
    return context.decode(batch).logits


def alone(model: Model, text: list[int], tokens: list[int], **options) -> np.ndarray:
    """Logits of every token, in one go, with nobody else."""
    context = model.context(ubatch=512, **options)
    encode(context, {0: text})
    return decode(context, tokens)


def voices(model: Model, count: int, seed: int) -> tuple[list[list[int]], list[list[int]]]:
    """Texts, and what is decoded after them."""
    rng = np.random.default_rng(seed)
    texts = [random_tokens(model, rng, int(n)) for n in rng.integers(1, 140, count)]
    return texts, [random_tokens(model, rng, int(n)) for n in rng.integers(1, 90, count)]


@pytest.mark.parametrize("isa", _cpu.supported())
@pytest.mark.parametrize("name", NAMES)
def test_any_neighbours_and_cuts(models, name: str, isa: str) -> None:
    rng = np.random.default_rng(3)
    texts, tokens = voices(models(name, isa, 1), 6, 3)
    expected = [alone(models(name, isa, 1), *each) for each in zip(texts, tokens, strict=True)]
    ubatches = UBATCHES if isa == _cpu.supported()[0] else (7,)
    for number, ubatch in enumerate(ubatches):
        context = models(name, isa, 1 + number % 2).context(
            max_sequences=6, ubatch=ubatch, split=SPLITS[number % 3]
        )
        for part in np.array_split(rng.permutation(6), 2):
            encode(context, {seq: texts[seq] for seq in part.tolist()})
        at = [0] * 6
        while any(n < len(own) for n, own in zip(at, tokens, strict=True)):
            batch, rows = Batch(), []
            for seq in rng.permutation(6).tolist():
                end = min(len(tokens[seq]), at[seq] + int(rng.choice([0, 1, 3, 40])))
                batch.extend(tokens[seq][at[seq] : end], at[seq], seq, logits="all")
                rows += [(seq, position) for position in range(at[seq], end)]
                at[seq] = end
            if rows:
                for (seq, position), row in zip(rows, context.decode(batch).logits, strict=True):
                    assert np.array_equal(row, expected[seq][position]), (ubatch, seq, position)


@pytest.mark.parametrize("name", NAMES)
def test_instruction_sets_agree(models, name: str) -> None:
    fused = [isa for isa in _cpu.supported() if isa != "baseline"]
    (text, *_), (tokens, *_) = voices(models(name, fused[0], 1), 1, 4)
    every = [alone(models(name, isa, 2), text, tokens) for isa in fused]
    for other in every[1:]:
        assert np.array_equal(other, every[0])


@pytest.mark.parametrize("kv_type", ["f32", "f16", "bf16", "q8_0"])
def test_forks_share_what_was_encoded(models, kv_type: str) -> None:
    model = models("gated", _cpu.supported()[0], 2)
    (text, other), _ = voices(model, 2, 5)
    tokens = [random_tokens(model, np.random.default_rng(n), 50) for n in range(4)]
    context = model.context(max_sequences=5, ubatch=7, kv_type=kv_type)
    encode(context, {0: text, 4: other})
    memory = context.memory
    once = memory.used_bytes
    memory.copy(0, 1)  # without a token
    assert memory.used_bytes == once
    prefix = decode(context, tokens[0][:20], (0, 1))
    memory.copy(0, 2)
    memory.copy(0, 3, 0, 10)
    expected = [
        alone(model, text, tokens[0][:n] + own, kv_type=kv_type)
        for n, own in zip((20, 20, 20, 10), tokens, strict=True)
    ]
    assert np.array_equal(prefix, expected[0][:20])
    memory.remove(0, 5)
    again = decode(context, tokens[0][5:20], 0, 5)
    assert np.array_equal(again, expected[0][5:20])
    for seq, start in ((2, 20), (0, 20), (3, 10), (1, 20)):
        assert np.array_equal(decode(context, tokens[seq], seq, start), expected[seq][start:])
    assert np.array_equal(
        decode(context, tokens[1], 4), alone(model, other, tokens[1], kv_type=kv_type)
    )


@pytest.mark.parametrize("kv_type", ["f32", "f16", "bf16", "q8_0"])
@pytest.mark.parametrize("decoded", [0, 1, 30])
def test_state_files(models, kv_type: str, decoded: int, tmp_path: Path) -> None:
    model = models("plain", _cpu.supported()[0], 2)
    texts, _ = voices(model, 3, 6)
    tokens = random_tokens(model, np.random.default_rng(1), 60)
    context = model.context(max_sequences=4, kv_type=kv_type)
    encode(context, {0: texts[0], 2: texts[1]})
    context.memory.copy(0, 3)
    if decoded:
        decode(context, tokens[:decoded], 2)
        decode(context, tokens[:decoded], 3)
    context.save(tmp_path / "state")
    other = model.context(max_sequences=5, ubatch=5, kv_type=kv_type)
    restored = other.restore(tmp_path / "state", {0: 4, 2: 1, 3: 3})
    assert restored.sequences == {0: 4, 2: 1, 3: 3}
    assert other.memory.used_bytes == context.memory.used_bytes  # shared again
    for seq, text, start in ((4, 0, 0), (1, 1, decoded), (3, 0, decoded)):
        assert other.memory.encoded(seq) == len(texts[text])
        expected = alone(model, texts[text], tokens, kv_type=kv_type)
        assert np.array_equal(decode(other, tokens[start:], seq, start), expected[start:])
