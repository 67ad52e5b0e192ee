"""What the sequences of a context remember, and the operations on it."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from motet.errors import BatchError, CapacityError, MotetError, OptionError
from motet.memory.arguments import FOREVER, position_range, whole_number
from motet.memory.attention import AttentionMemory
from motet.memory.checks import (
    cannot_rewind,
    cannot_take_out,
    check_fork,
    check_positions,
    check_shift,
    check_target,
)
from motet.memory.draft import AttentionDraft
from motet.memory.part import Draft, Part
from motet.memory.plan import Plan, Step
from motet.memory.recurrent import RecurrentMemory
from motet.memory.saved import Pool, Saved
from motet.memory.saving import Filling, check_room, export, fill
from motet.memory.slots import SlotPool
from motet.memory.store import PagedStore, State
from motet.memory.writes import MicroBatch, Writes
from motet.spec import LayerSpec, Recurrent

_SLOTS = 3
"""States for each sequence: the one it has, the one being computed, and that of those which it
shared a token with."""


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
    ) -> None:
        """Of a model with these layers.

        ``max_tokens``: held by all sequences together. ``context_length``: positions that a
        sequence has. ``ubatch``: tokens of the largest micro-batch.
        """
        self.max_sequences = max_sequences
        self.max_tokens = max_tokens
        self.context_length = context_length
        store = PagedStore(
            layers,
            max_sequences=max_sequences,
            max_tokens=max_tokens,
            ubatch=ubatch,
            kv_type=kv_type,
        )
        self._attention = AttentionMemory(store)
        self._parts: tuple[Part, ...] = (self._attention,)
        self._recurrent = None
        if any(isinstance(spec, Recurrent) for spec in layers):
            pool = SlotPool(layers, _SLOTS * max_sequences)
            self._recurrent = RecurrentMemory(pool, max_sequences)
            self._parts += (self._recurrent,)
        self._part_of = {i: n for n, part in enumerate(self._parts) for i in part.layers}
        self._states: tuple[Any, ...] = tuple(part.empty() for part in self._parts)
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
        CannotRewind if a layer no longer holds what the token that follows has to see; recurrent
        layers can't forget from the middle.
        """
        seq, (start, stop) = self._seq(seq), position_range(start, end)
        with self.exclusive():
            removed = self._held(seq, start, stop)
            if not removed.size:
                return
            attention, *others = drafts = self._drafts()
            if stop >= int(self._state.ends[seq]):
                nearest = self._reachable(drafts, seq, start)
                if nearest != start:
                    raise cannot_rewind(seq, start, nearest)
                for draft in drafts:
                    draft.cut(seq, start)
            elif others:
                raise cannot_take_out(seq, removed, self._reachable(drafts, seq, start))
            else:
                attention.remove(seq, start, stop)
            self._take(drafts)

    def copy(self, source: int, target: int, start: int = 0, end: int | None = None) -> None:
        """Give ``target`` the tokens of ``source`` at positions start … end - 1.

        Nothing is computed and whole pages are shared; a page or state is copied when one of the
        two goes on. Copying onto itself does nothing. Raises OptionError where ``target`` holds
        one of these positions already, CannotRewind if a layer no longer holds what ``target``'s
        next token has to see, CapacityError when no page is free. Recurrent layers give an empty
        ``target`` all of ``source`` only.
        """
        source, target = self._seq(source), self._seq(target)
        start, stop = position_range(start, end)
        with self.exclusive():
            given = self._held(source, start, stop)
            if source == target or not given.size:
                return
            present = self._held(target)
            check_target(source, target, given, present)
            attention, *others = drafts = self._drafts()
            first, last = int(self._held(source)[0]), int(given[-1])
            if others:
                check_fork(source, target, given, first, bool(present.size))
            if given[0] > first or present.size:
                attention.copy(source, target, start, last + 1)
            else:
                if others and last + 1 < int(self._state.ends[source]):
                    raise cannot_rewind(source, stop, self._reachable(drafts, source, stop))
                for draft in drafts:
                    draft.fork(source, target, last + 1)
            self._take(drafts)

    def keep(self, seq: int) -> None:
        """Clear every sequence but ``seq``."""
        seq = self._seq(seq)
        with self.exclusive():
            drafts = self._drafts()
            for other in np.flatnonzero(self._state.ends).tolist():
                for draft in drafts if other != seq else ():
                    draft.cut(other, 0)
            self._take(drafts)

    def clear(self) -> None:
        """Forget everything."""
        with self.exclusive():
            self._states = tuple(part.empty() for part in self._parts)

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
            moved = self._held(seq, start, stop)
            if not moved.size or delta == 0:
                return
            staying = np.setdiff1d(self._held(seq), moved, assume_unique=True)
            ordered = len(self._parts) > 1
            check_shift(seq, moved, staying, delta, self.context_length, ordered=ordered)
            attention, *others = self._drafts(int(moved[-1]) + delta + 1)
            attention.shift(seq, start, int(moved[-1]) + 1, delta)
            self._take([attention, *others])

    def plan(self, ubatches: Sequence[MicroBatch]) -> Plan:
        """Places for the tokens of all micro-batches, which continue the sequences in order.

        Nothing changes until the plan's ``commit``; to abandon a plan, forget it. Hold
        ``exclusive()`` from here to there. Raises CapacityError when the tokens do not fit,
        BatchError for a token whose sequences have different pasts.
        """
        check_positions(ubatches, self.context_length)
        self._check_room(ubatches)
        attention, *others = self._drafts(max(int(u.positions.max()) + 1 for u in ubatches))
        drafts: list[Draft] = [attention, *others]
        steps = []
        for ubatch in ubatches:
            self._unite(attention, drafts, ubatch)
            writes = Writes.of(ubatch)
            parts = tuple(draft.advance(writes) for draft in drafts)
            steps.append(Step(ubatch.positions, parts, self._part_of))
        states = tuple(draft.seal() for draft in drafts)

        def commit() -> None:
            self._states = states

        return Plan(tuple(steps), commit)

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The arrays that hold what is remembered, as state files see them."""
        return self._attention.pools + (self._recurrent.pools if self._recurrent else ())

    def export(self, seqs: Sequence[int]) -> tuple[Saved, tuple[np.ndarray, ...]]:
        """What ``seqs`` hold, and for each pool the slots of its rows. Hold ``exclusive()``."""
        rows = np.array([self._seq(seq) for seq in seqs], np.int64)
        return export(self._attention, self._recurrent, self._states, rows)

    def fill(self, saved: Saved, seqs: Sequence[int]) -> Filling:
        """Places for what was saved, in ``seqs``, which hold nothing.

        Nothing changes until the filling's ``commit``. Hold ``exclusive()`` from here to there.
        Raises CapacityError if it does not fit, StateFileError if it makes no sense.
        """
        free = self.max_tokens - self._attention.distinct(self._state)
        check_room(saved, self.context_length, free, self.max_tokens)
        drafts = self._drafts(int(saved.held[0].positions.max(initial=-1)) + 1)
        places = fill(drafts, saved, np.array(seqs, np.int64))
        states = tuple(draft.seal() for draft in drafts)

        def commit() -> None:
            self._states = states

        return Filling(places, commit)

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
        return self._states[0]

    def _held(self, seq: int, start: int = 0, stop: int = FOREVER) -> np.ndarray:
        held = self._attention.positions(self._state, seq)
        return held[(held >= start) & (held < stop)]

    def _drafts(self, end: int = 0) -> "tuple[AttentionDraft, *tuple[Draft, ...]]":
        attention, *others = self._states
        return (
            self._attention.draft(attention, end),
            *(part.draft(state, end) for part, state in zip(self._parts[1:], others, strict=True)),
        )

    def _reachable(self, drafts: Sequence[Draft], seq: int, position: int) -> int:
        """The greatest position up to ``position`` that ``seq`` can be cut back to exactly."""
        first, nearest, before = int(self._held(seq)[0]), position, -1
        while nearest > first and nearest != before:
            before = nearest
            nearest = min(draft.reachable(seq, nearest) for draft in drafts)
        return max(nearest, min(first, position))

    def _take(self, drafts: Sequence[Draft]) -> None:
        self._states = tuple(draft.seal() for draft in drafts)

    def _seq(self, seq: int) -> int:
        number = whole_number("seq", seq)
        if not 0 <= number < self.max_sequences:
            raise OptionError(
                f"there is no sequence {number}",
                hint=f"this context has sequences 0 to {self.max_sequences - 1};"
                " max_sequences gives it more",
            )
        return number

    def _check_room(self, ubatches: Sequence[MicroBatch]) -> None:
        needed = sum(len(ubatch.positions) for ubatch in ubatches)
        if int(self._state.lengths.sum()) + needed > self.max_tokens:  # shared ones counted twice
            free = self.max_tokens - self._attention.distinct(self._state)
            if needed > free:
                raise CapacityError(
                    f"the batch has {needed} tokens, and {free} of {self.max_tokens} that this"
                    " context can hold are free",
                    hint="remove sequences, or give the context a larger max_tokens",
                )

    def _unite(
        self, attention: AttentionDraft, drafts: Sequence[Draft], ubatch: MicroBatch
    ) -> None:
        """Let sequences that share a token share its past. Raises BatchError if they differ."""
        for row, (leader, *members) in enumerate(ubatch.sets):
            for member in members:
                if not attention.agree(leader, member):
                    entry = int(ubatch.entries[np.flatnonzero(ubatch.rows == row)[0]])
                    raise BatchError(
                        f"entry {entry} is shared by sequences {leader} and {member}, whose pasts"
                        " differ",
                        entry=entry,
                        hint=f"copy sequence {leader} to {member}, or add the token to each",
                    )
                for draft in drafts:
                    draft.adopt(leader, member)
