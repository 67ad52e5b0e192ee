"""Validity masks: a uint64 for each page of a sequence, bit p % 64 set where p is held."""

import numpy as np

from motet.kernels.paged import PAGE

_LOW_BITS = np.array([(1 << n) - 1 for n in range(PAGE + 1)], np.uint64)


def span(start: np.ndarray | int, end: np.ndarray | int, entries: np.ndarray) -> np.ndarray:
    """Bits of the positions start … end - 1 that fall into each table entry, uint64."""
    first = entries * PAGE
    low = np.minimum(np.maximum(start - first, 0), PAGE)
    high = np.minimum(np.maximum(end - first, 0), PAGE)
    return _LOW_BITS[high] & ~_LOW_BITS[low]


def positions(masks: np.ndarray) -> np.ndarray:
    """Positions held by one sequence, ascending, int64; ``masks``: uint64 ``[P]``."""
    return np.flatnonzero(np.unpackbits(masks.astype("<u8").view(np.uint8), bitorder="little"))


def count(masks: np.ndarray) -> int:
    """Bits set in all the masks together."""
    return int(np.count_nonzero(np.unpackbits(masks.view(np.uint8))))


def page_slots(table: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Slots (page × PAGE + position % PAGE, int64) of positions ``at`` in one sequence's table."""
    return table[at // PAGE].astype(np.int64) * PAGE + at % PAGE


def ragged(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(owner, index within it) of every item, where owner i has ``counts[i]`` items."""
    owner = np.repeat(np.arange(len(counts)), counts)
    before = counts.cumsum() - counts
    return owner, np.arange(len(owner)) - before[owner]
