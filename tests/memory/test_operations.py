"""remove, copy, keep, clear, shift: against a dictionary of positions, and where they refuse."""

import numpy as np
import pytest

from motet.errors import CapacityError, OptionError
from tests.memory.talk import Talk


def test_an_empty_memory():
    talk = Talk(max_sequences=2)
    assert talk.memory.length(1) == 0 and talk.memory.positions(1) is None
    assert talk.memory.tokens(1).tolist() == []
    talk.remove(1)
    talk.remove(1, 5, 9)
    talk.copy(0, 1)
    talk.shift(0, 0, None, 4)
    talk.memory.keep(0)
    talk.memory.clear()
    talk.check()


@pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 200])
@pytest.mark.parametrize("back", [1, 2, 63, 64])
def test_taking_tokens_back_and_saying_others(count, back):
    talk = Talk()
    talk.say(count)
    talk.remove(0, max(count - back, 0))
    talk.say(back + 70)


@pytest.mark.parametrize(
    ("start", "end"), [(0, 1), (3, 10), (60, 70), (0, 64), (64, 128), (1, 149)]
)
def test_removing_from_the_middle_leaves_a_gap(start, end):
    talk = Talk()
    talk.say(150)
    talk.remove(0, start, end)
    assert talk.memory.length(0) == 150 - (end - start)
    talk.say(80)


def test_gaps_free_whole_pages_only():
    talk = Talk()
    talk.say(256)
    assert talk.pages() == 4
    talk.remove(0, 10, 129)
    assert talk.pages() == 3
    talk.remove(0, 129, 192)
    assert talk.pages() == 2
    talk.remove(0)
    assert talk.pages() == 0


def test_removing_everything_lets_a_sequence_begin_elsewhere():
    talk = Talk()
    talk.say(10)
    talk.remove(0)
    assert talk.memory.positions(0) is None
    talk.plain.held[0] = {}
    talk.say(5)


def test_keep_and_clear():
    talk = Talk(max_sequences=4)
    talk.say(100)
    talk.copy(0, 1)
    talk.say(30, 1)
    talk.say(70, 2)
    talk.memory.keep(1)
    talk.plain.held = {1: talk.plain.held[1]}
    talk.check()
    talk.say(10, 1)
    talk.memory.clear()
    talk.plain.held = {}
    talk.check()
    assert talk.pages() == 0 and talk.pages(1) == 0
    talk.say(10, 3)


@pytest.mark.parametrize("delta", [1, 5, 63, 64, 65, 128, 700])
def test_shifting_everything_up_and_down_again(delta):
    talk = Talk()
    talk.say(100)
    talk.shift(0, 0, None, delta)
    talk.say(70)
    talk.shift(0, 0, None, -delta)
    talk.say(70)


@pytest.mark.parametrize("cut", [1, 30, 64, 100, 128])
def test_closing_the_gap_of_a_context_shift(cut):
    talk = Talk()
    talk.say(250)
    talk.remove(0, 4, 4 + cut)
    talk.shift(0, 4 + cut, None, -cut)
    assert talk.memory.positions(0) == (0, 249 - cut)
    talk.say(100)


def test_shifting_part_of_a_sequence_past_another():
    talk = Talk()
    talk.say(100)
    talk.shift(0, 80, 90, 300)
    talk.shift(0, 0, 10, 80)
    assert talk.memory.positions(0) == (10, 389)
    talk.say(10)


def test_shifting_a_fork_leaves_the_other_alone():
    talk = Talk(max_sequences=2)
    talk.say(100)
    talk.copy(0, 1)
    talk.shift(1, 0, None, 7)
    talk.say(70, 0)
    talk.say(70, 1)


def test_shifts_that_would_lose_something_are_refused():
    talk = Talk(context_length=300, max_sequences=2)
    talk.say(100)
    talk.remove(0, 20, 30)
    for start, end, delta, error, match in (
        (0, None, -1, OptionError, "position 0 at -1"),
        (30, None, -31, OptionError, "position 30 at -1"),
        (30, None, -11, OptionError, "position 30 onto position 19"),
        (0, 20, 11, OptionError, "position 19 onto position 30"),
        (0, 10, 5, OptionError, "onto position 10"),
        (0, None, 201, CapacityError, "position 99 at 300, and the model's context is 300"),
        (0, None, 1 << 70, CapacityError, "context is 300"),
        (0, None, -(1 << 70), OptionError, "would put position 0 at"),
        (0, None, 1.5, OptionError, "delta is 1.5"),
    ):
        with pytest.raises(error, match=match):
            talk.memory.shift(0, start, end, delta)  # type: ignore[arg-type]
        talk.check()
    talk.shift(0, 30, None, -10)
    talk.shift(0, 0, None, 210)
    talk.say(1, 1)


def test_copying_parts():
    talk = Talk(max_sequences=4)
    talk.say(100)
    talk.copy(0, 1, 0, 70)
    talk.say(70, 1)
    talk.copy(0, 2, 30)
    talk.say(5, 2)
    talk.copy(0, 3, 70, 90)
    talk.copy(1, 3, 0, 70)  # into a page of which both hold a part
    talk.say(40, 3)
    talk.say(40, 0)


def test_copying_back_what_a_fork_removed():
    talk = Talk(max_sequences=2)
    talk.say(100)
    talk.copy(0, 1)
    talk.remove(1, 70)
    talk.copy(0, 1, 70)
    assert talk.pages() == 2  # the same pages again
    talk.say(10, 1)


def test_a_target_that_holds_the_positions_is_refused():
    talk = Talk(max_sequences=2)
    talk.say(100)
    talk.say(10, 1)
    with pytest.raises(OptionError, match="sequence 1 already holds position 0"):
        talk.memory.copy(0, 1)
    with pytest.raises(OptionError, match="already holds position 9"):
        talk.memory.copy(0, 1, 9, 20)
    talk.check()
    talk.copy(0, 1, 10)
    talk.copy(0, 0)
    talk.say(10, 1)


@pytest.mark.parametrize("seq", [-1, 2, 1.0, "0", None])
def test_sequences_that_are_not_there(seq):
    memory = Talk(max_sequences=2).memory
    for action in (
        lambda: memory.length(seq),
        lambda: memory.positions(seq),
        lambda: memory.tokens(seq),
        lambda: memory.remove(seq),
        lambda: memory.copy(seq, 0),
        lambda: memory.copy(0, seq),
        lambda: memory.keep(seq),
        lambda: memory.shift(seq, 0, None, 1),
    ):
        with pytest.raises(OptionError, match="seq"):
            action()


@pytest.mark.parametrize(("start", "end"), [(-1, None), (5, 4), (0, -1), (0.5, None), (0, "9")])
def test_ranges_that_are_none(start, end):
    talk = Talk(max_sequences=2)
    talk.say(10)
    for action in (
        lambda: talk.memory.remove(0, start, end),
        lambda: talk.memory.copy(0, 1, start, end),
        lambda: talk.memory.shift(0, start, end, 1),
    ):
        with pytest.raises(OptionError, match=r"start|end"):
            action()
    talk.check()


def test_numpy_numbers_and_ends_far_away_are_taken():
    talk = Talk(max_sequences=2)
    talk.say(10)
    talk.remove(np.int64(0), np.int32(8), 1 << 62)  # type: ignore[arg-type]
    talk.copy(0, 1, 0, 1 << 70)
    talk.remove(0, 1 << 80)
    talk.say(5, 1)
