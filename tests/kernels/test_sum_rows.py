"""Sums over sequences' tokens: as good as exact, and the same for every cut."""

import numpy as np
import pytest

from motet.kernels import CPU
from motet.kernels.reference import Reference
from tests.kernels.recurrent_cases import normal, runs_of


@pytest.mark.parametrize("width", [1, 17, 64, 600])
def test_equals_reference(cpu: CPU, width: int) -> None:
    x, states = normal(33, width), normal(6, 2, width, seed=9)
    expected_states = states.copy()
    order = np.random.default_rng(1).permutation(33)
    runs = runs_of(order, [1, 30, 2], [4, -1, 0], [4, 2, 1])
    expected = Reference().sum_rows(x, expected_states, runs)
    assert np.array_equal(cpu.sum_rows(x, states, runs), expected)
    assert np.array_equal(states, expected_states)


@pytest.mark.parametrize("sizes", [[1], [2], [7], [300], [1, 64, 3]])
def test_no_cut_changes_a_bit(cpu: CPU, sizes: list[int]) -> None:
    x = normal(1000, 40, scale=30.0)
    x[::7] *= np.float32(1e6)
    states = np.full((2, 2, 40), 7, np.float32)
    expected = cpu.sum_rows(x, states, runs_of(range(1000), [1000], [-1], [0]))
    at = piece = 0
    got = np.empty((1, 40), np.float32)
    while at < 1000:
        count = min(sizes[piece % len(sizes)], 1000 - at)
        read = -1 if at == 0 else piece % 2
        runs = runs_of(range(count), [count], [read], [1 - piece % 2])
        got = cpu.sum_rows(x[at : at + count], states, runs)
        at, piece = at + count, piece + 1
    assert np.array_equal(got, expected)


def test_runs_that_go_on_from_each_other(cpu: CPU) -> None:
    """A sum for each; the last one is that of all."""
    x, states = normal(50, 600), normal(5, 2, 600)
    expected = cpu.sum_rows(x, states.copy(), runs_of(range(50), [50], [4], [0]))
    runs = runs_of(range(50), [1, 40, 2, 7], [4, 2, 0, 3], [2, 0, 3, 1])
    sums = cpu.sum_rows(x, states, runs)
    assert np.array_equal(sums[-1], expected[0])
    assert np.array_equal(sums[0], states[2].sum(axis=0))


@pytest.mark.parametrize(("width", "tokens"), [(768, 512), (100, 4000), (4096, 64)])
def test_states_of_wide_rows_are_whole(cpu: CPU, width: int, tokens: int) -> None:
    """Where channels are shared out among threads, each takes care of its own."""
    x, states = normal(tokens, width), np.full((2, 2, width), 7, np.float32)
    expected = states.copy()
    runs = runs_of(range(tokens), [tokens], [-1], [1])
    sums = Reference().sum_rows(x, expected, runs)
    assert np.array_equal(cpu.sum_rows(x, states, runs), sums)
    assert np.array_equal(states, expected)


def test_is_as_good_as_exact(cpu: CPU) -> None:
    x = normal(20000, 20)
    x[::3] *= np.float32(1e5)
    got = cpu.sum_rows(
        x, np.empty((1, 2, 20), np.float32), runs_of(range(20000), [20000], [-1], [0])
    )
    exact = x.astype(np.longdouble).sum(axis=0).astype(np.float32)
    np.testing.assert_allclose(got[0], exact, rtol=1.2e-7)
