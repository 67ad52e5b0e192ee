"""Caches' memory: what is given back to the system, and what stays."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from motet.arrays import Int64
from motet.kernels import CPU
from motet.kernels.host_memory import HostMemory
from motet.kernels.reference import Reference

KERNELS = [Reference(), CPU(1)]
SHAPES = [(4, 128, 128, "f16"), (1, 24, 40, "q8_0"), (3, 256, 64, "f32"), (1, 16, 16, "bf16")]
"""(KV heads, head_dim, value_dim, kv_type): pages that are multiples of the system's, and not."""


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@pytest.mark.parametrize("kernels", KERNELS, ids=lambda kernels: type(kernels).__name__)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pages_are_given_back_and_no_others(kernels: HostMemory, shape: tuple) -> None:
    rng = np.random.default_rng(1)
    pages = kernels.allocate_pages(40, *shape)
    for chosen in ([], [0], [39], [3, 4, 5, 30], range(40), [7, 6, 6, 5, 8], [1, 3, 5, 7]):
        rows = np.array(chosen, np.int64)
        pages.buffer[:] = rng.integers(1, 256, pages.buffer.shape, np.uint8)
        before = pages.buffer.copy()
        kernels.discard(pages.arrays["values"], rows)
        check(before, pages.buffer, rows)


@pytest.mark.parametrize("kernels", KERNELS, ids=lambda kernels: type(kernels).__name__)
@pytest.mark.parametrize("shape", [(5, 7), (64, 64), (3, 1000)])
def test_states_are_given_back_and_no_others(kernels: HostMemory, shape: tuple[int, ...]) -> None:
    states = kernels.allocate_states(9, shape)
    for chosen in ([2], [0, 1, 8], range(9)):
        rows = np.array(chosen, np.int64)
        states[:] = 1
        before = states.copy()
        kernels.discard(states, rows)
        check(before.reshape(9, -1), states.reshape(9, -1), rows)


def check(before: np.ndarray, after: np.ndarray, rows: Int64) -> None:
    """Given rows read as 0 where a page of the system is theirs alone; all else is as before."""
    given = np.zeros(before.shape, bool)
    given[rows] = True
    size = mmap.PAGESIZE // before.itemsize
    for start in range(0, before.size, size):
        page = slice(start, start + size)
        gone = start + size <= before.size and given.reshape(-1)[page].all()
        left = np.zeros(size, before.dtype) if gone else before.reshape(-1)[page]
        assert np.array_equal(after.reshape(-1)[page], left)


def test_given_pages_leave_memory_and_come_back_when_written() -> None:
    kernels = CPU(1)
    pages = kernels.allocate_pages(256, 4, 128, 128, "f16")
    nothing = resident()
    pages.buffer[:] = 1
    full = resident() - nothing
    assert full > 0.9 * pages.buffer.nbytes
    kernels.discard(pages.arrays["keys"], np.arange(0, 256, 2))
    assert resident() - nothing < 0.55 * full
    kernels.discard(pages.arrays["keys"], np.arange(256))
    assert resident() - nothing < 0.05 * full
    pages.buffer[:] = 2
    assert resident() - nothing > 0.9 * full
