"""Scales with the least squared error, by search, in NumPy: the definition, bit for bit.

Groups of values are columns: arrays are ``[values, groups]`` and ``[groups]``. What is tried: for
each group candidates for its scale, each with the best scale for its quants (least squares), the
best of them refined so; then the super-block's scales, the groups' whole numbers beside the nearest
ones, and the super-block's scales for these numbers, by turns. ``native/quantize_fit.hpp`` does the
same, sixteen groups at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Protocol, TypeVar

import numpy as np

from motet.arrays import Array, Bool

MOST = 65504.0
"""The largest float16."""
VANISHING = 2.0**-26
"""Half of half of the least float16: what is smaller is as good as 0."""
ALIKE = 2.0**-18
"""Of a determinant, relatively: quants that are as good as all alike have no slope."""

IQ4_VALUES = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32
)


class Grid(Protocol):
    """Numbers that a quant, or a scale, can be."""

    def near(self, y: Array) -> Array: ...
    def code(self, y: Array) -> Array: ...


@dataclass(frozen=True)
class Whole:
    """Whole numbers; of two that are equally near the even one."""

    low: int
    high: int

    def near(self, y: Array) -> Array:
        above = np.where(self.low > y, self.low, y)
        return np.rint(np.where(self.high < above, self.high, above))

    def code(self, y: Array) -> Array:
        return (self.near(y) - self.low).astype(np.uint8)


class Table:
    """The sixteen values of the IQ4 types; of two that are equally near the lower one."""

    middles: Array = (IQ4_VALUES[1:] + IQ4_VALUES[:-1]) / 2.0

    def near(self, y: Array) -> Array:
        return IQ4_VALUES[self.code(y)]

    def code(self, y: Array) -> Array:
        return np.searchsorted(self.middles, y, side="left").astype(np.uint8)


@dataclass(frozen=True)
class Groups:
    """``[values, groups]``, and the weights of their squared errors."""

    x: Array
    weight: Array
    supers: int
    """Groups of a super-block, which follow each other."""

    def total(self, a: Array) -> Array:
        """Of each super-block's groups the sum, for each of them."""
        return self._of_each(lambda every: np.add.accumulate(every, axis=1)[:, -1], a)

    def greatest(self, a: Array) -> Array:
        return self._of_each(lambda every: _first(every, np.argmax(every, axis=1)), a)

    def extreme(self, a: Array) -> Array:
        """What is greatest in magnitude, the first of equals."""
        return self._of_each(lambda every: _first(every, np.argmax(np.abs(every), axis=1)), a)

    def _of_each(self, of: Callable[[Array], Array], a: Array) -> Array:
        return np.repeat(of(a.reshape(-1, self.supers)), self.supers)


def _first(every: Array, at: Array) -> Array:
    return every[np.arange(len(every)), at]


def summed(x: Array) -> Array:
    """The sum of each group, value by value."""
    return np.add.accumulate(x, axis=0)[-1]


def inverse_or_zero(d: Array) -> Array:
    return np.where(d == 0, 0.0, np.divide(1.0, d, dtype=np.float32))


def as_half(a: Array) -> Array:
    """As float16 holds it, the nearest that is finite."""
    return np.clip(a, -MOST, MOST).astype(np.float16).astype(np.float32)


C = TypeVar("C", bound="Candidate")


