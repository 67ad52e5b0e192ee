"""Pooled vectors of models that decode: over all of a sequence's tokens, however they were cut."""

from functools import cache

import numpy as np
import pytest

from motet import Batch, CannotRewind, Context, Model
from tests.models.tiny import load
from tests.solo.voices import SPLITS, random_tokens

NAMES = ("llama", "gemma2", "gemma3", "mamba", "mamba2", "rwkv6", "jamba")
NAMES += ("lfm2moe", "falcon-h1")
LENGTHS = (1, 90, 33, 70, 64)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory):
    return cache(lambda name: load(tmp_path_factory.mktemp(name), name, threads=2))


def decode(context: Context, *runs: tuple[int | tuple[int, ...], int, list[int]]):
    batch = Batch()
    for seqs, start, tokens in runs:
        batch.extend(tokens, start, seqs, logits="none")
    return context.decode(batch).pooled


def alone(model: Model, tokens: list[int], pooling: str) -> np.ndarray:
    """A sequence's vector, in one go with nobody else."""
    return decode(model.context(ubatch=1024, pooling=pooling), (0, 0, tokens))[0]


@pytest.mark.parametrize("name", NAMES)
def test_mean_and_last_of_hidden_states(models, name: str) -> None:
    model = models(name)
    tokens = random_tokens(model, np.random.default_rng(1), 90)
    batch = Batch()
    batch.extend(tokens, 0, logits="all")
    hidden = model.context(pooling="none").decode(batch).hidden
    assert np.array_equal(alone(model, tokens, "last"), hidden[-1])
    exact = hidden.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(alone(model, tokens, "mean"), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("name", NAMES)
def test_any_cut(models, name: str, pooling: str) -> None:
    model, rng = models(name), np.random.default_rng(2)
    texts = [random_tokens(model, rng, n) for n in LENGTHS]
    expected = [alone(model, text, pooling) for text in texts]
    for number, ubatch in enumerate((1, 2, 3, 7, 64)):
        split = SPLITS[number % 3]
        context = model.context(5, ubatch=ubatch, pooling=pooling, split=split)
        pooled = decode(context, *((s, 0, texts[s]) for s in (3, 0, 4, 1, 2)))
        for seq in range(5):
            assert np.array_equal(pooled[seq], expected[seq]), (ubatch, seq)


def test_wide_states(tmp_path) -> None:
    """Wide enough for their channels to be shared out."""
    model = load(tmp_path, "llama", threads=2, embedding_length=512)
    text = random_tokens(model, np.random.default_rng(8), 200)
    context = model.context(pooling="mean", ubatch=64)
    decode(context, (0, 0, text[:150]))
    pooled = decode(context, (0, 150, text[150:]))
    assert np.array_equal(pooled[0], alone(model, text, "mean"))


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("name", NAMES)
def test_several_decodes(models, name: str, pooling: str) -> None:
    """What is said of a sequence is over all of its tokens so far; others are not spoken of."""
    model, rng = models(name), np.random.default_rng(3)
    texts = [random_tokens(model, rng, 60) for _ in range(3)]
    context = model.context(max_sequences=3, ubatch=16, pooling=pooling)
    at = [0, 0, 0]
    while min(at) < 60:
        chosen = [s for s in range(3) if at[s] < 60 and rng.random() < 0.7]
        if not chosen:
            continue
        runs = []
        for seq in chosen:
            stop = min(60, at[seq] + int(rng.integers(1, 30)))
            runs.append((seq, at[seq], texts[seq][at[seq] : stop]))
            at[seq] = stop
        pooled = decode(context, *runs)
        assert sorted(pooled) == chosen
        for seq in chosen:
            assert np.array_equal(pooled[seq], alone(model, texts[seq][: at[seq]], pooling))


@pytest.mark.parametrize("name", NAMES)
def test_shared_tokens_and_forks(models, name: str) -> None:
    model, rng = models(name), np.random.default_rng(4)
    prefix, tails = random_tokens(model, rng, 40), [random_tokens(model, rng, 9) for _ in range(3)]
    context = model.context(max_sequences=4, ubatch=7, pooling="mean")
    runs = [(s, 40, tails[s]) for s in range(2)]
    pooled = decode(context, ((0, 1, 3), 0, prefix), *runs)
    assert np.array_equal(pooled[3], alone(model, prefix, "mean"))
    context.memory.copy(3, 2)
    pooled |= decode(context, (2, 40, tails[2]))
    for seq in range(3):
        assert np.array_equal(pooled[seq], alone(model, prefix + tails[seq], "mean"))


@pytest.mark.parametrize("name", NAMES)
def test_saved_in_the_middle(models, name: str, tmp_path) -> None:
    model, rng = models(name), np.random.default_rng(5)
    text = random_tokens(model, rng, 80)
    context = model.context(max_sequences=2, pooling="mean")
    decode(context, (1, 0, text[:50]))
    context.save(tmp_path / "state")
    other = model.context(max_sequences=3, ubatch=3, pooling="mean")
    other.restore(tmp_path / "state", {1: 2})
    pooled = decode(other, (2, 50, text[50:]))
    assert np.array_equal(pooled[2], alone(model, text, "mean"))


def test_rewinds_to_checkpoints_alone(models) -> None:
    model, rng = models("llama"), np.random.default_rng(6)
    text = random_tokens(model, rng, 60)
    context = model.context(pooling="mean")
    decode(context, (0, 0, text[:40]))
    context.memory.checkpoint(0)
    decode(context, (0, 40, text[40:]))
    with pytest.raises(CannotRewind):
        context.memory.remove(0, 55)
    context.memory.remove(0, 40)
    pooled = decode(context, (0, 40, text[40:50]))
    assert np.array_equal(pooled[0], alone(model, text[:50], "mean"))


def test_logits_are_those_without_pooling(models) -> None:
    model, rng = models("jamba"), np.random.default_rng(7)
    text = random_tokens(model, rng, 40)
    rows = []
    for pooling in ("none", "mean", "last"):
        batch = Batch()
        batch.extend(text[:20], 0, logits="none")
        batch.extend(text[20:], 20, logits="all")
        rows.append(model.context(pooling=pooling, ubatch=7).decode(batch).logits)
    assert np.array_equal(rows[0], rows[1]) and np.array_equal(rows[0], rows[2])
