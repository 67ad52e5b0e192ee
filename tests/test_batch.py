import numpy as np
import pytest

from motet.batch import Batch
from motet.errors import BatchError


def ends(*positions: int) -> np.ndarray:
    return np.array(positions, np.int64)


def test_entries_are_kept_in_the_order_they_were_added():
    batch = Batch()
    batch.add(5, 0, seqs=1, logits=True)
    batch.extend([6, 7, 8], 3, seqs=(2, 0))
    batch.add(np.int64(9), np.int32(1), seqs=np.int64(1))  # type: ignore[arg-type]
    batch.extend(np.array([1, 2]), 6, seqs=(0, 2), logits="all")
    batch.extend([3], 0, seqs=3, logits="none")
    e = batch.entries()
    assert len(batch) == len(e) == 8
    assert e.tokens.tolist() == [5, 6, 7, 8, 9, 1, 2, 3]
    assert e.positions.tolist() == [0, 3, 4, 5, 1, 6, 7, 0]
    sets = [e.sets[i] for i in e.set_of]
    assert sets == [(1,), (0, 2), (0, 2), (0, 2), (1,), (0, 2), (0, 2), (3,)]
    assert e.wanted.tolist() == [True, False, False, True, False, True, True, False]
    assert e.tokens.dtype == e.positions.dtype == np.int32


def test_extending_by_nothing_adds_nothing():
    batch = Batch()
    batch.extend([], 4, seqs=7)
    assert len(batch) == 0
    batch.add(1, 0)
    assert batch.entries().sets == ((0,),)


@pytest.mark.parametrize(
    ("token", "position", "seqs"),
    [
        (-1, 0, 0),
        (1 << 31, 0, 0),
        (1.5, 0, 0),
        ("a", 0, 0),
        (None, 0, 0),
        (1, -1, 0),
        (1, 1 << 31, 0),
        (1, 0.0, 0),
        (1, 0, -1),
        (1, 0, ()),
        (1, 0, (0, 0)),
        (1, 0, (0, -2)),
        (1, 0, ("0",)),
    ],
)
def test_impossible_entries_are_refused_and_change_nothing(token, position, seqs):
    batch = Batch()
    batch.add(1, 0)
    for add in (
        lambda: batch.add(token, position, seqs),
        lambda: batch.extend([token], position, seqs),
    ):
        with pytest.raises(BatchError) as error:
            add()
        assert error.value.entry == 1 and "entry 1" in str(error.value)
    assert len(batch) == 1


def test_extend_names_the_token_that_is_wrong():
    batch = Batch()
    batch.extend([1, 2], 0)
    with pytest.raises(BatchError) as error:
        batch.extend([3, 4, -5, 6], 2)
    assert error.value.entry == 4
    with pytest.raises(BatchError) as error:
        batch.extend(np.array([[1, 2], [3, 4]]), 2)
    assert error.value.entry == 2
    with pytest.raises(BatchError) as error:
        batch.extend([1, 2, 3], (1 << 31) - 2)
    assert error.value.entry == 4
    with pytest.raises(BatchError, match="none"):
        batch.extend([1], 2, logits="some")
    assert len(batch) == 2


def test_an_empty_batch_is_refused():
    with pytest.raises(BatchError, match="empty"):
        Batch().entries().check(10, ends(0))


def test_tokens_outside_the_vocabulary_are_refused():
    batch = Batch()
    batch.extend([1, 9, 10, 11], 0)
    batch.entries().check(12, ends(0))
    with pytest.raises(BatchError, match="vocabulary has 10") as error:
        batch.entries().check(10, ends(0))
    assert error.value.entry == 2


def test_sequences_outside_the_context_are_refused():
    batch = Batch()
    batch.add(1, 0, seqs=(0, 1))
    batch.add(1, 1, seqs=(1, 3))
    batch.add(1, 0, seqs=9)
    with pytest.raises(BatchError, match="sequence 3") as error:
        batch.entries().check(10, ends(0, 0, 0))
    assert error.value.entry == 1


def test_sequences_go_on_where_they_end_and_empty_ones_begin_anywhere():
    batch = Batch()
    batch.extend([1, 2], 7, seqs=0)
    batch.add(1, 5, seqs=1)
    batch.add(1, 9, seqs=(0, 2))
    batch.add(1, 6, seqs=1)
    batch.add(1, 10, seqs=2)
    batch.entries().check(10, ends(7, 0, 9))
    batch.entries().check(10, ends(7, 5, 0))


@pytest.mark.parametrize(
    ("entries", "wrong"),
    [
        ([(0, 3)], 0),  # a gap after what memory holds
        ([(0, 1)], 0),  # already held
        ([(0, 2), (0, 2)], 1),  # twice in the batch
        ([(0, 2), (1, 0), (0, 4)], 2),  # a gap in the batch
        ([(0, 3), (0, 2)], 0),  # its own order reversed
        ([(1, 4), (1, 3)], 1),
        ([(1, 0), (1, 1), (0, 2), (1, 1), (0, 9)], 3),  # the first wrong one is named
        ([((0, 1), 2), ((0, 1), 3), (1, 3)], 2),
        ([((0, 1), 0)], 0),  # right for one of its sequences only
    ],
)
def test_gaps_and_repeats_are_refused_by_entry(entries, wrong):
    batch = Batch()
    for seqs, position in entries:
        batch.add(1, position, seqs=seqs)
    with pytest.raises(BatchError, match=f"entry {wrong} is position") as error:
        batch.entries().check(10, ends(2, 0))
    assert error.value.entry == wrong


def test_the_message_says_where_the_sequence_goes_on():
    batch = Batch()
    batch.extend([1, 2, 3], 5, seqs=1)
    with pytest.raises(BatchError) as error:
        batch.entries().check(10, ends(0, 4))
    assert "entry 0 is position 5 of sequence 1, which goes on at position 4" in str(error.value)
