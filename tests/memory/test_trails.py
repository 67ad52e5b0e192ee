"""Tokens that may be taken back: exact on every kind of memory, and nothing is left of them."""

import io
from typing import Any

import numpy as np
import pytest

from motet.batch import Batch
from motet.errors import BatchError, CannotRewind, CapacityError, OptionError
from motet.memory.cache import REWIND
from motet.memory.trails import Cuts
from motet.spec import SlidingAttention
from tests.memory.talk import Talk
from tests.toy import ALL_KINDS, HYBRID, LAYERS, RECURRENT, WINDOW, recurrent_states

SLIDING = (SlidingAttention(1, 4, 4, WINDOW), SlidingAttention(1, 4, 4, 70))
KINDS = pytest.mark.parametrize(
    "layers",
    [RECURRENT, HYBRID, ALL_KINDS, LAYERS, SLIDING],
    ids=["recurrent", "hybrid", "all", "gemma", "sliding"],
)


def propose(talk: Talk, **proposals: int) -> None:
    """``s0=3``: three tokens of sequence 0 that may be taken back; all in one batch."""
    batch, expected = Batch(), []
    for name, count in proposals.items():
        seq = int(name[1:])
        start, tokens = talk.plain.end(seq), talk.tokens(count)
        batch.extend(tokens, start, seq, "all", rewindable=True)
        expected += [talk.plain.decode(t, start + i, (seq,)) for i, t in enumerate(tokens)]
    assert np.array_equal(talk.context.decode(batch).logits, expected)
    talk.check()


def rewind(talk: Talk, ends: dict[int, int]) -> None:
    talk.memory.rewind(ends)
    for seq, end in ends.items():
        held = talk.plain.held.get(seq, {})
        talk.plain.held[seq] = {p: s for p, s in held.items() if p < end}
    talk.check()


def trails(talk: Talk) -> int:
    """How many sequences have one."""
    return sum(len(slots.trails) for _, _, slots in recurrent_states(talk.context))


