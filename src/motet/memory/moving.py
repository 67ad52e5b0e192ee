"""Moving rows between memory and a file: large blocks, several at once.

Helper threads gather rows from where they lie, or scatter them to where they belong; the caller's
thread, which alone touches the file, writes or reads other blocks meanwhile. The arrays are never
copied as a whole.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle
from typing import Any

import numpy as np

from motet.memory.checked_io import Sink, Source, as_bytes
from motet.memory.rows import gather, scatter
from motet.memory.saved import Places

_BLOCK = 2 << 20
"""Bytes that are moved at once; few enough to stay in a core's cache."""
_THREADS = 2
_AHEAD = 4
"""Blocks that are on the way at most."""


def digest() -> Any:
    """A checksum to be updated: xxh3_128."""
    from xxhash import xxh3_128

    return xxh3_128()


def write_rows(sink: Sink, tensors: Sequence[tuple[np.ndarray, np.ndarray]]) -> bytes:
    """Write the rows of arrays in their slots, one array after the other.

    ``tensors``: arrays ``[pages, rows of a page, …]``, and slots int64. Returns their checksums.
    """
    digests = [digest() for _ in tensors]
    blocks = [
        (number, array, slots[first : first + step])
        for number, (array, slots) in enumerate(tensors)
        for step in (_rows_at_once(array),)
        for first in range(0, len(slots), step)
    ]
    with ThreadPoolExecutor(_THREADS) as helpers:
        gathered = _in_order(helpers, ((gather, array, slots) for _, array, slots in blocks))
        for (number, _, _), rows in zip(blocks, gathered, strict=True):
            digests[number].update(data := as_bytes(rows))
            sink.write(data)
    return b"".join(each.digest() for each in digests)


def read_rows(source: Source, tensors: Sequence[tuple[np.ndarray, int, Places]]) -> bytes:
    """Read rows of arrays, one array after the other, and put them where they belong.

    ``tensors``: arrays ``[pages, rows of a page, …]``, how many rows were written of each, and
    where they go. Returns the checksums of what was read.
    """
    digests = [digest() for _ in tensors]
    with ThreadPoolExecutor(_THREADS) as helpers:
        deque(_in_order(helpers, _scattering(source, tensors, digests)), maxlen=0)
    return b"".join(each.digest() for each in digests)


def _scattering(
    source: Source, tensors: Sequence[tuple[np.ndarray, int, Places]], digests: Sequence[Any]
) -> Iterator[tuple[Any, ...]]:
    """Jobs that bring rows to their places, as they are read."""
    largest = max((array[0, 0].nbytes for array, _, _ in tensors), default=0)
    # A buffer is filled again only when the job that it was for is done.
    buffers = cycle([np.empty(max(_BLOCK, largest), np.uint8) for _ in range(_AHEAD)])
    for (array, count, places), each in zip(tensors, digests, strict=True):
        step = _rows_at_once(array)
        for first in range(0, count, step):
            shape = min(step, count - first), *array.shape[2:]
            raw = next(buffers)[: int(np.prod(shape)) * array.itemsize]
            rows = raw.view(array.dtype).reshape(shape)
            source.fill(data := as_bytes(rows))
            each.update(data)
            a, b = np.searchsorted(places.rows, (first, first + len(rows)))
            wanted = places.rows[a:b] - first
            if len(wanted) != len(rows) or not np.array_equal(wanted, np.arange(len(rows))):
                rows = rows[wanted]
            yield scatter, array, places.slots[a:b], rows


def _rows_at_once(array: np.ndarray) -> int:
    return max(1, _BLOCK // max(1, array[0, 0].nbytes))


def _in_order(helpers: ThreadPoolExecutor, jobs: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """What the jobs (function, arguments …) give, in order, while others are being done."""
    pending: deque[Future] = deque()
    for job in jobs:
        pending.append(helpers.submit(*job))
        if len(pending) == _AHEAD:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
