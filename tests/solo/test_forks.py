"""The solo law when sequences are forked, removed and taken up again, on every kind of memory."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from motet import Batch, Context, Model
from tests.models.tiny import load
from tests.solo.voices import SPLITS, alone, random_tokens

KINDS = {
    "gemma2": {},
    "gemma3": {},
    "gemma4": {},
    "olmo2": {},
    "mamba": {},
    "falcon-mamba": {"ssm__dt_b_c_rms": True},
    "mamba2": {},
    "mamba2-1-group": {"ssm__group_count": 1},
    "mamba2-8-groups": {"ssm__group_count": 8, "ssm__time_step_rank": 8},
    "jamba": {},
    "rwkv6": {},
    "qwen35": {},
    "kimi-linear": {},
    "rwkv7": {},
    "nemotron_h_moe": {},
    "granitehybrid-dense": {
        "expert_count": None,
        "expert_used_count": None,
        "expert_shared_feed_forward_length": None,
    },
    "falcon-h1": {},
    "nemotron_h": {},
    "lfm2": {},
    "lfm2-2-taps": {"shortconv__l_cache": 2},
}
UBATCHES = (1, 2, 3, 512)
"""The first three are shorter than the convolution's tail."""


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory):
    @cache
    def make(name: str) -> Model:
        own = {"falcon-mamba": "mamba", "kimi-linear": "kimi-linear", "falcon-h1": "falcon-h1"}
        architecture = own.get(name, name.split("-")[0])
        folder: Path = tmp_path_factory.mktemp(name)
        return load(folder, architecture, threads=2, **KINDS[name])

    return make


def decode(context: Context, *runs: tuple[int | tuple[int, ...], int, list[int]]) -> np.ndarray:
    """Logits of every token of some (sequences, start, tokens)."""
    batch = Batch()
    for seqs, start, tokens in runs:
        batch.extend(tokens, start, seqs, logits="all")
    return context.decode(batch).logits


@pytest.mark.parametrize("ubatch", UBATCHES)
@pytest.mark.parametrize("name", KINDS)
def test_forks_diverge_in_either_order_at_full_capacity(models, name: str, ubatch: int) -> None:
    """Every sequence is in use; a fork's parent and child go on together or one after the other."""
    model, rng = models(name), np.random.default_rng(1)
    prefix = random_tokens(model, rng, 13)
    tails = [random_tokens(model, rng, 9) for _ in range(4)]
    expected = [alone(model, prefix + tail)[len(prefix) :] for tail in tails]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        for split in SPLITS:
            context = model.context(max_sequences=4, ubatch=ubatch, split=split)
            decode(context, (0, 0, prefix))
            for seq in (1, 2, 3):
                context.memory.copy(0, seq)
            got = {}
            for seq in order[:2]:  # one after the other …
                got[seq] = decode(context, (seq, len(prefix), tails[seq]))
            a, b = order[2:]  # … and together
            both = decode(context, *((s, len(prefix), tails[s]) for s in (a, b)))
            got[a], got[b] = both[:9], both[9:]
            for seq in range(4):
                assert np.array_equal(got[seq], expected[seq]), (order, split, seq)


@pytest.mark.parametrize("name", KINDS)
def test_shared_tokens_then_apart(models, name: str) -> None:
    """A prefix as tokens of four sequences in one batch with what follows in each."""
    model, rng = models(name), np.random.default_rng(2)
    prefix = random_tokens(model, rng, 11)
    tails = [random_tokens(model, rng, n) for n in (5, 1, 8, 3)]
    expected = np.concatenate([alone(model, prefix + tail)[len(prefix) :] for tail in tails])
    for ubatch in UBATCHES:
        for split in SPLITS:
            context = model.context(max_sequences=6, ubatch=ubatch, split=split)
            runs = [(s, len(prefix), tail) for s, tail in zip((5, 0, 3, 2), tails, strict=True)]
            got = decode(context, ((5, 0, 3, 2), 0, prefix), *runs)
            assert np.array_equal(got[len(prefix) :], expected), (ubatch, split)


@pytest.mark.parametrize("name", KINDS)
def test_nothing_is_left_of_a_removed_sequence(models, name: str) -> None:
    """A sequence that begins where another one was is as in fresh memory, among neighbours."""
    model, rng = models(name), np.random.default_rng(3)
    context = model.context(max_sequences=3, ubatch=7)
    old = [random_tokens(model, rng, n) for n in (20, 5, 12)]
    decode(context, *((s, 0, tokens) for s, tokens in enumerate(old)))
    for _ in range(3):
        gone = int(rng.integers(3))
        context.memory.remove(gone)
        assert context.memory.length(gone) == 0
        new = random_tokens(model, rng, int(rng.integers(1, 6)))  # shorter than a tail, or not
        got = decode(context, (gone, 0, new))
        assert np.array_equal(got, alone(model, new))
        old[gone] = new
        more = [random_tokens(model, rng, 2) for _ in old]
        got = decode(context, *((s, len(old[s]), more[s]) for s in (2, 0, 1)))
        for i, seq in enumerate((2, 0, 1)):
            old[seq] = old[seq] + more[seq]
            assert np.array_equal(got[2 * i : 2 * i + 2], alone(model, old[seq])[-2:])


@pytest.mark.parametrize("name", KINDS)
def test_any_subset_goes_on(models, name: str) -> None:
    """{0, 2}, {1, 3}, … in any order, one token each, more of them than a micro-batch holds."""
    model, rng = models(name), np.random.default_rng(4)
    said = [random_tokens(model, rng, int(rng.integers(1, 9))) for _ in range(5)]
    context = model.context(max_sequences=5, ubatch=2)
    decode(context, *((s, 0, tokens) for s, tokens in enumerate(said)))
    for subset in ((0, 2), (3, 1), (4, 0, 2), (0, 1, 2, 3, 4), (2,), (4, 3, 2, 1, 0)):
        tokens = {s: random_tokens(model, rng, 1) for s in subset}
        got = decode(context, *((s, len(said[s]), tokens[s]) for s in subset))
        for row, seq in zip(got, subset, strict=True):
            said[seq] = said[seq] + tokens[seq]
            assert np.array_equal(row, alone(model, said[seq])[-1]), (subset, seq)
