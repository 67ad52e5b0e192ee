"""The solo law when sequences go back: to where they like, or to checkpoints, among neighbours."""

import numpy as np
import pytest

from motet.errors import CannotRewind
from tests.solo.test_forks import KINDS, decode, models
from tests.solo.voices import alone, random_tokens

__all__ = ["models"]  # the fixture


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


@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("gemma2", "gemma3")])
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
