"""The context's sequences: which are in use, and the prefix cache that the idle ones are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from motet.arrays import Int32
from motet.errors import CannotRewind, CapacityError, MotetError
from motet.memory import Memory

CUT_LIMIT = 16
"""An idle sequence that goes further than a prompt by no more tokens is cut, not forked."""


@dataclass(frozen=True)
class Acquired:
    """Sequences for a prompt's answers, the first of which holds ``reused`` tokens of the prompt.

    ``common``: tokens of the longest prefix that the prompt has in common with the best match.
    """

    sequences: list[int]
    reused: int
    common: int


@dataclass(frozen=True)
class _Match:
    seq: int
    common: int
    usable: int
    """Of the common tokens, as many as memory can go back to."""
    rest: int
    """Tokens that the sequence holds beyond these."""


class Sequences:
    """Gives sequences to answers; what a released one holds stays in memory for later prompts.

    When a sequence is needed, the least recently used one is evicted.
    """

    def __init__(self, memory: Memory, count: int) -> None:
        self._memory = memory
        self._all = range(count)
        self._free = list(self._all)
        """Not in use, in the order of eviction: empty ones, then idle ones."""

    def __len__(self) -> int:
        """How many are not in use."""
        return len(self._free)

    @property
    def idle(self) -> list[int]:
        """Those that are not in use and hold tokens, least recently used first."""
        return [seq for seq in self._free if self._memory.length(seq)]

    def acquire(self, prompt: Sequence[int], count: int, reuse: bool) -> Acquired:
        """Sequences for ``count`` answers to ``prompt``; there must be so many.

        The first begins as the prompt does, if any sequence does, idle or in use. At least the
        last token of the prompt is left to compute. The others are empty.
        """
        best = self._best(np.asarray(prompt[:-1], np.int32)) if reuse else None
        taken, reused = self._free[:count], 0
        if best and best.usable:
            if best.seq in taken or (best.seq in self._free and best.rest <= CUT_LIMIT):
                taken = [best.seq, *(seq for seq in self._free if seq != best.seq)][:count]
            self._empty(seq for seq in taken if seq != best.seq)
            reused = self._begin(best.seq, taken[0], best.usable)
        else:
            self._empty(taken)
        self._free = [seq for seq in self._free if seq not in taken]
        return Acquired(taken, reused, best.common if best else 0)

    def release(self, seq: int, keep: bool) -> None:
        """A sequence is no longer in use. ``keep``: later prompts may go on from what it holds."""
        if not keep:
            self._memory.remove(seq)
        self._free.insert(len(self._free) if self._memory.length(seq) else 0, seq)

    def forget(self) -> None:
        """Empty all that are not in use, and give their memory back to the system."""
        self._empty(self._free)
        self._memory.trim()

    def evict(self) -> bool:
        """Empty the least recently used of those that are not in use; whether there was one."""
        oldest = self.idle[:1]
        self._empty(oldest)
        return bool(oldest)

    def make_room(self, saved: Sequence[int]) -> dict[int, int]:
        """For each of the saved sequences one that is not in use and from now on is empty.

        Raises CapacityError when there are not so many.
        """
        if len(saved) > len(self._free):
            raise CapacityError(
                f"{len(saved)} conversations were saved, and {len(self._free)} sequences are free",
                hint="wait for the answers under way, or make the LLM with more max_sequences",
            )
        taken = self._free[: len(saved)]
        self._empty(taken)
        return dict(zip(saved, taken, strict=True))

    def restored(self, sequences: Iterable[int]) -> None:
        """These hold something again, and are the most recently used ones."""
        back = list(sequences)
        self._free = [seq for seq in self._free if seq not in back] + back

    def _empty(self, sequences: Iterable[int]) -> None:
        for seq in sequences:
            self._memory.remove(seq)

    def _best(self, prompt: Int32) -> _Match | None:
        """The sequence that begins with most of ``prompt``; of equal ones that with least more."""
        best = None
        matches = [(self._common(seq, prompt), seq) for seq in self._all]
        for common, seq in sorted(matches, reverse=True):
            if common == 0 or (best and common < best.usable):
                break
            usable = self._memory.reachable(seq, common)
            match = _Match(seq, common, usable, self._memory.length(seq) - usable)
            if best is None or self._rank(match) > self._rank(best):
                best = match
        return best

    def _rank(self, match: _Match) -> tuple[int, bool, int]:
        return match.usable, match.seq in self._free, -match.rest

    def _common(self, seq: int, prompt: Int32) -> int:
        """Tokens at the beginning of ``seq`` and ``prompt`` that are the same."""
        if not self._memory.length(seq):
            return 0
        held = self._memory.tokens(seq)[: len(prompt)]
        other = np.flatnonzero(held != prompt[: len(held)])
        return int(other[0]) if other.size else len(held)

    def _begin(self, source: int, target: int, end: int) -> int:
        """Let ``target``, empty or ``source`` itself, hold the first tokens of ``source``.

        Returns how many: ``end``, or what memory can do.
        """
        while end > 0:
            try:
                if source == target:
                    self._memory.remove(source, end)
                else:
                    self._memory.copy(source, target, 0, end)
                return end
            except CannotRewind as error:
                end = min(error.nearest, end - 1)
            except MotetError:  # no room for a fork; the prompt is computed instead
                break
        self._memory.remove(target)
        return 0
