"""Reference counts: the base's own are never handed out, lowest numbers first."""

import numpy as np
import pytest

from motet.errors import CapacityError
from motet.memory.ref_counts import RefCounts


def counts_of(*refs: int, most: int = 8) -> RefCounts:
    return RefCounts(np.array(refs, np.int32), most, "things", hint="give some back")


def test_free_ones_come_lowest_first_and_then_new_ones():
    counts = counts_of(1, 0, 2, 0)
    assert counts.allocate(1).tolist() == [1]
    assert counts.allocate(3).tolist() == [3, 4, 5]
    assert counts.allocate(0).tolist() == []
    assert len(counts.refs) <= 8


def test_none_left_names_what_and_how_many():
    counts = counts_of(1, 0, most=4)
    assert counts.allocate(2).tolist() == [1, 2]
    with pytest.raises(CapacityError, match=r"2 more things are needed, and 1 of 4 are free"):
        counts.allocate(2)
    assert counts.allocate(1).tolist() == [3]
    with pytest.raises(CapacityError, match="0 of 4"):
        counts.allocate(1)


def test_what_the_base_uses_stays_when_it_is_given_up():
    base = np.array([2, 0], np.int32)
    counts = RefCounts(base, 2, "things", hint="")
    counts.release(np.array([0, 0]))
    assert counts.refs.tolist() == [0, 0] and counts.left == {0}
    assert counts.ours(np.array([0, 1])).tolist() == [False, True]
    assert counts.allocate(1).tolist() == [1]
    with pytest.raises(CapacityError):
        counts.allocate(1)
    assert base.tolist() == [2, 0]


def test_what_was_taken_here_is_taken_again():
    counts = counts_of(1, 0, 0)
    taken = counts.take(np.array([1, 3]))
    assert taken.tolist() == [1, 2] and counts.refs[taken].tolist() == [1, 3]
    counts.acquire(taken[:1])
    counts.release(taken, np.array([2, 1]))
    assert counts.refs.tolist()[:3] == [1, 0, 2] and not counts.left
    assert counts.allocate(2).tolist() == [1, 3]


def test_a_number_that_comes_twice_counts_twice():
    counts = counts_of(1, 0)
    one = counts.allocate(1)
    counts.acquire(np.concatenate([one, one]))
    assert counts.refs[one] == 2
    counts.release(np.concatenate([one, one]))
    assert counts.refs[one] == 0
    assert counts.allocate(2).tolist() == [1, 2]  # once, though it was named twice
