"""Numbers as callers give them, checked."""

from operator import index

from motet.errors import OptionError

FOREVER = 1 << 62
"""A position after every other."""


def position_range(start: int, end: int | None) -> tuple[int, int]:
    """Start and stop of positions, the latter FOREVER for None; OptionError if they are none."""
    first = whole_number("start", start)
    stop = max(first, FOREVER) if end is None else whole_number("end", end)
    if first < 0 or stop < first:
        raise OptionError(
            f"start {start}, end {end} is not a range of positions",
            hint="0 <= start <= end; leave end out for all that follows",
        )
    return min(first, FOREVER), min(stop, FOREVER)


def whole_number(name: str, value: int) -> int:
    """``value`` as an int, OptionError naming it if it is not whole."""
    try:
        return index(value)
    except TypeError:
        raise OptionError(f"{name} is {value!r}, not a whole number") from None


def sequence_number(seq: int, count: int) -> int:
    """``seq`` as an int; OptionError unless it is one of ``count`` sequences."""
    number = whole_number("seq", seq)
    if not 0 <= number < count:
        raise OptionError(
            f"there is no sequence {number}",
            hint=f"this context has sequences 0 to {count - 1}; max_sequences gives it more",
        )
    return number
