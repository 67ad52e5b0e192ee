"""One operation, or one batch: drafts of all that memory consists of, changed together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from motet.errors import CapacityError
from motet.memory.attention import AttentionMemory
from motet.memory.checkpoints import Checkpoint, CheckpointDraft, Checkpoints
from motet.memory.checks import cannot_copy, cannot_rewind
from motet.memory.draft import AttentionDraft
from motet.memory.part import Draft, Part
from motet.memory.saved import Places, Saved
from motet.memory.slots import MOST_CHECKPOINTS
from motet.memory.writes import Writes

APART = 512
"""Tokens from one automatic checkpoint to the next."""


@dataclass(frozen=True)
class Contents:
    """All that memory holds at one moment; replaced as a whole, never changed."""

    parts: tuple[Any, ...]
    """The state of each part; that of attention first."""
    checkpoints: Checkpoints


class Changes:
    """A private copy of the bookkeeping: changed freely, then sealed or forgotten."""

    def __init__(
        self, parts: Sequence[Part], held: Contents, *, end: int = 0, checkpoint_bytes: int
    ) -> None:
        """``parts``: attention first. ``end``: room is needed for positions below it."""
        attention, *others = parts
        assert isinstance(attention, AttentionMemory)
        self.attention: AttentionDraft = attention.draft(held.parts[0], end)
        states = zip(others, held.parts[1:], strict=True)
        self.drafts: tuple[Draft, ...] = (
            self.attention,
            *(part.draft(state, end) for part, state in states),
        )
        self._checkpoints = CheckpointDraft(held.checkpoints, self._let_go)
        self._checkpoint_bytes = checkpoint_bytes

    def reachable(self, seq: int, position: int) -> int:
        """The greatest position up to ``position`` that ``seq`` can be cut back to exactly."""
        reached = self._reachable_without(seq, position)
        return max(reached, self._checkpoints.nearest(seq, position))

    def cut(self, seq: int, position: int) -> None:
        """Forget ``position`` and all that follows. Raises CannotRewind."""
        holds = None
        if self._reachable_without(seq, position) != position:
            holds = self._holds_at(seq, position)
            if holds is None:
                raise cannot_rewind(seq, position, self.reachable(seq, position))
        for draft, hold in self._with(holds):
            draft.cut(seq, position, hold)
        self._checkpoints.cut(seq, position)

    def fork(self, source: int, target: int, position: int) -> None:
        """Give ``target``, which is empty, what ``source`` holds before ``position``.

        Raises CannotRewind.
        """
        holds = None
        if self._reachable_without(source, position) != position:
            holds = self._holds_at(source, position)
            if holds is None:
                raise cannot_copy(source, position, self.reachable(source, position))
        for draft, hold in self._with(holds):
            draft.fork(source, target, position, hold)
        self._checkpoints.fork(source, target, position)

    def remove(self, seq: int, start: int, end: int) -> None:
        """Take positions start … end - 1 out of attention layers; others have to be without."""
        self.attention.remove(seq, start, end)
        self._checkpoints.cut(seq, start)

    def insert(self, source: int, target: int, start: int, end: int) -> None:
        """Add positions start … end - 1 of ``source`` to ``target``, in attention layers."""
        self.attention.copy(source, target, start, end)
        self._checkpoints.cut(target, start)

    def shift(self, seq: int, start: int, end: int, delta: int) -> None:
        """Move positions start … end - 1 by ``delta``; only without recurrent layers may they
        pass others."""
        self.attention.shift(seq, start, end, delta)
        if self.attention.slides:  # what its pages hold has its place by position
            self._checkpoints.cut(seq, min(start, start + delta))
        else:
            self._checkpoints.shift(seq, start, end, delta)

    def adopt(self, leader: int, member: int) -> None:
        """Let ``member``, whose past equals ``leader``'s, go on with the memory of ``leader``."""
        for draft in self.drafts:
            draft.adopt(leader, member)
        self._checkpoints.adopt(leader, member)

    def due(self, writes: Writes) -> bool:
        """Whether so many tokens were added to some sequence that it should have a checkpoint."""
        far = writes.end - self._checkpoints.latest[writes.members] >= APART
        return bool(far.any())

    def is_due(self, seq: int) -> bool:
        """Whether ``seq`` is such a one."""
        return self.attention.end(seq) - int(self._checkpoints.latest[seq]) >= APART

    def checkpoint(self, members: Sequence[int], *, asked: bool = False) -> None:
        """Let ``members``, which hold the same, come back to where they end.

        Others are dropped for it when the budget is spent, but none that was ``asked`` for in
        favour of one that was not. Raises CapacityError if it is asked for and exceeds the budget
        by itself.
        """
        position = self.attention.end(members[0])
        self._checkpoints.latest[list(members)] = position
        present = self._checkpoints.find(members[0], position)
        if present is not None:
            self._checkpoints.use(present, asked=asked)
            return
        new = Checkpoint(tuple(draft.hold(members[0]) for draft in self.drafts))
        size = sum(draft.hold_bytes(hold) for draft, hold in self._with(new.holds))
        if size > self._checkpoint_bytes:
            if asked:
                raise CapacityError(
                    f"a checkpoint of sequence {members[0]} takes {size} bytes, and"
                    f" checkpoint_bytes is {self._checkpoint_bytes}",
                    hint="give the context a larger checkpoint_bytes",
                )
            self._let_go(new)
            return
        self._checkpoints.add(members, position, new, asked)
        while self._over_budget() and self._checkpoints.evict() is not new:
            pass

    def fill(self, saved: Saved, seqs: np.ndarray) -> tuple[Places, ...]:
        """Give ``seqs``, which hold nothing, what was saved; where each pool's rows belong.

        Checkpoints are dropped when the budget is spent, as ever. Raises CapacityError.
        """
        filled = [draft.fill(seqs, saved) for draft in self.drafts]
        holds = zip(*(each.holds for each in filled), strict=True)
        self._checkpoints.fill(seqs, saved.marks, list(map(Checkpoint, holds)))
        while len(self._checkpoints) and self._over_budget():
            self._checkpoints.evict()
        return tuple(places for each in filled for places in each.places)

    def seal(self) -> Contents:
        """All as it has become."""
        return Contents(tuple(draft.seal() for draft in self.drafts), self._checkpoints.seal())

    def _reachable_without(self, seq: int, position: int) -> int:
        """As ``reachable``, without checkpoints."""
        first, end = self.attention.first(seq), self.attention.end(seq)
        if position >= end:
            return position
        nearest, before = position, -1
        while nearest > first and nearest != before:
            before = nearest
            nearest = min(draft.reachable(seq, nearest) for draft in self.drafts)
        return max(nearest, min(first, position))

    def _holds_at(self, seq: int, position: int) -> tuple[Any, ...] | None:
        checkpoint = self._checkpoints.find(seq, position)
        if checkpoint is None:
            return None
        self._checkpoints.use(checkpoint)
        return checkpoint.holds

    def _with(self, holds: tuple[Any, ...] | None) -> Iterator[tuple[Draft, Any]]:
        return zip(self.drafts, holds or (None,) * len(self.drafts), strict=True)

    def _let_go(self, checkpoint: Checkpoint) -> None:
        for draft, hold in self._with(checkpoint.holds):
            draft.let_go(hold)

    def _over_budget(self) -> bool:
        return (
            len(self._checkpoints) > MOST_CHECKPOINTS
            or sum(draft.held_bytes for draft in self.drafts) > self._checkpoint_bytes
        )
