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


def low(count: int) -> np.uint64:
    """The lowest ``count`` bits, fewer than PAGE."""
    return _LOW_BITS[count]


def count(masks: UInt64) -> int:
    """How many positions are held."""
    return sum(map(int.bit_count, masks.tolist()))


def holds(masks: UInt64, position: int) -> bool:
    """Whether a sequence, of which these are the masks ``[P]``, holds ``position``."""
    entry = position // PAGE
    return 0 <= entry < len(masks) and bool(int(masks[entry]) >> position % PAGE & 1)


def page_slots(table: Int32, at: Int64) -> Int64:
    """Slots (page × PAGE + position % PAGE) of positions ``at`` in one sequence's table."""
    return table[at // PAGE].astype(np.int64) * PAGE + at % PAGE
