"""One operation, or one batch: drafts of all that memory consists of, changed together.

A draft is changed freely, then sealed or forgotten. A decode is planned whole: every micro-batch
has its place before the first one is computed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from motet.arrays import Int32, Int64
from motet.errors import BatchError, CannotRewind, CapacityError
from motet.kernels import Kernels
from motet.kernels.interface import PagedKV
from motet.kernels.interface_recurrent import RecurrentState
from motet.memory.cache import Cache, CacheDraft, CacheKey, CacheView
from motet.memory.checkpoints import (
    CHECKPOINT_EVERY,
    MOST_CHECKPOINTS,
    Checkpoint,
    CheckpointDraft,
    Checkpoints,
    RunEdges,
    run_edges,
)
from motet.memory.cross import CrossDraft
from motet.memory.export import Exports
from motet.memory.saved import Places, Saved
from motet.memory.sequence_table import SequenceState, SequenceTable
from motet.memory.slot_mapping import MicroBatch, SlotMapping
from motet.memory.validation import cannot_copy, cannot_rewind


class MemoryState(NamedTuple):
    """All that memory holds at one moment; replaced as a whole, never changed."""

    sequences: SequenceState
    caches: tuple[Any, ...]
    """The state of each cache."""
    checkpoints: Checkpoints


class MicroBatchPlan(NamedTuple):
    """One micro-batch's view of memory; call ``begin`` right before computing it."""

    positions: Int32
    """``[T]``: where in its sequence each token stands."""
    views: tuple[CacheView, ...]
    view_of: Mapping[CacheKey, int]
    """The view that serves each cache of each layer."""

    def begin(self) -> None:
        """Do what has to be done before the micro-batch is computed."""
        for view in self.views:
            view.begin()

    def cache(self, layer: int, k: int = 0) -> PagedKV | RecurrentState:
        """What the ``k``-th cache of ``layer`` reads and writes."""
        return self.views[self.view_of[layer, k]].cache((layer, k))


@dataclass(frozen=True)
class DecodePlan:
    """The micro-batches to compute, in order. Memory changes when ``commit`` is called."""

    micro_batches: tuple[MicroBatchPlan, ...]
    begin: Callable[[], None]
    """To be called before the first one: forgets what has to give way."""
    commit: Callable[[], None]


@dataclass(frozen=True)
class RestorePlan:
    """Places for what was saved. Memory changes when ``commit`` is called, and only then."""

    places: tuple[Places, ...]
    """For each cache."""
    begin: Callable[[], None]
    """To be called before anything is written there: forgets what has to give way."""
    commit: Callable[[], None]