@dataclass(frozen=True)
class Candidate:
    """Numbers for each group, and what speaks for them."""

    def where(self: C, better: Bool, other: C) -> C:
        """The other's, where they are better."""
        mine = [(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        return type(self)(*(np.where(better, theirs, own) for own, theirs in mine))


def _steps(first: float, last: float, step: float) -> list[float]:
    return [first + k * step for k in range(int((last - first) / step) + 1)]


# A scale: x ≈ a·q.


@dataclass(frozen=True)
class Ends:
    """Where the value of the largest magnitude is put, among the quants: below 0 and above."""

    first_below: float
    last_below: float
    first_above: float
    last_above: float
    step: float

    def __iter__(self) -> Iterator[float]:
        yield from _steps(self.first_below, self.last_below, self.step)
        yield from _steps(self.first_above, self.last_above, self.step)


def _scale_sums(g: Groups, grid: Grid, inverse: Array) -> tuple[Array, Array]:
    """Σ w·x·q and Σ w·q² of the quants nearest to x · inverse."""
    q = grid.near(g.x * inverse)
    wq = q * g.weight
    return summed(g.x * wq), summed(q * wq)


def _scale_error(g: Groups, grid: Grid, a: Array) -> Array:
    rest = g.x - a * grid.near(g.x * inverse_or_zero(a))
    return summed(rest * (rest * g.weight))


def fit_scale(g: Groups, grid: Grid, tried: Ends) -> Array:
    """a of the least Σ w·(x − a·q)²."""
    across: Array = np.transpose(g.x)
    end = _first(across, np.argmax(np.abs(across), axis=1))
    best = a = np.zeros_like(end)

    def attempt(inverse: Array) -> None:
        nonlocal a, best
        xq, qq = _scale_sums(g, grid, inverse)
        own = xq / qq
        gain = own * xq
        better = best < gain
        a, best = np.where(better, own, a), np.where(better, gain, best)

    per_end = inverse_or_zero(end)
    for at in tried:
        attempt(at * per_end)
    for _ in range(2):
        attempt(inverse_or_zero(a))
    return a


@dataclass(frozen=True)
class SuperScale(Candidate):
    """A super-block's scale d and its groups' whole numbers s: x ≈ d·s·q."""

    d: Array
    s: Array
    error: Array


def fit_super_scale(g: Groups, grid: Grid, scales: Whole, a: Array) -> SuperScale:
    def of(d: Array, s: Array) -> SuperScale:
        return SuperScale(d, s, _scale_error(g, grid, d * s))

    end = g.extreme(a)
    best = SuperScale(*[np.zeros_like(a)] * 3)
    least = np.full_like(a, np.inf)
    # The scale that is largest in magnitude becomes one of the lowest four numbers.
    for k in range(4):
        d = as_half(end / (scales.low + k))
        now = of(d, scales.near(a * inverse_or_zero(d)))
        best = best.where(g.total(now.error) < least, now)
        least = g.total(best.error)
    for _ in range(2):
        at = best
        for step in (-1, 1):
            now = of(at.d, scales.near(at.s + step))
            best = best.where(now.error < best.error, now)
        xq, qq = _scale_sums(g, grid, inverse_or_zero(best.d * best.s))
        below = g.total(best.s * (best.s * qq))
        following = of(as_half(g.total(best.s * xq) * inverse_or_zero(below)), best.s)
        best = best.where(g.total(following.error) < g.total(best.error), following)
    return best


# A line: x ≈ a·q + c.


@dataclass(frozen=True)
class Ranges:
    """Ranges that are longer or shorter than the values' by so many steps between quants, and lie
    off their middle by −off to off steps."""

    shortest: float
    longest: float
    step: float
    off: float
    off_step: float

    def __iter__(self) -> Iterator[tuple[float, float]]:
        for longer in _steps(self.shortest, self.longest, self.step):
            for off in _steps(-self.off, self.off, self.off_step):
                yield longer, off - 0.5 * longer


@dataclass(frozen=True)
class Line(Candidate):
    a: Array
    c: Array


def _line_sums(
    g: Groups, grid: Grid, x: Array, inverse: Array, offset: Array
) -> tuple[Array, Array, Array]:
    """Σ w·q, Σ w·q², Σ w·x·q of the quants nearest to x · inverse + offset."""
    q = grid.near(x * inverse + offset)
    wq = q * g.weight
    return summed(wq), summed(q * wq), summed(x * wq)


def _line_error(g: Groups, grid: Grid, line: Line) -> Array:
    x = g.x - line.c
    rest = x - line.a * grid.near(x * inverse_or_zero(line.a))
    return summed(rest * (rest * g.weight))


def fit_line(g: Groups, grid: Whole, tried: Ranges, below: bool) -> Line:
    """a and c of the least Σ w·(x − a·q − c)²; c ≤ 0 if ``below``."""
    low, high = g.x.min(axis=0), g.x.max(axis=0)
    if below:
        low = np.where(low < 0, low, 0.0)
    x = g.x - low
    weights, sum = summed(g.weight), summed(x * g.weight)
    best = np.full_like(low, -1)
    line = Line(np.zeros_like(low), low)

    def attempt(inverse: Array, offset: Array) -> None:
        nonlocal line, best
        q, qq, xq = _line_sums(g, grid, x, inverse, offset)
        det = weights * qq - q * q
        slope = (weights * xq - sum * q) / det
        a = np.where(ALIKE * (weights * qq) < det, np.where(slope > 0, slope, 0.0), 0.0)
        c = (sum - a * q) / weights
        if below:
            limit = 0.0 - low
            through = (xq - limit * q) * inverse_or_zero(qq)
            a = np.where(limit < c, np.where(through > 0, through, 0.0), a)
            c = np.where(limit < c, limit, c)
        gain = 2.0 * (a * xq + c * sum) - (a * (a * qq + 2.0 * (c * q)) + c * c * weights)
        better = best < gain
        line, best = line.where(better, Line(a, low + c)), np.where(better, gain, best)

    per_range = inverse_or_zero(high - low)
    for longer, offset in tried:
        attempt((grid.high + longer) * per_range, np.full_like(low, offset))
    for _ in range(2):
        inverse = inverse_or_zero(line.a)
        attempt(inverse, (low - line.c) * inverse)
    return Line(line.a, np.where(line.c < 0, line.c, 0.0)) if below else line


@dataclass(frozen=True)
class SuperLine(Candidate):
    """A super-block's scales d and m, its groups' whole numbers s and t: x ≈ d·s·q − m·t."""

    d: Array
    m: Array
    s: Array
    t: Array
    error: Array

    @property
    def line(self) -> Line:
        return Line(self.d * self.s, 0.0 - self.m * self.t)


def fit_super_line(g: Groups, grid: Whole, scales: Whole, line: Line, shorter: int) -> SuperLine:
    """The largest scale and minimum become one of the highest 1 + ``shorter`` numbers."""

    def of(d: Array, m: Array, s: Array, t: Array) -> SuperLine:
        return SuperLine(d, m, s, t, _line_error(g, grid, Line(d * s, 0.0 - m * t)))

    depth = 0.0 - line.c
    steepest, deepest = g.greatest(line.a), g.greatest(depth)
    best = SuperLine(*[np.zeros_like(depth)] * 5)
    least = np.full_like(depth, np.inf)
    for k in range(shorter + 1):
        for j in range(shorter + 1):
            d = as_half(steepest / (scales.high - k))
            m = as_half(deepest / (scales.high - j))
            s = scales.near(line.a * inverse_or_zero(d))
            now = of(d, m, s, scales.near(depth * inverse_or_zero(m)))
            best = best.where(g.total(now.error) < least, now)
            least = g.total(best.error)
    weights, sum = summed(g.weight), summed(g.x * g.weight)
    for _ in range(2):
        at = best
        for ds in (-1, 0, 1):
            for dt in (-1, 0, 1):
                if ds == dt == 0:
                    continue
                s = scales.near(at.s + ds)
                now = of(at.d, at.m, s, scales.near(at.t + dt))
                best = best.where(now.error < best.error, now)
        # d and m for these numbers: together or, where they do not tell them apart, d alone.
        inverse = inverse_or_zero(best.line.a)
        q, qq, xq = _line_sums(g, grid, g.x, inverse, 0.0 - best.line.c * inverse)
        ss = g.total(best.s * (best.s * qq))
        st = g.total(best.s * (best.t * q))
        tt = g.total(best.t * (best.t * weights))
        sx, tx = g.total(best.s * xq), g.total(best.t * sum)
        det = ss * tt - st * st
        both = det > 0
        d = np.where(both, (sx * tt - tx * st) / det, sx * inverse_or_zero(ss))
        m = np.where(both, (sx * st - tx * ss) / det, 0.0)
        following = of(as_half(d), as_half(m), best.s, best.t)
        best = best.where(g.total(following.error) < g.total(best.error), following)
    return best
