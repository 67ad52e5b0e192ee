"""Trails: a sequence's states before tokens that may be taken back, each in a slot of its own.

A rewindable run of tokens is computed as runs of one token, each of which reads the slot that the
one before it wrote. So none of these states is lost, and going back is a change of slot.
"""

from dataclasses import dataclass

import numpy as np

from motet.arrays import Bool, Int32, Int64


@dataclass(frozen=True)
class Trail:
    """The states of a sequence before each of its last tokens. It is no checkpoint: it is neither
    saved nor shared, and ends when the sequence goes on."""

    first: int
    """Where the first of these tokens stands."""
    slots: Int32
    """``[n]``: of the state before each; -1 before a sequence's first token."""

    def slot(self, position: int) -> int | None:
        """The slot of the state before the token at ``position``, if that is one of them."""
        n = position - self.first
        return int(self.slots[n]) if 0 <= n < len(self.slots) else None

    def then(self, slots: Int32) -> "Trail":
        """With those of the tokens that follow."""
        return Trail(self.first, np.concatenate([self.slots, slots]))


@dataclass(frozen=True)
class Cuts:
    """A micro-batch's tokens by set, cut so that a run ends where a state is to be kept."""

    order: Int32
    """``[T]``: rows of the micro-batch."""
    starts: Int32
    """``[R + 1]``: where in ``order`` each run begins; those of a set follow each other."""
    sets: Int64
    """``[R]``: the set of each run."""
    single: Bool
    """``[R]``: whether it is one of a set's last tokens, which may be taken back, alone; other
    tokens are one run, before these."""

    @classmethod
    def of(cls, rows: Int64, rewindable: Bool) -> "Cuts":
        """``rows``: ``[T]``, the set of each token. ``rewindable``: ``[T]``; those before one of
        their set that is not are not, either."""
        order = np.argsort(rows, kind="stable")
        sets, places = rows[order], np.arange(len(rows))
        firsts = np.flatnonzero(np.diff(sets, prepend=-1))
        plain = np.where(rewindable[order], -1, places)
        last_plain = np.repeat(
            np.maximum.reduceat(plain, firsts), np.diff(firsts, append=len(rows))
        )
        single = places > last_plain
        starts = np.union1d(firsts, np.flatnonzero(single))
        return cls(
            order.astype(np.int32),
            np.append(starts, len(rows)).astype(np.int32),
            sets[starts],
            single[starts],
        )
