"""The delta rule's states where they are large and lie in memory of the kernels' own."""

import numpy as np
import pytest

from motet.kernels import CPU
from tests.kernels.recurrent_cases import delta, runs_of

LARGE = delta(4, 2, 128, 128)


@pytest.mark.parametrize("chained", [False, True])
def test_large_states_are_written_as_small_ones(cpu: CPU, chained: bool) -> None:
    """Past the caches, where nothing goes on from them: the same numbers as through them."""
    count = 5
    rows, states = LARGE.tokens(count), LARGE.states(2 * count + 1)
    read = range(count) if chained else range(0, 2 * count, 2)
    write = range(1, count + 1) if chained else range(1, 2 * count, 2)
    runs = runs_of(range(count), [1] * count, list(read), list(write))
    own = cpu.allocate_states(len(states), LARGE.state)
    assert own.ctypes.data % 64 == 0
    own[:] = states
    # Of NumPy's own, moved off a cache line's edge.
    other = np.empty(states.size + 17, np.float32)[1:]
    other = other[(other.ctypes.data % 64 == 0) :][: states.size].reshape(states.shape)
    other[:] = states
    expected = LARGE.call(cpu, rows, other, runs)
    assert np.array_equal(LARGE.call(cpu, rows, own, runs), expected)
    assert np.array_equal(own, other)
