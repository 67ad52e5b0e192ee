"""Rows of what layers keep, moved between memory and a file in large blocks, several at once.

Helper threads gather rows from where they lie, or scatter them to where they belong; the caller's
thread, which alone touches the file, writes or reads other blocks meanwhile. The arrays are never
copied as a whole.
"""

import mmap
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np

from motet.arrays import Array, Int64, UInt8
from motet.errors import CapacityError
from motet.kernels import Kernels
from motet.memory.saved import Places
from motet.state.file_objects import Source
from motet.state.format import damaged

_BLOCK = 2 << 20
"""Bytes of rows that are moved at once; few enough to stay in a core's cache."""
_THREADS = 2
_AHEAD = 4
"""Blocks that are on the way at most."""


@dataclass(frozen=True)
class Block:
    """Some rows of one tensor of a file."""

    tensor: int
    """Its number among them."""
    numbers: Int64
    """``[n]``, ascending: which rows of the tensor."""
    rows: Array
    """``[n, …]``."""

    def only(self, numbers: Int64) -> "Block":
        """Of these rows, ascending, those that it has."""
        own = numbers[slice(*self._span(numbers))]
        if len(own) == len(self.numbers):
            return self
        return Block(self.tensor, own, self.rows[np.searchsorted(self.numbers, own)])

    def placed(self, places: Places) -> tuple[Int64, Array]:
        """Slots that rows of it go to, all of which it has, and what goes into each."""
        its = slice(*self._span(places.rows))
        index = np.searchsorted(self.numbers, places.rows[its])
        if np.array_equal(index, np.arange(len(self.numbers))):
            return places.slots[its], self.rows
        return places.slots[its], self.rows[index]

    def _span(self, numbers: Int64) -> tuple[int, int]:
        """Where those of ``numbers``, ascending, begin and end that may be its own."""
        if not len(self.numbers):
            return 0, 0
        first, last = np.searchsorted(numbers, (self.numbers[0], self.numbers[-1] + 1))
        return int(first), int(last)


def digest() -> Any:
    """A checksum to be updated: xxh3_128."""
    from xxhash import xxh3_128

    return xxh3_128()


def as_bytes(array: Array) -> memoryview:
    """The bytes of a contiguous array, which may be empty."""
    data: Any = array.reshape(-1).view(np.uint8)
    return memoryview(data)


def gather(
    kernels: Kernels, tensors: Sequence[tuple[Array, Int64]]
) -> Iterator[tuple[int, memoryview]]:
    """The bytes of the rows of arrays in their slots, one array after the other.

    ``tensors``: arrays ``[pages, rows of a page, …]``, and slots. Gives (number of the array, some
    of its bytes).
    """
    blocks = [
        (number, array, slots[first : first + step])
        for number, (array, slots) in enumerate(tensors)
        for step in (_rows_at_once(array),)
        for first in range(0, len(slots), step)
    ]
    jobs = ((kernels.gather_rows, array, slots) for _, array, slots in blocks)
    for (number, _, _), rows in zip(blocks, _in_order(jobs), strict=True):
        yield number, as_bytes(rows)


def read(
    source: Source, tensors: Sequence[tuple[Array, int]], *, kept: bool = False
) -> Iterator[Block]:
    """The rows of tensors that follow each other, and after them their checksums.

    ``tensors``: for each an array ``[pages, rows of a page, …]`` whose rows are alike, and how many
    rows there are. ``kept``: each block is memory of its own; otherwise it is filled anew for the
    fourth after it. Raises StateFileError at the end where a checksum is not that of the data.
    """
    checksums = [digest() for _ in tensors]
    largest = max((array[0, 0].nbytes for array, _ in tensors), default=0)
    size = max(_BLOCK, largest)
    buffers = cycle([_fresh(size) for _ in range(0 if kept else _AHEAD)])
    for number, ((array, count), checksum) in enumerate(zip(tensors, checksums, strict=True)):
        step = _rows_at_once(array)
        for first in range(0, count, step):
            shape = min(step, count - first), *array.shape[2:]
            nbytes = int(np.prod(shape)) * array.itemsize
            raw = _fresh(nbytes) if kept else next(buffers)[:nbytes]
            rows = raw.view(array.dtype).reshape(shape)
            source.fill(data := as_bytes(rows))
            checksum.update(data)
            yield Block(number, np.arange(first, first + len(rows)), rows)
    expected = b"".join(each.digest() for each in checksums)
    if bytes(source.take(len(expected))) != expected:
        raise damaged("the checksums of its layers are not those of their data")


def scatter(
    kernels: Kernels, blocks: Iterable[Block], arrays: Sequence[tuple[Array, Places]]
) -> None:
    """Put blocks, as they come, where their rows belong.

    ``arrays``: of each tensor, ``[pages, rows of a page, …]``, and where its rows go.
    """

    def jobs() -> Iterator[tuple[Any, ...]]:
        for block in blocks:
            array, places = arrays[block.tensor]
            yield kernels.scatter_rows, array, *block.placed(places)

    deque(_in_order(jobs()), maxlen=0)


def _fresh(nbytes: int) -> UInt8:
    """Memory that goes back to the system at once when it is no longer used."""
    try:
        memory = mmap.mmap(-1, max(nbytes, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise CapacityError(
            f"there is no memory for {nbytes} bytes of a saved state: {error.strerror}",
            hint="close what else takes memory",
        ) from error
    return np.frombuffer(memory, np.uint8, nbytes)


def _rows_at_once(array: Array) -> int:
    return max(1, _BLOCK // max(1, array[0, 0].nbytes))


def _in_order(jobs: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """What the jobs (function, arguments …) give, in order, while others are being done."""
    with _helpers() as helpers:
        turns = cycle(helpers)
        pending: deque[Future[Any]] = deque()
        for function, *arguments in jobs:
            if not helpers:
                yield function(*arguments)
                continue
            pending.append(next(turns).submit(function, *arguments))
            if len(pending) == _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


@contextmanager
def _helpers() -> Iterator[list[ThreadPoolExecutor]]:
    """Threads, as many as the system lets start; each does its jobs in order."""
    pools = [ThreadPoolExecutor(1) for _ in range(_THREADS)]
    started: list[ThreadPoolExecutor] = []
    try:
        for pool in pools:
            with suppress(RuntimeError):  # of a thread that can't start
                pool.submit(int).result()
                started.append(pool)
        yield started
    finally:
        for pool in pools:
            pool.shutdown()
