"""Where runs of several tokens begin and end, whatever the micro-batches."""

import pytest

from motet.batch import Batch
from motet.memory.checkpoints import run_edges
from motet.split import split


def edges_of(size: int, *runs: tuple[int, tuple[int, ...]], policy: str = "simple"):
    """(before, after) of (tokens, sequences) one after the other."""
    batch, ends = Batch(), {}
    for count, seqs in runs:
        start = max(ends.get(seq, 0) for seq in seqs)
        batch.extend([1] * count, start, seqs)
        ends |= dict.fromkeys(seqs, start + count)
    edges = run_edges(split(batch.entries(), size, policy))
    return dict(edges.before), dict(edges.after)


def test_a_token_each_is_no_run():
    assert edges_of(8, (1, (0,)), (1, (1,)), (1, (2, 3))) == ({}, {})
    assert edges_of(2, (1, (0,)), (1, (1,)), (1, (2, 3))) == ({}, {})


@pytest.mark.parametrize(("size", "last"), [(1, 9), (3, 3), (10, 0), (100, 0)])
def test_a_run_over_micro_batches(size, last):
    assert edges_of(size, (10, (0,))) == ({0: [(0,)]}, {last: [(0,)]})


def test_a_run_beside_single_tokens():
    assert edges_of(4, (1, (0,)), (6, (1,)), (1, (2,))) == ({0: [(1,)]}, {1: [(1,)]})


def test_shared_tokens_and_endings():
    before, after = edges_of(100, (5, (0, 1)), (2, (0,)), (1, (1,)))
    assert before == {0: [(0, 1)], 1: [(0,)]}
    assert after == {0: [(0, 1)], 1: [(0,)]}


def test_sets_that_meet_again():
    before, after = edges_of(100, (2, (0, 1)), (3, (0,)), (3, (1,)), (2, (0, 1)))
    assert before == {0: [(0, 1)], 1: [(0,), (1,)], 2: [(0, 1)]}
    assert after == before


@pytest.mark.parametrize("policy", ["simple", "equal", "sequence"])
@pytest.mark.parametrize("size", [1, 2, 5, 64])
def test_every_run_begins_and_ends_once(policy, size):
    before, after = edges_of(size, (7, (0,)), (3, (1,)), (9, (2, 3)), (1, (4,)), policy=policy)
    for edges in (before, after):
        assert sorted(s for each in edges.values() for s in each) == [(0,), (1,), (2, 3)]
    for members in ((0,), (1,), (2, 3)):
        begins, ends = (
            next(n for n, each in edges.items() if members in each) for edges in (before, after)
        )
        assert begins <= ends
