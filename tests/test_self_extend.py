"""What Self-Extend makes of positions, how far it reaches, and what it refuses."""

import numpy as np
import pytest

from motet.errors import OptionError, UnsupportedError
from motet.kernels.reference import extended_positions
from motet.self_extend import (
    AutoExtend,
    SelfExtend,
    check_reach,
    log_factors,
    read_setting,
    relative_positions,
    require_positions,
    setting_of,
)
from motet.spec import FullAttention, Recurrent, SlidingAttention

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
    auto = AutoExtend()
    positions = np.arange(20_000, dtype=np.int32)
    groups = auto.groups_at(positions, 256)
    assert np.all(groups[:256] == 1) and np.all(groups[256:] > 1)
    assert np.all(np.diff(groups) >= 0)
    far = positions // groups + 64 - 64 // groups
    assert far[256:].max() <= 256 * 2 / 3 + 1
    # A position's group does not depend on the others.
    assert np.array_equal(auto.groups_at(positions[[5, 900, 300]], 256), groups[[5, 900, 300]])


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
    check_reach(SelfExtend(2, 255), 256, 256)
    with pytest.raises(OptionError, match=r"window is 256.*256 tokens"):
        check_reach(SelfExtend(2, 256), 256, 256)


def test_a_context_beyond_the_reach_is_refused_with_how_far_it_is() -> None:
    check_reach(SelfExtend(4, 64), 256, 832)
    with pytest.raises(OptionError, match=r"833 tokens .* group 4, window 64 reaches: 832"):
        check_reach(SelfExtend(4, 64), 256, 833)
    check_reach(AutoExtend(), 256, 1 << 30)


FULL, SLIDING = FullAttention(1, 2, 2), SlidingAttention(1, 2, 2, 8)
STATE = Recurrent(((2,),))


@pytest.mark.parametrize(
    ("layers", "positional", "match"),
    [
        ([STATE, STATE], "none", "is recurrent"),
        ([STATE, FULL], "none", "attends without positions"),
        ([SLIDING, SLIDING], "rotary", "sliding layers alone"),
        ([FULL, FULL], "learned", "a learned vector for each place"),
    ],
)
def test_models_without_distances_to_extend(layers: list, positional: str, match: str) -> None:
    with pytest.raises(UnsupportedError, match=match):
        require_positions([(spec,) for spec in layers], positional)


def test_models_with_some() -> None:
    require_positions([(SLIDING,), (FULL,)], "rotary")
    require_positions([(STATE, FULL), ()], "rotary")
    require_positions([(FULL,)], "alibi")


def test_settings_as_callers_give_them() -> None:
    assert setting_of(None) is None
    assert setting_of("auto") == AutoExtend()
    assert setting_of(SelfExtend(2, 4)) == SelfExtend(2, 4)
    with pytest.raises(OptionError, match="self_extend is 8"):
        setting_of(8)


@pytest.mark.parametrize(
    "setting",
    [None, AutoExtend(), AutoExtend("log"), SelfExtend(8, 512), SelfExtend(3, 20, scale="log")],
)
def test_settings_as_state_files_have_them(setting: SelfExtend | AutoExtend | None) -> None:
    assert read_setting("none" if setting is None else repr(setting)) == setting


@pytest.mark.parametrize(
    "text",
    [
        "",
        "None",
        "auto",
        "SelfExtend(group=8, window=512)",
        "SelfExtend(group=8, window=512, scale='sqrt')",
        "SelfExtend(group=0, window=512, scale=None)",
        "SelfExtend(group=99999999999, window=512, scale=None)",
        "SelfExtend(group=8, window=512, scale=None) ",
        "AutoExtend(scale=__import__('os'))",
    ],
)
def test_other_texts_are_no_settings(text: str) -> None:
    with pytest.raises(OptionError):
        read_setting(text)
