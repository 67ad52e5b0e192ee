"""What the sequences of a context remember, and the operations on it."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from motet.errors import CapacityError, MotetError
from motet.memory.arguments import FOREVER, position_range, sequence_number, whole_number
from motet.memory.attention import AttentionMemory
from motet.memory.changes import Changes, Contents
from motet.memory.checkpoints import Checkpoints
from motet.memory.checks import (
    cannot_take_out,
    check_fork,
    check_positions,
    check_shift,
    check_tables,
    check_target,
    check_tokens,
)
from motet.memory.part import Part
from motet.memory.plan import Plan
from motet.memory.planning import plan_steps
from motet.memory.recurrent import RecurrentMemory
from motet.memory.saved import Pool, Saved
from motet.memory.saving import Filling, check_room, export, fill
from motet.memory.slots import SlotPool
from motet.memory.store import PagedStore, State
from motet.memory.writes import MicroBatch
from motet.spec import FullAttention, LayerSpec, Recurrent


class Memory:
    """Tokens of ``max_sequences`` sequences, and what the model's layers keep of them.

    Positions are counted from 0. Every operation changes all of its part or, when it raises or
    is interrupted, nothing: the new state is built beside the old one and put in its place.
    """

    def __init__(
        self,
        layers: Sequence[LayerSpec],
        *,
        max_sequences: int,
        max_tokens: int,
        context_length: int,
        ubatch: int,
        kv_type: str,
        checkpoint_bytes: int,
    ) -> None:
        """Of a model with these layers.

        ``max_tokens``: held by all sequences together. ``context_length``: positions that a
        sequence has. ``ubatch``: tokens of the largest micro-batch. ``checkpoint_bytes``: kept
        for checkpoints at most, beside what sequences hold.
        """
        self.max_sequences = max_sequences
        self.max_tokens = max_tokens
        self.context_length = context_length
        self.rewinds_anywhere = all(isinstance(spec, FullAttention) for spec in layers)
        """Whether any position can be gone back to, so that checkpoints are of no use."""
        self.checkpoint_bytes = 0 if self.rewinds_anywhere else checkpoint_bytes
        store = PagedStore(
            layers,
            max_sequences=max_sequences,
            max_tokens=max_tokens,
            ubatch=ubatch,
            kv_type=kv_type,
            checkpoint_bytes=self.checkpoint_bytes,
        )
        self._attention = AttentionMemory(store)
        self._parts: tuple[Part, ...] = (self._attention,)
        self._recurrent = None
        if any(isinstance(spec, Recurrent) for spec in layers):
            pool = SlotPool(
                layers, max_sequences=max_sequences, checkpoint_bytes=self.checkpoint_bytes
            )
            self._recurrent = RecurrentMemory(pool, max_sequences)
            self._parts += (self._recurrent,)
        self._part_of = {i: n for n, part in enumerate(self._parts) for i in part.layers}
        self._now = self._empty()
        self._lock = threading.Lock()

    def length(self, seq: int) -> int:
        """Tokens that ``seq`` holds."""
        return int(self._state.lengths[self._seq(seq)])

    def positions(self, seq: int) -> tuple[int, int] | None:
        """First and last position that ``seq`` holds; None when it is empty."""
        held = self._attention.positions(self._state, self._seq(seq))
        return (int(held[0]), int(held[-1])) if held.size else None

    def tokens(self, seq: int) -> np.ndarray:
        """The token ids that ``seq`` holds, int32 ``[length]``, in order of position."""
        return self._attention.ids(self._state, self._seq(seq))

    @property
    def ends(self) -> np.ndarray:
        """int64 ``[S]``: where each sequence goes on, 0 where it is empty. Not to be changed."""
        return self._state.ends

    def remove(self, seq: int, start: int = 0, end: int | None = None) -> None:
        """Forget the tokens at positions start … end - 1, by default to the last.

        Other positions stay as they are: removing from the middle leaves a gap. Raises
        CannotRewind, with the nearest position that can be reached, if no checkpoint has what the
        token that follows has to see and a layer no longer holds it; recurrent layers can't
        forget from the middle.
        """
        seq, (start, stop) = self._seq(seq), position_range(start, end)
        with self.exclusive():
            removed = self._positions(seq, start, stop)
            if not removed.size:
                return
            changes = self._changes()
            if stop >= int(self._state.ends[seq]):
                changes.cut(seq, start)
            elif self._recurrent:
                raise cannot_take_out(seq, removed, changes.reachable(seq, start))
            else:
                changes.remove(seq, start, stop)
            self._now = changes.seal()

    def copy(self, source: int, target: int, start: int = 0, end: int | None = None) -> None:
        """Give ``target`` the tokens of ``source`` at positions start … end - 1.

        Nothing is computed and whole pages are shared; a page or state is copied when one of the
        two goes on. Copying onto itself does nothing. Raises OptionError where ``target`` holds
        one of these positions already, CannotRewind if no checkpoint has what ``target``'s next
        token has to see and a layer no longer holds it, CapacityError when no page is free. With
        recurrent layers ``start`` is where ``source`` begins, and ``target`` is empty.
        """
        source, target = self._seq(source), self._seq(target)
        start, stop = position_range(start, end)
        with self.exclusive():
            given = self._positions(source, start, stop)
            if source == target or not given.size:
                return
            present = self._positions(target)
            check_target(source, target, given, present)
            first, last = int(self._positions(source)[0]), int(given[-1])
            if self._recurrent:
                check_fork(source, target, given, first, bool(present.size))
            changes = self._changes()
            if given[0] > first or present.size:
                changes.insert(source, target, start, last + 1)
            else:
                changes.fork(source, target, last + 1)
            self._now = changes.seal()

    def keep(self, seq: int) -> None:
        """Clear every sequence but ``seq``."""
        seq = self._seq(seq)
        with self.exclusive():
            changes = self._changes()
            for other in np.flatnonzero(self._state.ends).tolist():
                if other != seq:
                    changes.cut(other, 0)
            self._now = changes.seal()

    def clear(self) -> None:
        """Forget everything."""
        with self.exclusive():
            self._now = self._empty()

    def shift(self, seq: int, start: int, end: int | None, delta: int) -> None:
        """Move the tokens at positions start … end - 1 by ``delta`` positions.

        Exact: keys are stored without their position, and recurrent states have none. Raises
        OptionError where a token would come below 0, onto another one or, of recurrent layers,
        past another one; CapacityError beyond the model's context or when no page is free;
        CannotRewind as ``copy`` does.
        """
        seq, (start, stop), delta = (
            self._seq(seq),
            position_range(start, end),
            whole_number("delta", delta),
        )
        with self.exclusive():
            moved = self._positions(seq, start, stop)
            if not moved.size or delta == 0:
                return
            staying = np.setdiff1d(self._positions(seq), moved, assume_unique=True)
            ordered = self._recurrent is not None
            check_shift(seq, moved, staying, delta, self.context_length, ordered=ordered)
            last = int(moved[-1])
            check_tables(last + delta + 1, self.max_sequences)
            changes = self._changes(last + delta + 1)
            changes.shift(seq, start, last + 1, delta)
            self._now = changes.seal()

    def checkpoint(self, seq: int) -> None:
        """Keep what layers hold of ``seq`` as it is, so that it can come back to where it ends.

        Nothing is copied. ``remove`` and ``copy`` use checkpoints by themselves, of any sequence
        that begins with the same tokens because it was copied from ``seq`` or shares them; a
        checkpoint is gone when no sequence begins with its tokens any more. Others are dropped
        for it when ``checkpoint_bytes`` are spent: first those made automatically, and of these
        and of the others the one longest unused. Where any position can be gone back to, or
        nothing is held, there is nothing to do. Raises CapacityError if it takes more than
        ``checkpoint_bytes`` by itself.
        """
        seq = self._seq(seq)
        with self.exclusive():
            if self.rewinds_anywhere or not self._state.lengths[seq]:
                return
            changes = self._changes()
            changes.checkpoint([seq], asked=True)
            self._now = changes.seal()

    def checkpoints(self, seq: int) -> list[int]:
        """Positions that ``seq`` can go back to by a checkpoint, ascending."""
        return [position for position, _ in self._now.checkpoints.marks[self._seq(seq)]]

    def reachable(self, seq: int, position: int) -> int:
        """The greatest position up to ``position`` from which ``remove`` is exact."""
        seq, (start, _) = self._seq(seq), position_range(position, None)
        return self._changes().reachable(seq, start)

    def tell_apart(self) -> None:
        """What is held is no longer what its tokens would give if they were decoded again.

        From now on equal tokens of two sequences count as different, if one of the two was held
        before and they were not decoded once for both. Hold ``exclusive()``.
        """
        state = self._state
        broken = np.where(state.lengths > 0, 0, state.broken)
        self._now = replace(self._now, parts=(replace(state, broken=broken), *self._now.parts[1:]))

    def told_by_tokens(self, seq: int) -> bool:
        """Whether ``seq`` holds what its tokens give when they are decoded in order, from 0."""
        held = self._positions(self._seq(seq))
        return self._state.broken[seq] > len(held) and np.array_equal(held, np.arange(len(held)))

    def plan(self, ubatches: Sequence[MicroBatch]) -> Plan:
        """Places for the tokens of all micro-batches, which continue the sequences in order.

        Nothing changes until the plan's ``commit``; to abandon a plan, forget it. Hold
        ``exclusive()`` from here to there. Raises CapacityError when the tokens do not fit,
        BatchError for a token whose sequences have different pasts.
        """
        end = check_positions(ubatches, self.context_length, self.max_sequences)
        held = int(self._state.lengths.sum())
        check_tokens(ubatches, held, self._distinct, self.max_tokens)
        changes = self._changes(end)
        automatic = self.checkpoint_bytes > 0
        steps = plan_steps(changes, ubatches, self._part_of, checkpoints=automatic)
        return Plan(steps, self._commit(changes))

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The arrays that hold what is remembered, as state files see them."""
        return self._attention.pools + (self._recurrent.pools if self._recurrent else ())

    def export(self, seqs: Sequence[int]) -> tuple[Saved, tuple[np.ndarray, ...]]:
        """What ``seqs`` hold, and for each pool the slots of its rows. Hold ``exclusive()``."""
        return export(self._attention, self._recurrent, self._now, [self._seq(seq) for seq in seqs])

    def fill(self, saved: Saved, seqs: Sequence[int]) -> Filling:
        """Places for what was saved, in ``seqs``, which hold nothing.

        Nothing changes until the filling's ``commit``. Hold ``exclusive()`` from here to there.
        Raises CapacityError if it does not fit, StateFileError if it makes no sense.
        """
        free = self.max_tokens - self._distinct()
        check_room(saved, self.context_length, free, self.max_tokens)
        end = int(saved.held[0].positions.max(initial=-1)) + 1
        check_tables(end, self.max_sequences)
        most = saved.checkpoints if self.checkpoint_bytes else 0
        while True:
            changes = self._changes(end)
            try:
                places = fill(changes, saved.with_checkpoints(most), np.array(seqs, np.int64))
            except CapacityError:
                if not most:
                    raise
                most //= 2
            else:
                return Filling(places, self._commit(changes))

    def exclusive(self) -> threading.Lock:
        """The lock to hold while something changes; raises MotetError when another holds it."""
        if self._lock.locked():
            raise MotetError(
                "this context is at work in another thread",
                hint="use a context from one thread at a time, or let motet.LLM share one",
            )
        return self._lock

    @property
    def _state(self) -> State:
        return self._now.parts[0]

    def _positions(self, seq: int, start: int = 0, stop: int = FOREVER) -> np.ndarray:
        held = self._attention.positions(self._state, seq)
        return held[(held >= start) & (held < stop)]

    def _empty(self) -> Contents:
        states = tuple(part.empty() for part in self._parts)
        return Contents(states, Checkpoints.empty(self.max_sequences))

    def _changes(self, end: int = 0) -> Changes:
        return Changes(self._parts, self._now, end=end, checkpoint_bytes=self.checkpoint_bytes)

    def _commit(self, changes: Changes) -> Callable[[], None]:
        contents = changes.seal()

        def commit() -> None:
            self._now = contents

        return commit

    def _seq(self, seq: int) -> int:
        return sequence_number(seq, self.max_sequences)

    def _distinct(self) -> int:
        return self._attention.distinct(self._state)
