"""What steps cost by the number of tokens in them, learned while they run."""

from collections import deque
from collections.abc import Sequence
from statistics import median

import numpy as np

from motet.arrays import Array
from motet.engine.pace import Pace

_RECENT = 7
"""Steps of a size whose median says how long the next one takes."""
_BELIEVED = 2
"""Steps that what is expected of a size counts as: a first one may be held up by something else."""
_STALE = 512
"""After so many steps what one of a size took is forgotten."""
_REFRESHED = 64
"""After so many steps without proposals' figure is out of date."""
_TICK = 1e-9
"""No step is taken to cost less."""
_SHARE = 0.25
"""Of a step of one token a sequence: a further token is taken to cost no more until one did."""


class StepCosts:
    """Seconds of steps in which so many answers are written, by further tokens in them.

    A size that was never tried is taken to cost what lies between its neighbours, or, beyond all
    of them, as much more as tokens of prompts would.
    """

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._tables: dict[int, dict[int, _Recent]] = {}
        """By answers written, then by further tokens; both rounded, if they are many."""
        self._step = 0

    def learn(self, writing: int, extra: int, seconds: float) -> None:
        """A step without prompts took so long."""
        self._step += 1
        table = self._tables.setdefault(_rounded(writing), {})
        size = _rounded(extra)
        if size not in table:
            known = self.upto(writing, size)
            table[size] = _Recent(() if known is None else (float(known[-1]),) * _BELIEVED)
        table[size].add(seconds, self._step)
        if self._step % _REFRESHED == 0:
            for size in [size for size, each in table.items() if self._step - each.at > _STALE]:
                del table[size]

    def plain(self, writing: int) -> float | None:
        """Seconds of a step without further tokens; None while there was none."""
        found = self._tables.get(_rounded(writing), {}).get(0)
        return None if found is None else found.seconds

    def is_stale(self, writing: int) -> bool:
        """Whether ``plain`` should be measured again."""
        found = self._tables.get(_rounded(writing), {}).get(0)
        return found is None or self._step - found.at > _REFRESHED

    def upto(self, writing: int, extra: int) -> Array | None:
        """Seconds of steps of 0, 1, … ``extra`` further tokens; None where ``plain`` is unknown."""
        plain = self.plain(writing) if writing else None
        if plain is None:
            return None
        table = self._tables[_rounded(writing)]
        known = sorted(table)
        # What a larger step took, a smaller one can: so what was held up shows.
        seconds = np.minimum.accumulate([table[size].seconds for size in reversed(known)])[::-1]
        price = min(self._pace.token_seconds or plain, _SHARE * plain)
        if len(known) > 1:
            slope = (seconds[-1] - seconds[0]) / (known[-1] - known[0])
            price = min(max(2 * slope, price / 4), price)
        sizes = np.arange(extra + 1)
        beyond = np.maximum(sizes - known[-1], 0) * price
        return np.maximum(np.interp(sizes, known, seconds) + beyond, _TICK)


class _Recent:
    """The last steps of a size."""

    def __init__(self, expected: Sequence[float]) -> None:
        self._seconds = deque[float](expected, maxlen=_RECENT)
        self._median: float | None = None
        self.at = 0

    def add(self, seconds: float, step: int) -> None:
        self._seconds.append(seconds)
        self._median = None
        self.at = step

    @property
    def seconds(self) -> float:
        if self._median is None:
            self._median = median(self._seconds)
        return self._median


def _rounded(count: int) -> int:
    """To four bits."""
    shift = max(count.bit_length() - 4, 0)
    return count >> shift << shift
