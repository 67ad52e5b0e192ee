"""The solo law when sequences go back: to where they like, or to checkpoints, among neighbours."""

import numpy as np
import pytest

from motet import Batch
from motet.errors import CannotRewind
from motet.self_extend import SelfExtend
from tests.solo.test_forks import KINDS, decode, models
from tests.solo.voices import alone, random_tokens

__all__ = ["models"]  # the fixture


ATTENTION = ("gemma2", "gemma3", "gemma4", "olmo2")
"""Kinds without a recurrent layer."""


@pytest.mark.parametrize("ubatch", [1, 3, 512])
@pytest.mark.parametrize("name", KINDS)
def test_back_to_checkpoints_and_on(models, name: str, ubatch: int) -> None:
    """Two sequences in turn go back to places kept on the way, with others between them."""
    model, rng = models(name), np.random.default_rng(ubatch)
    context = model.context(max_sequences=3, ubatch=ubatch)
    memory, said = context.memory, {0: [], 2: []}
    kept: dict[int, list[int]] = {0: [], 2: []}
    neighbour: list[int] = []
    for turn in range(24):
        seq = 2 * int(rng.integers(2))
        if kept[seq] and rng.random() < 0.4:
            back = int(rng.choice(kept[seq]))
            memory.remove(seq, back)
            said[seq] = said[seq][:back]
            kept[seq] = [p for p in kept[seq] if p <= back]
        more = random_tokens(model, rng, int(rng.integers(1, 12)))
        beside = random_tokens(model, rng, 1)
        got = decode(context, (seq, len(said[seq]), more), (1, len(neighbour), beside))
        said[seq], neighbour = said[seq] + more, neighbour + beside
        assert np.array_equal(got[:-1], alone(model, said[seq])[-len(more) :]), turn
        assert np.array_equal(got[-1], alone(model, neighbour)[-1]), turn
        if rng.random() < 0.5:
            memory.checkpoint(seq)
            kept[seq].append(len(said[seq]))
            assert memory.rewinds_anywhere or len(said[seq]) in memory.checkpoints(seq)


@pytest.mark.parametrize("name", KINDS)
def test_forks_go_back_to_their_parents_checkpoints(models, name: str) -> None:
    model, rng = models(name), np.random.default_rng(6)
    context = model.context(max_sequences=3, ubatch=5)
    prefix, tail = random_tokens(model, rng, 10), random_tokens(model, rng, 90)
    decode(context, (0, 0, prefix))
    context.memory.checkpoint(0)
    decode(context, (0, 10, tail))
    context.memory.copy(0, 2)
    context.memory.copy(0, 1, 0, 10)  # only as far as the checkpoint
    context.memory.remove(0)
    context.memory.remove(2, 10)
    more = [random_tokens(model, rng, 7) for _ in range(2)]
    got = decode(context, (1, 10, more[0]), (2, 10, more[1]))
    expected = [alone(model, prefix + m)[10:] for m in more]
    assert np.array_equal(got, np.concatenate(expected))


@pytest.mark.parametrize("name", [name for name in KINDS if name not in ATTENTION])
def test_replay_from_the_nearest(models, name: str) -> None:
    """What can't be gone back to is refused, with a place from which it can be said again."""
    model, rng = models(name), np.random.default_rng(7)
    context = model.context(ubatch=16)
    tokens = random_tokens(model, rng, 40)
    decode(context, (0, 0, tokens[:12]))
    context.memory.checkpoint(0)
    decode(context, (0, 12, tokens[12:]))
    with pytest.raises(CannotRewind) as refused:
        context.memory.remove(0, 30)
    assert refused.value.nearest == context.memory.reachable(0, 30) == 12
    assert context.memory.length(0) == 40
    context.memory.remove(0, 12)
    other = tokens[12:30] + random_tokens(model, rng, 5)
    got = decode(context, (0, 12, other))
    assert np.array_equal(got, alone(model, tokens[:12] + other)[12:])


@pytest.mark.parametrize("ubatch", [2, 3, 512])
@pytest.mark.parametrize("name", KINDS)
def test_tokens_taken_back(models, name: str, ubatch: int) -> None:
    """Sequences write several tokens of which a part stays: as if they wrote one by one."""
    model, rng = models(name), np.random.default_rng(ubatch)
    said = [random_tokens(model, rng, n) for n in (70, 1, 9)]
    context = model.context(max_sequences=3, ubatch=ubatch)
    decode(context, *((seq, 0, tokens) for seq, tokens in enumerate(said)))
    for _ in range(8):
        batch, ends = Batch(), {}
        proposed = [random_tokens(model, rng, int(rng.choice([1, 2, 6, 20]))) for _ in said]
        for seq in rng.permutation(3).tolist():
            batch.extend(proposed[seq], len(said[seq]), seq, "all", rewindable=True)
            stays = int(rng.integers(0, len(proposed[seq]) + 1))
            ends[seq] = len(said[seq]) + stays
        rows, entries = context.decode(batch).logits, batch.entries()
        for seq, tokens in enumerate(proposed):
            own = rows[[entries.sets[n] == (seq,) for n in entries.set_of]]
            assert np.array_equal(own, alone(model, said[seq] + tokens)[-len(tokens) :])
            said[seq] += tokens[: ends[seq] - len(said[seq])]
        context.memory.rewind(ends)
    more = [random_tokens(model, rng, 1) for _ in said]
    got = decode(context, *((seq, len(said[seq]), more[seq]) for seq in range(3)))
    assert np.array_equal(got, [alone(model, said[seq] + more[seq])[-1] for seq in range(3)])


@pytest.mark.parametrize(
    "name", ["mamba", "rwkv6", "rwkv7", "jamba", "gemma2", "lfm2", "falcon-h1"]
)
def test_means_of_tokens_taken_back(models, name: str) -> None:
    model, rng = models(name), np.random.default_rng(4)
    context, plain = (model.context(max_sequences=2, pooling="mean", ubatch=3) for _ in range(2))
    said: list[int] = []
    for _ in range(5):
        batch, proposed = Batch(), random_tokens(model, rng, 7)
        batch.extend([1, 2], 2 * (len(said) // 4), 1)
        batch.extend(proposed, len(said), 0, rewindable=True)
        pooled = context.decode(batch).pooled
        whole = Batch()
        whole.extend(said + proposed, 0)
        assert np.array_equal(pooled[0], plain.decode(whole).pooled[0])
        plain.memory.clear()
        said += proposed[:4]
        context.memory.rewind({0: len(said)})


def test_tokens_taken_back_with_self_extend(models) -> None:
    model, rng = models("gemma2"), np.random.default_rng(5)
    setting = SelfExtend(4, 16)
    context, plain = (
        model.context(ubatch=5, self_extend=setting, context_length=200) for _ in range(2)
    )
    said: list[int] = []
    while len(said) < 100:
        proposed = random_tokens(model, rng, 20)
        batch = Batch()
        batch.extend(proposed, len(said), 0, "all", rewindable=True)
        rows = context.decode(batch).logits
        plain.memory.clear()
        assert np.array_equal(rows, decode(plain, (0, 0, said + proposed))[-20:])
        said += proposed[: int(rng.integers(1, 21))]
        context.memory.rewind({0: len(said)})
