"""Forks, tokens of several sequences, and a memory that is full."""

import pytest

from motet.batch import Batch
from motet.errors import BatchError, CapacityError
from tests.memory.talk import Talk


@pytest.mark.parametrize("length", [1, 63, 64, 65, 100, 128])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_fork_then_part_in_either_order(length, order):
    talk = Talk(max_sequences=2)
    talk.say(length)
    talk.copy(0, 1)
    assert talk.pages() == -(-length // 64)
    for seq in order:
        talk.say(70, seq)
    for seq in reversed(order):
        talk.say(3, seq)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("length", [64, 100, 126])
def test_fork_then_part_where_memory_has_room_for_exactly_that(length, order):
    talk = Talk(max_sequences=2, max_tokens=length + 2)
    talk.say(length)
    talk.copy(0, 1)
    for seq in order:
        talk.say(1, seq)
    for seq in order:
        with pytest.raises(CapacityError, match=f"1 tokens, and 0 of {length + 2}"):
            talk.context.decode(_next(talk, seq))
    talk.remove(1)
    talk.say(1, 0)


def _next(talk: Talk, *seqs: int) -> Batch:
    batch = Batch()
    batch.add(1, talk.plain.end(seqs[0]), seqs)
    return batch


def test_parting_in_one_batch_copies_a_page_once():
    talk = Talk(max_sequences=2)
    talk.say(100)
    talk.copy(0, 1)
    batch = Batch()
    for seq in (0, 1):
        batch.add(seq, 100, seq, logits=True)
    out = talk.context.decode(batch)
    for seq in (0, 1):
        assert (out[seq] == talk.plain.decode(seq, 100, [seq])).all()
    talk.check()
    assert talk.pages() == 3


def test_a_full_memory_of_many_forks():
    forks = 16
    talk = Talk(max_sequences=forks, max_tokens=130 + forks * 5)
    talk.say(130)
    for seq in range(1, forks):
        talk.copy(0, seq)
    for _ in range(5):
        for seq in range(forks):
            talk.say(1, seq)
    with pytest.raises(CapacityError, match="1 tokens, and 0 of 210"):
        talk.context.decode(_next(talk, 3))
    for seq in range(forks):
        talk.remove(seq)
    talk.say(210, 7)
    assert talk.pages() == 4


@pytest.mark.parametrize("rewound", [5, 40])
def test_a_fork_that_went_back_does_not_write_over_the_other(rewound):
    talk = Talk(max_sequences=3)
    talk.say(60)
    talk.copy(0, 1)
    talk.remove(1, 60 - rewound)
    talk.say(1, 1)
    talk.say(1, 0)
    talk.say(rewound + 10, 1)


def test_a_failed_batch_does_not_write_over_what_another_sequence_holds():
    """Sequence 0 leaves the page first; a slot that it holds there is then 1's next one."""
    talk = Talk(max_sequences=2, ubatch=1)
    talk.say(60)
    talk.copy(0, 1)
    talk.remove(1, 30)
    batch = Batch()
    batch.add(1, 60, 0)
    batch.extend([2] * 40, 30, 1)
    calls = []

    def fail(index: int) -> None:
        calls.append(index)
        if len(calls) == 3 * 30:
            raise KeyboardInterrupt

    talk.model.family.on_layer = fail
    with pytest.raises(KeyboardInterrupt):
        talk.context.decode(batch)
    talk.model.family.on_layer = lambda index: None
    talk.check()
    talk.say(5, 0)
    talk.say(5, 1)


def test_shared_tokens_are_kept_once():
    talk = Talk(max_sequences=4, max_tokens=200)
    talk.say(100, 0, 1, 2, 3)
    assert talk.pages() == 2
    for seq in range(4):
        talk.say(25, seq)
    with pytest.raises(CapacityError):
        talk.context.decode(_next(talk, 0))


def test_a_fork_may_go_on_together_and_part_later():
    talk = Talk(max_sequences=3)
    talk.say(40)
    talk.copy(0, 1)
    talk.say(40, 0, 1)
    talk.copy(1, 2)
    talk.say(40, 0, 1, 2)
    talk.say(1, 2)
    talk.say(1, 0, 1)


def test_equal_tokens_at_equal_positions_agree():
    """They were computed twice; the solo law says that the bits are the same."""
    talk = Talk(max_sequences=3)
    tokens = talk.tokens(100)
    talk.say(0, 0, tokens=tokens)
    talk.say(0, 2, tokens=tokens)
    talk.say(0, 1, tokens=tokens[:50])
    talk.say(0, 1, tokens=tokens[50:])
    assert talk.pages() == 6
    talk.say(10, 1, 0, 2)
    assert talk.pages() == 2
    talk.say(30, 2)
    talk.say(30, 0, 1)


def test_sequences_meet_and_part_and_meet_in_one_batch():
    talk = Talk(max_sequences=2, ubatch=4)
    batch, expected = Batch(), []
    for position in range(150):
        token = position % 11
        alone = position % 10 < 5
        for members in [(0,), (1,)] if alone else [(0, 1)]:
            batch.add(token, position, members, logits=True)
            expected.append(talk.plain.decode(token, position, members))
    assert (talk.context.decode(batch).logits == expected).all()
    talk.check()
    assert talk.pages() == 3


@pytest.mark.parametrize(
    "part",
    [
        lambda talk: talk.say(1, 1, tokens=[1]),  # another token
        lambda talk: talk.remove(1, 9),  # shorter
        lambda talk: talk.remove(1, 4, 5),  # a gap
        lambda talk: talk.remove(1),  # empty
    ],
)
def test_different_pasts_are_refused_by_entry(part):
    talk = Talk(max_sequences=3)
    talk.say(0, 0, tokens=[2] * 10)
    talk.say(0, 1, tokens=[2] * 10)
    part(talk)
    if talk.plain.end(1) == 11:
        talk.say(0, 0, tokens=[3])
    batch = Batch()
    batch.extend([1, 2], 0, 2)
    batch.extend([4, 5], talk.plain.end(0), (0, 1))
    before = talk.memory._now
    with pytest.raises(BatchError) as error:
        talk.context.decode(batch)
    assert error.value.entry == 2
    assert talk.memory._now is before
    talk.check()


def test_an_edited_past_agrees_with_its_own_copy_only():
    talk = Talk(max_sequences=3)
    tokens = talk.tokens(20)
    talk.say(0, 0, tokens=tokens)
    talk.remove(0, 3, 6)
    talk.shift(0, 6, None, -3)
    talk.say(0, 1, tokens=tokens[:3] + tokens[6:])
    assert talk.memory.tokens(0).tolist() == talk.memory.tokens(1).tolist()
    with pytest.raises(BatchError, match=r"entry 0 .*pasts differ"):
        talk.context.decode(_next(talk, 0, 1))
    talk.copy(0, 2)
    talk.say(1, 2)
    talk.remove(2, 17)  # in a page of its own now, with the same tokens
    talk.say(10, 0, 2)


@pytest.mark.parametrize(
    "edit",
    [
        lambda talk: talk.remove(0, 0, 5),
        lambda talk: (talk.remove(0, 15), talk.shift(0, 0, None, 5)),
        lambda talk: (talk.copy(0, 2, 5), talk.remove(0), talk.copy(2, 0)),
        lambda talk: (talk.remove(0, 0, 5), talk.copy(0, 2), talk.remove(0), talk.copy(2, 0)),
    ],
)
def test_tokens_computed_with_another_past_do_not_agree(edit):
    """Positions 5 … 19 with the tokens of a sequence that began there, but not its bits."""
    talk = Talk(max_sequences=3)
    talk.say(20)
    edit(talk)
    batch = Batch()
    batch.extend(talk.memory.tokens(0), 5, 1)
    talk.context.decode(batch)
    assert talk.memory.positions(0) == talk.memory.positions(1) == (5, 19)
    batch = Batch()
    batch.add(1, 20, (0, 1))
    with pytest.raises(BatchError, match="pasts differ"):
        talk.context.decode(batch)


def test_a_copy_on_top_of_other_tokens_does_not_agree():
    talk = Talk(max_sequences=3)
    tokens = talk.tokens(20)
    talk.say(0, 0, tokens=tokens)
    talk.say(0, 1, tokens=[1, 1, 1, 1, 1])
    talk.copy(0, 1, 5)
    talk.say(0, 2, tokens=[1, 1, 1, 1, 1, *tokens[5:]])
    with pytest.raises(BatchError, match="pasts differ"):
        talk.context.decode(_next(talk, 1, 2))


def test_going_back_before_the_edit_makes_a_past_whole_again():
    talk = Talk(max_sequences=2)
    tokens = talk.tokens(20)
    talk.say(0, 0, tokens=tokens)
    talk.remove(0, 10, 12)
    talk.remove(0, 10)
    talk.say(0, 0, tokens=tokens[:10])
    talk.say(0, 1, tokens=tokens[:10] * 2)
    talk.say(5, 0, 1)


def test_starting_together_anywhere():
    talk = Talk(max_sequences=2)
    batch = Batch()
    batch.extend([1, 2, 3], 40, (0, 1))
    talk.context.decode(batch)
    assert talk.memory.positions(1) == (40, 42)


def test_a_memory_of_fragments_may_lack_pages_before_tokens():
    """A page with one token is in use; the error says so and nothing changes."""
    talk = Talk(max_sequences=1, max_tokens=256)
    for _ in range(6):
        talk.say(64)
        talk.remove(0, talk.plain.end(0) - 63)
        talk.shift(0, talk.plain.end(0) - 1, None, 63)
    assert talk.memory.length(0) == 6
    with pytest.raises(CapacityError, match="1 of 7 are free"):
        talk.context.decode(_prompt(talk, 64 + 63))
    talk.check()
    talk.say(64)


def _prompt(talk: Talk, count: int) -> Batch:
    batch = Batch()
    batch.extend([1] * count, talk.plain.end(0))
    return batch
