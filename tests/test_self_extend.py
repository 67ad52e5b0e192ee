"""What Self-Extend makes of positions, how far it reaches, and what it refuses."""

import numpy as np
import pytest

from motet.errors import OptionError
from motet.kernels.reference import extended_positions
from motet.self_extend import AutoExtend, SelfExtend, log_factors, relative_positions

FIGURE_3 = """
0
1 0
2 1 0
3 2 1 0
4 3 2 1 0
4 4 3 2 1 0
5 5 4 3 2 1 0
5 5 4 4 3 2 1 0
6 6 5 5 4 3 2 1 0
6 6 5 5 4 4 3 2 1 0
"""
"""The paper's: trained for 7, window 4, groups of 2, 10 tokens."""

GROUP_3_WINDOW_4 = """
0
1 0
2 1 0
3 2 1 0
4 3 2 1 0
4 4 3 2 1 0
5 5 5 3 2 1 0
5 5 5 4 3 2 1 0
5 5 5 4 4 3 2 1 0
6 6 6 5 5 5 3 2 1 0
6 6 6 5 5 5 4 3 2 1 0
6 6 6 5 5 5 4 4 3 2 1 0
"""
"""By hand: 4 − ⌊4 / 3⌋ = 3, so far keys stand at ⌊q / 3⌋ + 3 − ⌊k / 3⌋."""


def rows_of(text: str) -> list[list[int]]:
    return [[int(word) for word in line.split()] for line in text.split("\n") if line]


@pytest.mark.parametrize(
    ("matrix", "group", "window"), [(FIGURE_3, 2, 4), (GROUP_3_WINDOW_4, 3, 4)]
)
def test_matrices(matrix: str, group: int, window: int) -> None:
    expected = rows_of(matrix)
    got = relative_positions(len(expected), group, window)
    assert [row[: i + 1].tolist() for i, row in enumerate(got)] == expected
    assert np.all(got[np.triu_indices(len(got), 1)] == -1)


@pytest.mark.parametrize(("group", "window"), [(1, 3), (2, 4), (3, 4), (5, 12), (7, 3), (16, 20)])
def test_the_reference_uses_the_same_positions(group: int, window: int) -> None:
    expected = relative_positions(60, group, window)
    for q in range(60):
        k = np.arange(q + 1)
        query, keys = extended_positions(q, k, window, group)
        assert np.array_equal(np.where(q - k < window, q - k, query - keys), expected[q, : q + 1])


@pytest.mark.parametrize("group", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("window", [1, 2, 3, 4, 9, 10])
def test_longest_context_by_trying(group: int, window: int) -> None:
    trained = 11
    longest = SelfExtend(group, window).longest_context(trained)
    assert relative_positions(longest, group, window).max() < trained
    assert relative_positions(longest + 1, group, window).max() == trained


def test_auto_is_plain_within_the_trained_length_and_never_beyond_it() -> None:
    auto = AutoExtend(256)
    positions = np.arange(20_000, dtype=np.int32)
    groups = auto.groups_at(positions)
    assert np.all(groups[:256] == 1) and np.all(groups[256:] > 1)
    assert np.all(np.diff(groups) >= 0)
    far = positions // groups + auto.window - auto.window // groups
    assert far[256:].max() <= 256 * 2 / 3 + 1
    # A position's group does not depend on the others.
    assert np.array_equal(auto.groups_at(positions[[5, 900, 300]]), groups[[5, 900, 300]])


def test_log_factors() -> None:
    factors = log_factors(np.array([0, 255, 65535]), 256)
    assert factors.tolist() == [1, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((0, 4), "group is 0"),
        ((2, 0), "window is 0"),
        ((2.5, 4), "group is 2.5"),
        ((True, 4), "group is True"),
        ((2, 4, "sqrt"), "scale is 'sqrt'"),
    ],
)
def test_refused(arguments: tuple, match: str) -> None:
    with pytest.raises(OptionError, match=match):
        SelfExtend(*arguments)


def test_a_window_beyond_the_trained_length_is_refused() -> None:
    SelfExtend(2, 255).check(256)
    with pytest.raises(OptionError, match=r"window is 256.*256 tokens"):
        SelfExtend(2, 256).check(256)