class Transaction:
    """A private copy of the bookkeeping: changed freely, then sealed or forgotten."""

    def __init__(
        self,
        table: SequenceTable,
        caches: Sequence[Cache],
        held: MemoryState,
        *,
        end: int = 0,
        checkpoint_bytes: int,
        kept: Exports,
    ) -> None:
        """``end``: room is needed for positions below it. ``kept``: have checkpoints that others
        may not take the place of."""
        self.sequences = table.draft(held.sequences, end)
        self._caches = caches
        self._drafts: tuple[CacheDraft, ...] = tuple(
            cache.draft(state, self.sequences)
            for cache, state in zip(caches, held.caches, strict=True)
        )
        # Not bound to this object: nothing here is to refer to itself, and wait to be collected.
        self._release = partial(_release, self._drafts)
        self._checkpoints = CheckpointDraft(held.checkpoints, self._release)
        self._checkpoint_bytes = checkpoint_bytes
        self._kept = kept

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
        self.sequences.cut(seq, position)
        for draft, hold in self._with(holds):
            draft.cut(seq, position, hold)
        self._checkpoints.cut(seq, position)

    def rewind(self, seq: int, position: int) -> None:
        """As ``cut``, wherever ``seq`` ends; it will not go back farther. Raises CannotRewind."""
        if position < self.sequences.end(seq):
            self.cut(seq, position)
        else:
            for draft in self._drafts:
                draft.settle(seq)

    def forget(self, seq: int) -> None:
        """Forget all of ``seq``, what was encoded for it included."""
        self.cut(seq, 0)
        for draft in self._drafts:
            draft.forget(seq)

    def fork(self, source: int, target: int, position: int) -> None:
        """Give ``target``, which is empty, what ``source`` holds before ``position``.

        Raises CannotRewind.
        """
        holds = None
        if self._reachable_without(source, position) != position:
            holds = self._holds_at(source, position)
            if holds is None:
                raise cannot_copy(source, position, self.reachable(source, position))
        self.sequences.fork(source, target, position)
        for draft, hold in self._with(holds):
            draft.fork(source, target, position, hold)
        self._checkpoints.fork(source, target, position)

    def remove(self, seq: int, start: int, end: int) -> None:
        """Take positions start … end - 1 out; no cache may be ``ordered``."""
        self.sequences.remove(seq, start, end)
        for draft in self._drafts:
            draft.remove(seq, start, end)
        self._checkpoints.cut(seq, start)

    def insert(self, source: int, target: int, start: int, end: int) -> None:
        """Add positions start … end - 1 of ``source`` to ``target``; no cache may be ``ordered``.

        Raises CannotRewind if the next token would see what a layer no longer holds.
        """
        moves = self.sequences.insert(source, target, start, end)
        for draft in self._drafts:
            draft.insert(source, target, start, end, moves)
        self._require_complete(target)
        self._checkpoints.cut(target, start)

    def shift(self, seq: int, start: int, end: int, delta: int) -> None:
        """Move positions start … end - 1 by ``delta``; where a cache is ``ordered`` they may not
        pass others. Raises as ``insert`` does."""
        moves = self.sequences.shift(seq, start, end, delta)
        for draft in self._drafts:
            draft.shift(seq, start, end, delta, moves)
        self._require_complete(seq)
        if any(cache.holds_positions for cache in self._caches):
            self._checkpoints.cut(seq, min(start, start + delta))
        else:
            self._checkpoints.shift(seq, start, end, delta)

    def encode(
        self, parts: Sequence[MicroBatch], cache: int, view_of: Mapping[CacheKey, int]
    ) -> tuple[MicroBatchPlan, ...]:
        """Places for what an encoder makes of whole sequences, which hold no tokens of their own.

        ``cache``: the number of the one that keeps it. Raises CapacityError when pages run out.
        """
        draft = self._drafts[cache]
        assert isinstance(draft, CrossDraft)
        views = [draft.encode(SlotMapping.of(part)) for part in parts]
        return tuple(
            MicroBatchPlan(part.positions, (view,), view_of)
            for part, view in zip(parts, views, strict=True)
        )

    def plan(
        self,
        ubatches: Sequence[MicroBatch],
        kernels: Kernels,
        view_of: Mapping[CacheKey, int],
        *,
        checkpoints: bool,
    ) -> tuple[MicroBatchPlan, ...]:
        """Places for the tokens of all micro-batches, which continue the sequences in order.

        ``checkpoints``: make them on the way, where runs of several tokens begin and end, and
        wherever enough tokens have come since the last one, but before those that may be taken
        back. Raises CapacityError when pages or
        slots run out, BatchError for a token whose sequences have different pasts.
        """
        edges = run_edges(ubatches) if checkpoints else RunEdges()
        plans: list[MicroBatchPlan] = []
        for number, ubatch in enumerate(ubatches):
            self._unite(ubatch)
            for members in edges.before.get(number, ()):
                if self.sequences.end(members[0]):
                    self.checkpoint(members)
            for members in edges.rewindable.get(number, ()):
                if self._due(members[0], self.sequences.end(members[0])):
                    self.checkpoint(members)
            mapping = SlotMapping.of(ubatch)
            placed = self.sequences.advance(mapping, kernels)
            views = tuple(draft.advance(mapping, placed) for draft in self._drafts)
            plans.append(MicroBatchPlan(ubatch.positions, views, view_of))
            for members in edges.after.get(number, ()):
                self.checkpoint(members)
            if checkpoints and bool(self._due(mapping.members, mapping.end).any()):
                for members in ubatch.sets:
                    if members in edges.open.get(number, ()):
                        continue
                    if self._due(members[0], self.sequences.end(members[0])):
                        self.checkpoint(members)
        return tuple(plans)

    def checkpoint(self, members: Sequence[int], *, asked: bool = False) -> None:
        """Let ``members``, which hold the same, come back to where they end.

        Others are dropped for it when the budget is spent, but none that was ``asked`` for in
        favour of one that was not. Raises CapacityError if it is asked for and exceeds the budget
        by itself.
        """
        position = self.sequences.end(members[0])
        self._checkpoints.latest[list(members)] = position
        present = self._checkpoints.find(members[0], position)
        if present is not None:
            self._checkpoints.use(present, asked=asked)
            return
        new = Checkpoint(tuple(draft.hold(members[0]) for draft in self._drafts))
        size = sum(draft.hold_bytes(hold) for draft, hold in self._with(new.holds))
        if size > self._checkpoint_bytes:
            if asked:
                raise CapacityError(
                    f"a checkpoint of sequence {members[0]} takes {size} bytes, and"
                    f" checkpoint_bytes is {self._checkpoint_bytes}",
                    hint="give the context a larger checkpoint_bytes",
                )
            self._release(new)
            return
        self._checkpoints.add(members, position, new, asked)
        self._keep_to_budget()

    def fill(self, saved: Saved, seqs: Int64) -> tuple[Places, ...]:
        """Give ``seqs``, which hold nothing, what was saved; where the tokens belong, and then
        each cache's rows.

        Nothing is written, not even the tokens. Checkpoints are dropped when the budget is spent,
        as ever. Raises CapacityError, CannotRewind if a next token would see what was not saved.
        """
        places = self.sequences.fill(seqs, saved.sequences)
        filled = [
            draft.fill(seqs, rows, places, saved.checkpoints)
            for draft, rows in zip(self._drafts, saved.caches, strict=True)
        ]
        for seq in seqs.tolist():
            self._require_complete(seq)
        holds = zip(*(each.holds for each in filled), strict=True)
        self._checkpoints.fill(seqs, saved.marks, list(map(Checkpoint, holds)))
        self._keep_to_budget()
        return places, *(each.places for each in filled)

    def drop_automatic_checkpoints(self) -> int:
        """Drop half of those that were not asked for, or the last one; how many these were."""
        return self._checkpoints.drop_half(asked=False)

    def drop_checkpoints(self) -> int:
        """Drop half of those that were asked for and are not being saved, or the last one; how many
        these were."""
        return self._checkpoints.drop_half(asked=True, kept=self._kept.checkpoints)

    @property
    def used_bytes(self) -> list[int]:
        """What each cache has in use until this is done: for what is held, and for what comes."""
        return [draft.used_bytes for draft in self._drafts]

    def write(self) -> None:
        """Copy what was inserted or shifted; nothing is written before."""
        for draft in self._drafts:
            draft.write()

    def seal(self) -> MemoryState:
        """All as it has become."""
        return MemoryState(
            self.sequences.seal(),
            tuple(draft.seal() for draft in self._drafts),
            self._checkpoints.seal(),
        )

    def _unite(self, ubatch: MicroBatch) -> None:
        """Let sequences that share a token share its past. Raises BatchError if they differ."""
        for row, (leader, *members) in enumerate(ubatch.sets):
            for member in members:
                if not self._agree(leader, member):
                    entry = int(ubatch.entries[np.flatnonzero(ubatch.rows == row)[0]])
                    raise BatchError(
                        f"entry {entry} is shared by sequences {leader} and {member}, whose pasts"
                        " differ",
                        entry=entry,
                        hint=f"copy sequence {leader} to {member}, or add the token to each",
                    )
                self.sequences.adopt(leader, member)
                for draft in self._drafts:
                    draft.adopt(leader, member)
                self._checkpoints.adopt(leader, member)

    def _agree(self, leader: int, member: int) -> bool:
        """Whether two sequences hold the same, bit for bit."""
        return self.sequences.agree(leader, member) and all(
            draft.agrees(leader, member) for draft in self._drafts
        )

    def _due(self, seqs: Int64 | int, ends: Int64 | int) -> Any:
        """Whether so many tokens were added to a sequence that it should have a checkpoint."""
        latest: Any = self._checkpoints.latest[seqs]
        return ends - latest >= CHECKPOINT_EVERY

    def _reachable_without(self, seq: int, position: int) -> int:
        """As ``reachable``, without checkpoints."""
        if position >= self.sequences.end(seq):
            return position
        exact = self._exact(seq, position)
        return exact if exact == position else max(exact, min(self.sequences.first(seq), position))

    def _exact(self, seq: int, position: int) -> int:
        """The greatest position up to ``position`` that every cache can be cut back to."""
        nearest, before = position, -1
        while nearest > 0 and nearest != before:
            before = nearest
            nearest = min((d.reachable(seq, nearest) for d in self._drafts), default=nearest)
        return nearest

    def _require_complete(self, seq: int) -> None:
        """Raise CannotRewind if the next token would see what a layer no longer holds."""
        end = self.sequences.end(seq)
        for draft in self._drafts:
            missing = draft.missing(seq)
            if missing is not None:
                raise CannotRewind(
                    f"position {end} of sequence {seq} would see position {missing}, which a layer"
                    " no longer holds",
                    seq=seq,
                    position=end,
                    nearest=self._exact(seq, end),
                    hint="decode the tokens again",
                )

    def _holds_at(self, seq: int, position: int) -> tuple[Any, ...] | None:
        checkpoint = self._checkpoints.find(seq, position)
        if checkpoint is None:
            return None
        self._checkpoints.use(checkpoint)
        return checkpoint.holds

    def _with(self, holds: tuple[Any, ...] | None) -> Iterator[tuple[CacheDraft, Any]]:
        return zip(self._drafts, holds or (None,) * len(self._drafts), strict=True)

    def _keep_to_budget(self) -> None:
        if self._over_budget():
            self._checkpoints.evict(self._over_budget, self._kept.checkpoints)

    def _over_budget(self) -> bool:
        return (
            len(self._checkpoints) > MOST_CHECKPOINTS
            or sum(draft.held_bytes for draft in self._drafts) > self._checkpoint_bytes
        )


def _release(drafts: Sequence[CacheDraft], checkpoint: Checkpoint) -> None:
    for draft, hold in zip(drafts, checkpoint.holds, strict=True):
        draft.release(hold)
