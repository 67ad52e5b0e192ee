import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.batch import Batch, Entries
from motet.errors import OptionError
from motet.split import choose_policy, split

POLICIES = ("simple", "equal", "sequence")


def entries_of(*seqs: int | tuple[int, ...]) -> Entries:
    """One entry for each of ``seqs``, at its sequences' next position; all wanted."""
    batch, ends = Batch(), {}
    for i, members in enumerate(seqs):
        members = (members,) if isinstance(members, int) else members
        position = max(ends.get(seq, 0) for seq in members)
        batch.add(i % 50, position, seqs=members, logits=i % 3 == 0)
        ends |= dict.fromkeys(members, position + 1)
    return batch.entries()


def cut(entries: Entries, size: int, policy: str) -> list[list[int]]:
    return [u.entries.tolist() for u in split(entries, size, policy)]


def test_simple_takes_the_next_tokens_in_order():
    entries = entries_of(0, 1, 0, 2, 1, 0, 2)
    assert cut(entries, 3, "simple") == [[0, 1, 2], [3, 4, 5], [6]]
    assert cut(entries, 100, "simple") == [list(range(7))]


def test_equal_advances_sequences_together():
    entries = entries_of(0, 0, 0, 0, 1, 1, 2, 2, 2)
    assert cut(entries, 100, "equal") == [[0, 1, 4, 5, 6, 7], [2, 8], [3]]
    assert cut(entries, 3, "equal") == [[0, 4, 6], [1, 5, 7], [2, 8], [3]]
    assert cut(entries, 2, "equal") == [[0, 4], [1, 5], [2, 6], [3, 7], [8]]


def test_sequence_takes_one_set_at_a_time():
    entries = entries_of(0, 1, 0, 1, 1)
    assert cut(entries, 2, "sequence") == [[0, 2], [1, 3], [4]]


def test_a_shared_prefix_and_its_endings_are_parted():
    """HellaSwag's shape: a context that four endings share."""
    shared = (0, 1, 2, 3)
    entries = entries_of(shared, shared, shared, 0, 1, 1, 2, 3)
    assert cut(entries, 100, "simple") == [[0, 1, 2], [3, 4, 5, 6, 7]]
    assert cut(entries, 100, "equal") == [[0, 1, 2], [3, 4, 6, 7], [5]]
    assert cut(entries, 100, "sequence") == [[0, 1, 2], [3], [4, 5], [6], [7]]
    assert cut(entries, 2, "simple") == [[0, 1], [2], [3, 4], [5, 6], [7]]


def test_sets_that_meet_again_keep_their_order():
    entries = entries_of((0, 1), 0, 1, (0, 1), 2, (1, 2))
    assert cut(entries, 100, "simple") == [[0], [1, 2], [3, 4], [5]]
    assert cut(entries, 100, "equal") == [[0, 4], [1, 2], [3], [5]]
    assert cut(entries, 100, "sequence") == [[0], [1], [2], [3], [4], [5]]


def test_an_unknown_split_is_refused_with_the_known_ones():
    with pytest.raises(OptionError, match="auto, simple, equal, sequence"):
        choose_policy("eqal")
    assert [choose_policy(policy) for policy in POLICIES] == list(POLICIES)
    assert choose_policy("auto") == "simple"


@given(
    sets=st.lists(
        st.sets(st.integers(0, 4), min_size=1, max_size=3).map(lambda s: tuple(sorted(s))),
        min_size=1,
        max_size=40,
    ),
    size=st.sampled_from([1, 2, 3, 7, 64]),
    policy=st.sampled_from(POLICIES),
)
def test_every_split_is_a_permutation_that_keeps_every_sequence_in_order(sets, size, policy):
    entries = entries_of(*sets)
    ubatches = split(entries, size, policy)
    order = [i for u in ubatches for i in u.entries.tolist()]
    assert sorted(order) == list(range(len(sets)))
    for seq in range(5):
        own = [i for i in order if seq in sets[i]]
        assert own == sorted(own)
    for u in ubatches:
        assert 1 <= len(u.entries) <= size
        assert np.array_equal(u.tokens, entries.tokens[u.entries])
        assert np.array_equal(u.positions, entries.positions[u.entries])
        assert [u.sets[row] for row in u.rows] == [sets[i] for i in u.entries]
        assert np.array_equal(u.wanted, np.flatnonzero(entries.wanted[u.entries]))
        members = [seq for s in u.sets for seq in s]
        assert len(members) == len(set(members))


@given(sets=st.lists(st.integers(0, 3), min_size=1, max_size=30), size=st.sampled_from([1, 4, 99]))
def test_equal_lengths_in_every_micro_batch(sets, size):
    for u in split(entries_of(*sets), size, "equal"):
        assert len(set(np.bincount(u.rows).tolist())) == 1
