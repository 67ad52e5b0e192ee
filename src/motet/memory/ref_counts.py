"""How often each page or slot is referred to, and which of them are free."""

from collections.abc import Iterable

import numpy as np

from motet.arrays import Bool, Int32, Int64
from motet.errors import CapacityError


class RefCounts:
    """Reference counts of a draft, beside those of the base that it began from.

    What the base uses is never handed out, so that dropping the draft undoes it.
    """

    def __init__(self, base: Int32, most: int, unit: str, hint: str) -> None:
        """``base``: for those that were ever in use. ``most``: how many there are."""
        self.refs: Int32 = base.copy()
        """As long as ``base`` or, once more were taken, longer."""
        self.left: set[int] = set()
        """Those of the base that something gave up, so ``refs`` no longer counts it."""
        self._base = base
        self._most = most
        self._unit, self._hint = unit, hint
        self._free: Int32 | None = None
        """What the base does not use, lowest first, so that little memory is ever touched."""
        self._taken = 0
        """How many of them this draft has taken."""
        self._spare: list[int] = []
        """Those that it has given up again."""

    @property
    def untouched(self) -> bool:
        """Whether the draft has taken none yet."""
        return not self._taken

    @property
    def used(self) -> int:
        """How many are in use while the draft lives: by the base, or at some time by the draft."""
        return int(np.count_nonzero(self._base)) + self._taken

    def take(self, times: Int64) -> Int32:
        """As ``allocate``, one for each of ``times``: so many references to it are counted."""
        fresh = self.allocate(len(times))
        self.refs[fresh] = times
        return fresh

    def allocate(self, n: int) -> Int32:
        """``n`` free ones, with no references yet. Raises CapacityError."""
        free = self._free
        if free is None:
            free = (self._base == 0).nonzero()[0].astype(np.int32)
        spare = [self._spare.pop() for _ in range(min(n, len(self._spare)))]
        end = self._taken + n - len(spare)
        if end > len(free):
            free = np.concatenate([free, self._grow(end - len(free))])
        self._free = free
        if end > len(free):
            raise CapacityError(
                f"{n} more {self._unit} are needed, and {len(free) - self._taken + len(spare)} of"
                f" {self._most} are free",
                hint=self._hint,
            )
        fresh = free[self._taken : end]
        self._taken = end
        return np.concatenate([np.array(spare, np.int32), fresh]) if spare else fresh

    def acquire(self, numbers: Int32, times: Int64 | int = 1) -> None:
        """Count ``times`` more references to each; a number may come twice."""
        np.add.at(self.refs, numbers, times)

    def release(self, numbers: Int32, times: Int64 | int = 1) -> None:
        """Count so many fewer."""
        np.subtract.at(self.refs, numbers, times)
        ours = self._base[numbers] == 0
        own = np.count_nonzero(ours)
        if own < len(ours):
            self.left.update(numbers[~ours].tolist())
        if own:
            self._spare += sorted(set(numbers[ours & (self.refs[numbers] == 0)].tolist()))

    def ours(self, numbers: Int32) -> Bool:
        """Which of them the base does not use."""
        return self._base[numbers] == 0

    def _grow(self, n: int) -> Int32:
        """At least ``n`` that were never in use, or as many as there are."""
        known = len(self.refs)
        more = min(max(n, known), self._most - known)
        self.refs = np.pad(self.refs, (0, more))
        self._base = np.pad(self._base, (0, more))
        return np.arange(known, known + more, dtype=np.int32)


def unused(counts: Iterable[Int32]) -> Int64:
    """Those ever in use that none of these reference counts, of one pool, refers to."""
    every = list(counts)
    total = np.zeros(max(map(len, every)), np.int64)
    for refs in every:
        total[: len(refs)] += refs
    return np.flatnonzero(total == 0)
