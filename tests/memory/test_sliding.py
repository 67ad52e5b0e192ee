"""Sliding layers free what no query can see; going back is exact or says how far it can go.

All without checkpoints.
"""

import pytest

from motet.errors import CannotRewind
from motet.memory.cache import REWIND
from motet.spec import SlidingAttention
from tests.memory.talk import Talk
from tests.toy import WINDOW, Plain, ToyModel


def without_checkpoints(**options) -> Talk:
    return Talk(checkpoint_bytes=0, **options)


def sliding_pages_per_sequence() -> int:
    return -(-(WINDOW - 1 + REWIND) // 64) + 1


@pytest.mark.parametrize("ubatch", [1, 7, 64, 512])
def test_a_long_sequence_keeps_the_window_only(ubatch):
    talk = without_checkpoints(ubatch=ubatch, max_sequences=2)
    talk.say(700)
    assert talk.pages(0) == 11
    assert talk.pages(1) <= sliding_pages_per_sequence()
    for _ in range(70):
        talk.say()
        assert talk.pages(1) <= sliding_pages_per_sequence()


def test_a_long_prompt_needs_no_pages_for_its_whole_length():
    talk = without_checkpoints(ubatch=64, max_sequences=1)
    pages = talk.memory._now.caches[1].pages
    talk.say(1200)
    touched = len(talk.memory._now.caches[1].refs)
    assert touched <= pages < 1200 // 64
    assert touched <= sliding_pages_per_sequence() + 2


def test_a_long_prompt_beside_what_is_already_held():
    """Pages of earlier transactions are free for others only when this one is done."""
    talk = without_checkpoints(ubatch=64, max_sequences=3)
    for seq in (0, 1, 2):
        talk.say(300, seq)
    for seq in (0, 1, 2):
        talk.say(400, seq)


@pytest.mark.parametrize("length", [69, 128, 200, 260, 261, 300, 333])
def test_going_back_as_far_as_promised_is_always_exact(length):
    talk = without_checkpoints()
    talk.say(length)
    talk.remove(0, length - REWIND)
    talk.say(150)


@pytest.mark.parametrize("length", [133, 300, 321])
def test_every_position_is_reached_or_refused_for_one_that_is(length):
    talk = without_checkpoints(max_sequences=2)
    talk.say(length)
    reached = []
    for position in range(length):
        talk.memory.copy(0, 1)
        before = talk.memory._now
        try:
            talk.memory.remove(1, position)
        except CannotRewind as error:
            assert talk.memory._now is before
            assert (error.seq, error.position, error.nearest) == (1, position, 0)
            assert f"position {position}:" in str(error) and "0 is the nearest" in str(error)
        else:
            reached.append(position)
        talk.memory.remove(1)
    first = reached[1]
    assert reached == [0, *range(first, length)]
    assert first <= length - REWIND
    lost = first - WINDOW  # the latest position that the next token at first - 1 would miss
    assert lost % 64 == 63
    talk.remove(0, first)
    talk.say(70)


def test_nearest_beyond_a_gap():
    """What lies a window before the gap's end is out of sight there, so that can be reached."""
    talk = without_checkpoints()
    talk.say(100)
    talk.shift(0, 50, None, 300)  # positions 0 … 49 and 350 … 399
    talk.say(400)
    with pytest.raises(CannotRewind) as error:
        talk.memory.remove(0, 390)
    assert error.value.nearest == 0
    talk.check()
    talk.say(10)


def test_nearest_in_what_a_copy_kept():
    """The fork still holds pages that the other one has given up."""
    talk = without_checkpoints(max_sequences=2)
    talk.say(100)
    talk.copy(0, 1)
    talk.say(300)
    with pytest.raises(CannotRewind):
        talk.memory.remove(0, 90)
    talk.remove(1, 90)
    talk.say(100, 1)


def test_a_fork_at_an_earlier_position_is_exact_or_refused():
    talk = without_checkpoints(max_sequences=3)
    talk.say(300)
    talk.copy(0, 1, 0, 260)
    talk.say(50, 1)
    with pytest.raises(CannotRewind) as error:
        talk.memory.copy(0, 2, 0, 100)
    assert error.value.nearest == 0
    talk.check()


def test_tokens_of_another_sequence_s_distant_past_are_refused_in_the_window():
    talk = without_checkpoints(max_sequences=2)
    talk.say(500)
    talk.plain.held[1] = {}
    with pytest.raises(CannotRewind, match="which a layer no longer holds"):
        talk.memory.copy(0, 1, 20, 30)
    talk.check()
    assert talk.memory.length(1) == 0


def test_a_shift_that_brings_lost_tokens_into_the_window_is_refused():
    talk = without_checkpoints()
    talk.say(300)
    talk.remove(0, 4, 298)
    with pytest.raises(CannotRewind, match="position 7 of sequence 0 would see position 3"):
        talk.memory.shift(0, 298, None, -293)
    talk.check()
    talk.shift(0, 298, None, -292)
    talk.say(10)


def test_only_sliding_layers():
    talk = without_checkpoints(max_sequences=2)
    talk.model = ToyModel(layers=(SlidingAttention(1, 4, 4, 5), SlidingAttention(2, 4, 4, 90)))
    talk.context = talk.model.context(max_sequences=2, ubatch=70, checkpoint_bytes=0)
    talk.memory, talk.plain = talk.context.memory, Plain(talk.model)
    talk.say(400)
    talk.copy(0, 1)
    talk.say(100, 1)
    talk.remove(0, 380)
    talk.say(50)
    with pytest.raises(CannotRewind):
        talk.memory.remove(0, 200)
    assert talk.memory.tokens(0).tolist()[:3] == [0, 1, 4]
