"""Which sequence a prompt gets, and what becomes of the others."""

import pytest

from motet.engine.sequences import CUT_LIMIT, Sequences
from motet.errors import CannotRewind, CapacityError, MotetError
from tests.scripted import ScriptedMemory


class Held(ScriptedMemory):
    """Memory with tokens put there, that refuses to go where it says it can."""

    refuses: type[MotetError] | None = None

    def put(self, seq: int, tokens: bytes) -> None:
        self.held[seq] = [(token, 1000 * seq + i) for i, token in enumerate(tokens)]

    def copy(self, source: int, target: int, start: int = 0, end: int | None = None) -> None:
        assert end is not None
        if self.refuses is CannotRewind and end != 3:
            raise CannotRewind("no", seq=source, position=end, nearest=3)
        if self.refuses is CapacityError:
            raise CapacityError("no page is free")
        super().copy(source, target, start, end)


@pytest.mark.parametrize(("refuses", "reused"), [(None, 6), (CannotRewind, 3), (CapacityError, 0)])
def test_a_fork_that_memory_refuses_goes_on_from_the_nearest(refuses, reused):
    memory = Held(3, recurrent=False)
    memory.refuses = refuses
    memory.put(2, b"abcdef" + CUT_LIMIT * b"-" + b"-")
    sequences = Sequences(memory, 3)  # type: ignore[arg-type]
    acquired = sequences.acquire([*b"abcdefX"], 1, reuse=True)
    assert (acquired.sequences, acquired.reused, acquired.common) == ([0], reused, 6)
    assert memory.length(0) == reused
    assert memory.length(2) == 7 + CUT_LIMIT


def test_an_idle_sequence_that_goes_little_further_is_taken_over():
    memory = Held(3, recurrent=False)
    memory.put(2, CUT_LIMIT * b"a" + CUT_LIMIT * b"-")
    sequences = Sequences(memory, 3)  # type: ignore[arg-type]
    acquired = sequences.acquire([*CUT_LIMIT * b"a", 1], 2, reuse=True)
    assert (acquired.sequences, acquired.reused) == ([2, 0], CUT_LIMIT)
    assert [memory.length(seq) for seq in range(3)] == [0, 0, CUT_LIMIT]
    assert len(sequences) == 1
    sequences.release(2, keep=True)
    sequences.release(0, keep=True)
    assert sequences.idle == [2]
    sequences.release(sequences.acquire([5, 6], 1, reuse=True).sequences[0], keep=False)
    assert sequences.idle == [2]


def test_an_idle_sequence_that_shares_nothing_usable_is_left_alone():
    memory = Held(2, recurrent=True)
    memory.put(1, b"abc")
    sequences = Sequences(memory, 2)  # type: ignore[arg-type]
    acquired = sequences.acquire([*b"abX"], 1, reuse=True)
    assert (acquired.sequences, acquired.reused, acquired.common) == ([0], 0, 2)
    assert memory.length(1) == 3


def test_of_equal_matches_the_one_that_loses_least_is_taken():
    memory = Held(4, recurrent=False)
    memory.put(1, b"a" * 40 + b"b" * 30)
    memory.put(2, b"a" * 40)
    memory.put(3, b"a" * 40 + b"c" * 20)
    sequences = Sequences(memory, 4)  # type: ignore[arg-type]
    assert sequences.acquire([*b"a" * 41], 1, reuse=True).sequences == [2]
    acquired = sequences.acquire([*b"a" * 40, 5], 1, reuse=True)  # idle ones before those in use
    assert (acquired.sequences, acquired.reused) == ([0], 40)
    assert [memory.length(seq) for seq in range(4)] == [40, 70, 40, 60]


def test_room_for_what_was_saved():
    memory = Held(3, recurrent=False)
    memory.put(0, b"abc")
    memory.put(1, b"def")
    sequences = Sequences(memory, 3)  # type: ignore[arg-type]
    sequences.acquire([*b"abcX"], 1, reuse=True)
    with pytest.raises(CapacityError, match="3 conversations were saved, and 2"):
        sequences.least_recent(3)
    assert sequences.least_recent(2) == [1, 2]
    assert memory.length(1) == 3
    memory.put(2, b"ghi")
    sequences.used([1])
    assert sequences.idle == [2, 1]
    sequences.forget()
    assert sequences.idle == []


def test_those_being_saved_are_left_as_they_are():
    memory = Held(4, recurrent=False)
    for seq in (0, 1, 2):
        memory.put(seq, b"abc" + bytes([seq]) * 3)
    sequences = Sequences(memory, 4)  # type: ignore[arg-type]
    memory.being_exported = {0, 1, 2}
    assert len(sequences) == 1 and sequences.idle == [0, 1, 2]
    acquired = sequences.acquire([*b"abc\0\0\0x"], 1, reuse=True)
    assert (acquired.sequences, acquired.reused) == ([3], 6)
    with pytest.raises(CapacityError, match="1 conversations were saved, and 0"):
        sequences.least_recent(1)
    sequences.forget()
    assert sequences.idle == [] and [memory.length(seq) for seq in range(4)] == [6, 6, 6, 6]
    memory.being_exported = {2}
    assert len(sequences) == 2 and [memory.length(seq) for seq in range(4)] == [0, 0, 6, 6]
    memory.being_exported = set()
    assert len(sequences) == 3 and [memory.length(seq) for seq in range(4)] == [0, 0, 0, 6]


def test_one_that_was_forgotten_while_it_was_saved_is_no_prefix_any_more():
    memory = Held(2, recurrent=False)
    memory.put(0, b"abcdef")
    sequences = Sequences(memory, 2)  # type: ignore[arg-type]
    memory.being_exported = {0}
    sequences.forget()
    memory.being_exported = set()
    acquired = sequences.acquire([*b"abcdefg"], 1, reuse=True)
    assert (acquired.reused, memory.length(acquired.sequences[0])) == (0, 0)