@KINDS
@pytest.mark.parametrize("ubatch", [1, 3, 512])
@pytest.mark.parametrize("split", ["simple", "equal", "sequence"])
def test_back_to_anywhere_and_on(layers, ubatch, split):
    talk = Talk(layers=layers, max_sequences=3, ubatch=ubatch, split=split)
    talk.say(70)
    talk.say(5, 1)
    for back in range(8):
        propose(talk, s0=7, s1=3, s2=1 + back)
        ends = {seq: talk.plain.end(seq) for seq in range(3)}
        rewind(talk, {0: ends[0] - back, 1: ends[1] - back % 4, 2: ends[2] - back // 2})
        assert trails(talk) == 0
        talk.together((1, (0,)), (2, (1,)), (1, (2,)))


@KINDS
def test_as_many_as_are_kept_and_no_more(layers):
    talk = Talk(layers=layers, max_sequences=2)
    talk.say(100)
    for back in (REWIND, 1, REWIND, 30):
        propose(talk, s0=REWIND, s1=REWIND)
        ends = [talk.plain.end(seq) - back for seq in range(2)]
        talk.remove(0, ends[0])
        rewind(talk, {1: ends[1]})
        propose(talk, s1=REWIND, s0=REWIND)  # two trails of each at once
    end, before = talk.plain.end(0), talk.memory.ends.copy()
    batch = Batch()
    batch.extend([1] * 60, end, 0, rewindable=True)
    batch.extend([1] * 5, end + 60, 0, rewindable=True)
    with pytest.raises(BatchError, match="65 rewindable tokens of sequence 0") as error:
        talk.context.decode(batch)
    assert error.value.entry == 64
    assert np.array_equal(talk.memory.ends, before)


@KINDS
def test_all_of_a_sequence(layers):
    talk = Talk(layers=layers)
    propose(talk, s0=4)
    rewind(talk, {0: 0})
    propose(talk, s0=4)
    talk.memory.remove(0)
    talk.plain.held = {}
    propose(talk, s0=5)
    talk.remove(0, 2)
    talk.say(3)


@KINDS
def test_a_fork_from_among_them(layers):
    talk = Talk(layers=layers, max_sequences=3)
    talk.say(20)
    propose(talk, s0=6)
    talk.copy(0, 1, 0, 23)
    talk.copy(0, 2)
    assert trails(talk) <= 1  # it stays with whose tokens they are
    talk.say(3, 1)
    talk.say(3, 2)
    rewind(talk, {0: 21})
    talk.say(3)


@KINDS
def test_going_on_ends_it(layers):
    talk = Talk(layers=layers, max_sequences=2, checkpoint_bytes=0)
    talk.say(20)
    propose(talk, s0=6, s1=3)
    talk.say(1)
    assert trails(talk) <= 1
    recurrent = any(map(len, (s.trails for *_, s in recurrent_states(talk.context))))
    if recurrent:
        with pytest.raises(CannotRewind):
            talk.memory.remove(0, 23)
        with pytest.raises(CannotRewind):
            talk.memory.rewind({1: 2, 0: 23})
        talk.check()
    talk.remove(1, 1)
    assert trails(talk) == 0


def test_settled_where_it_ends():
    talk = Talk(layers=HYBRID, max_sequences=2, checkpoint_bytes=0)
    talk.say(20)
    one = talk.memory.used_bytes
    propose(talk, s0=6)
    (_, cache, _), *_ = recurrent_states(talk.context)
    assert talk.memory.used_bytes == one + 6 * cache.slot_bytes
    assert talk.memory.own_bytes(0) == talk.memory.used_bytes
    rewind(talk, {0: 26})
    assert talk.memory.used_bytes == one
    with pytest.raises(CannotRewind):
        talk.memory.remove(0, 22)


def test_tokens_that_others_follow_at_once():
    """In one batch: what stays behind plain tokens is plain, too."""
    talk = Talk(layers=ALL_KINDS, max_sequences=2, checkpoint_bytes=0)
    batch, expected, at = Batch(), [], 0
    for count, rewindable in ((3, False), (4, True), (2, False), (5, True)):
        tokens = talk.tokens(count)
        batch.extend(tokens, at, 0, "all", rewindable=rewindable)
        expected += [talk.plain.decode(t, at + i, (0,)) for i, t in enumerate(tokens)]
        at += count
    assert np.array_equal(talk.context.decode(batch).logits, expected)
    talk.check()
    with pytest.raises(CannotRewind) as error:
        talk.memory.remove(0, 8)
    assert error.value.nearest == 0
    rewind(talk, {0: 9})
    talk.say(4)


def test_a_shift_ends_it():
    talk = Talk(layers=RECURRENT, checkpoint_bytes=0)
    propose(talk, s0=6)
    talk.shift(0, 0, None, 10)
    assert trails(talk) == 0
    talk.say(2)


def test_no_checkpoint_among_them():
    talk = Talk(layers=HYBRID, checkpoint_bytes=1 << 20)
    talk.say(500)
    assert talk.memory.checkpoints(0) == [500]
    for _ in range(6):
        propose(talk, s0=60)
    assert talk.memory.checkpoints(0) == [500]
    for _ in range(4):
        propose(talk, s0=60)
    assert talk.memory.checkpoints(0) == [500, 500 + 9 * 60]
    talk.memory.checkpoint(0)
    rewind(talk, {0: 1090})
    assert talk.memory.checkpoints(0) == [500, 500 + 9 * 60]


@KINDS
def test_saved_without(layers):
    talk = Talk(layers=layers, max_sequences=2, checkpoint_bytes=0)
    talk.say(20)
    propose(talk, s0=6)
    file = io.BytesIO()
    talk.context.save(file)
    before, length = trails(talk), len(file.getvalue())
    talk.context.restore(io.BytesIO(file.getvalue()), {0: 1})
    assert trails(talk) == before
    talk.plain.held[1] = dict(talk.plain.held[0])
    talk.say(2, 1)
    rewind(talk, {0: 22})
    talk.say(2)
    rewind(talk, {0: 24})
    assert length < 1 << 16


def test_what_does_not_fit_is_refused_before_it_is_computed():
    talk = Talk(layers=RECURRENT, checkpoint_bytes=0)
    (_, cache, _), *_ = recurrent_states(talk.context)
    small = Talk(layers=RECURRENT, checkpoint_bytes=0, kv_bytes=5 * cache.slot_bytes)
    small.say(10)
    batch = Batch()
    batch.extend([1] * 5, 10, 0, rewindable=True)
    with pytest.raises(CapacityError):
        small.context.decode(batch)
    small.check()
    propose(small, s0=4)
    rewind(small, {0: 12})
    small.say(3)


def test_what_is_refused():
    batch = Batch()
    wrong: Any = 1
    with pytest.raises(BatchError, match="rewindable, and of 2 sequences"):
        batch.extend([1, 2], 0, (0, 1), rewindable=True)
    with pytest.raises(BatchError, match="rewindable is 1"):
        batch.extend([1, 2], 0, 0, rewindable=wrong)
    assert len(batch) == 0
    memory = Talk().memory
    for wrong in ([0], {0: -1}, {0: "1"}, {1: 0}):
        with pytest.raises(OptionError):
            memory.rewind(wrong)


def test_cuts():
    cuts = Cuts.of(
        np.array([0, 1, 0, 0, 1, 2, 0]),
        np.array([False, True, True, False, True, False, True]),
    )
    assert cuts.order.tolist() == [0, 2, 3, 6, 1, 4, 5]
    assert cuts.starts.tolist() == [0, 3, 4, 5, 6, 7]
    assert cuts.sets.tolist() == [0, 0, 1, 1, 2]
    assert cuts.single.tolist() == [False, True, True, True, False]
