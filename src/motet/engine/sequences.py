"""The context's sequences: which are in use, and the prefix cache that the idle ones are."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from motet.arrays import Int32, common_prefix
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

    When a sequence is needed, the least recently used one is evicted, but none that is being saved
    or that is kept for a conversation.
    """

    def __init__(self, memory: Memory, count: int) -> None:
        self._memory = memory
        self._all = range(count)
        self._free = list(self._all)
        """Not in use, in the order of eviction: empty ones, then idle ones."""
        self._kept: set[int] = set()
        """Those of conversations, in use or not."""
        self._forgotten: set[int] = set()
        """To be emptied when they are saved."""

    def __len__(self) -> int:
        """How many can be given to answers."""
        return len(self._available())

    @property
    def any_kept(self) -> bool:
        """Whether conversations have any."""
        return bool(self._kept)

    @property
    def idle(self) -> list[int]:
        """Those that are not in use and hold tokens, least recently used first."""
        held = [seq for seq in self._free if self._memory.length(seq)]
        return [seq for seq in held if seq not in self._forgotten]

    @property
    def evictable(self) -> list[int]:
        """The idle ones that are not being saved, least recently used first."""
        return [seq for seq in self._available() if self._memory.length(seq)]

    def acquire(self, prompt: Sequence[int], count: int, reuse: bool) -> Acquired:
        """Sequences for ``count`` answers to ``prompt``; there must be so many.

        The first begins as the prompt does, if any sequence does, idle or in use. At least the
        last token of the prompt is left to compute. The others are empty.
        """
        available = self._available()
        ids = np.asarray(prompt[:-1], np.int32)
        best = self._best(ids, self._all, self._free) if reuse else None
        taken, reused = available[:count], 0
        if best and best.usable:
            if best.seq in taken or (best.seq in available and best.rest <= CUT_LIMIT):
                taken = [best.seq, *(seq for seq in available if seq != best.seq)][:count]
            self._empty(seq for seq in taken if seq != best.seq)
            reused = self._begin(best.seq, taken[0], best.usable)
        else:
            self._empty(taken)
        self._free = [seq for seq in self._free if seq not in taken]
        return Acquired(taken, reused, best.common if best else 0)

    def acquire_own(
        self, seq: int, prompt: Sequence[int], count: int, reuse: bool, *, others: bool
    ) -> Acquired:
        """``seq``, which is idle or kept, and if ``count`` is more than 1 further sequences, of
        which there must be so many, for answers to ``prompt``.

        It goes on from what it holds of the prompt itself, or from more that another sequence does
        if ``others``; from nothing without ``reuse``. The further ones are empty.
        """
        among = self._all if others else (seq,)
        best = self._best(np.asarray(prompt[:-1], np.int32), among, (seq,)) if reuse else None
        further: list[int] = []
        if count > 1:
            further = [each for each in self._available() if each != seq][: count - 1]
            self._empty(further)
        self._free = [each for each in self._free if each not in (seq, *further)]
        if best is None or best.seq != seq or not best.usable:
            self._empty((seq,))
        reused = self._begin(best.seq, seq, best.usable) if best else 0
        return Acquired([seq, *further], reused, best.common if best else 0)

    def may_acquire_own(self, seq: int, *, kept: bool) -> bool:
        """Whether ``seq`` is not being saved, and ``kept`` for a conversation or else idle."""
        if kept:
            return seq in self._kept and seq not in self._memory.being_exported
        return seq in self._available()

    def next_free(self, but: int = -1) -> int:
        """The next to be evicted, and not ``but``. Raises CapacityError when all are in use."""
        free = next((seq for seq in self._available() if seq != but), None)
        if free is None:
            raise CapacityError(
                f"all {len(self._all)} sequences are in use",
                hint="wait for the answers under way, or make the LLM with more max_sequences",
            )
        return free

    def keep(self, seq: int) -> None:
        """``seq`` is a conversation's until it is taken back."""
        self._kept.add(seq)
        if seq in self._free:
            self._free.remove(seq)

    def take_back(self, seq: int) -> None:
        """``seq``, which is not in use, is no conversation's any more, and is emptied."""
        self._kept.remove(seq)
        self._free.insert(0, seq)
        self._forgotten.add(seq)
        self._available()

    def reusable(self, prompt: Int32) -> int:
        """Tokens of a prompt that it need not compute, as memory is now."""
        best = self._best(prompt[:-1], self._all, self._free)
        return best.usable if best else 0

    def release(self, seq: int, keep: bool) -> None:
        """A sequence is no longer in use. ``keep``: later prompts may go on from what it holds."""
        if not keep:
            self._memory.remove(seq)
        if seq in self._kept:
            return
        self._free.insert(len(self._free) if self._memory.length(seq) else 0, seq)

    def forget(self) -> None:
        """Empty all that are not in use, and give their memory back to the system.

        Those that are being saved are emptied a little later.
        """
        available = self._available()
        self._forgotten |= set(self._free) - set(available)
        self._empty(available)
        self._memory.trim()

    def evict(self) -> bool:
        """Empty the least recently used of those that are not in use; whether there was one."""
        oldest = self.evictable[:1]
        self._empty(oldest)
        return bool(oldest)

    def least_recent(self, count: int) -> list[int]:
        """So many that are not in use, the next ones to be evicted.

        Raises CapacityError when there are not so many.
        """
        available = self._available()
        if count > len(available):
            raise CapacityError(
                f"{count} conversations were saved, and {len(available)} sequences are free",
                hint="wait for the answers under way, or make the LLM with more max_sequences",
            )
        return available[:count]

    def used(self, sequences: Sequence[int]) -> None:
        """These, which are not in use, are the most recently used ones."""
        self._free = [seq for seq in self._free if seq not in sequences] + list(sequences)

    def _available(self) -> list[int]:
        """Not in use and not being saved, in the order of eviction."""
        saving = self._memory.being_exported
        if self._forgotten:
            self._empty(self._forgotten - saving)
            self._forgotten &= saving
        return [seq for seq in self._free if seq not in saving]

    def _empty(self, sequences: Iterable[int]) -> None:
        for seq in sequences:
            self._memory.remove(seq)

    def _best(
        self, prompt: Int32, among: Iterable[int], preferred: Collection[int]
    ) -> _Match | None:
        """The sequence that begins with most of ``prompt``; of equal ones one that is preferred,
        and then that with least more."""
        best = None
        matches = [(self._common(seq, prompt), seq) for seq in among]
        for common, seq in sorted(matches, reverse=True):
            if common == 0 or (best and common < best.usable):
                break
            usable = self._memory.reachable(seq, common)
            match = _Match(seq, common, usable, self._memory.length(seq) - usable)
            if best is None or _rank(match, preferred) > _rank(best, preferred):
                best = match
        return best

    def _common(self, seq: int, prompt: Int32) -> int:
        """Tokens at the beginning of ``seq`` and ``prompt`` that are the same."""
        if not self._memory.length(seq):
            return 0
        return common_prefix(self._memory.tokens(seq), prompt)

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


def _rank(match: _Match, preferred: Collection[int]) -> tuple[int, bool, int]:
    return match.usable, match.seq in preferred, -match.rest
