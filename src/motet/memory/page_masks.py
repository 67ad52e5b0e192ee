"""Which positions of a page are held: a uint64 for each, bit p % 64 set where position p is."""

import numpy as np

from motet.arrays import Int32, Int64, UInt64
from motet.kernels import PAGE

FOREVER = 1 << 62
"""A position after every other."""

_LOW_BITS: UInt64 = np.array([(1 << n) - 1 for n in range(PAGE + 1)], np.uint64)


def span(start: Int64 | int, end: Int64 | int, entries: Int64) -> UInt64:
    """Bits of the positions start … end - 1 that fall into each table entry."""
    first = entries * PAGE
    low = np.minimum(np.maximum(start - first, 0), PAGE)
    high = np.minimum(np.maximum(end - first, 0), PAGE)
    return _LOW_BITS[high] & ~_LOW_BITS[low]


def bit(positions: Int64) -> UInt64:
    """The bit of each position in its page's mask."""
    return np.left_shift(np.uint64(1), (positions % PAGE).astype(np.uint64))


def positions(masks: UInt64) -> Int64:
    """Positions that one sequence holds, ascending; ``masks``: ``[P]``."""
    return np.flatnonzero(np.unpackbits(masks.astype("<u8").view(np.uint8), bitorder="little"))


def page_slots(table: Int32, at: Int64) -> Int64:
    """Slots (page × PAGE + position % PAGE) of positions ``at`` in one sequence's table."""
    return table[at // PAGE].astype(np.int64) * PAGE + at % PAGE
