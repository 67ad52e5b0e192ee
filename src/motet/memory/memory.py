"""What the sequences of a context hold, and the operations on it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from motet import checks
from motet.arrays import Int32, Int64
from motet.errors import (
    CannotRewind,
    CapacityError,
    StateFileError,
    UnsupportedError,
)
from motet.kernels import Kernels
from motet.machine import format_bytes
from motet.memory.budget import context_memory
from motet.memory.cache import Cache, Limits
from motet.memory.changes import Change, Changes
from motet.memory.checkpoints import MOST_CHECKPOINTS, Checkpoints
from motet.memory.cross import CrossCache, CrossTable, cross_caches
from motet.memory.exclusive import ExclusiveUse
from motet.memory.export import Export, Exports
from motet.memory.kv_cache import full_page_bytes, kv_caches
from motet.memory.page_masks import FOREVER
from motet.memory.recurrent import recurrent_caches
from motet.memory.saved import Places, Saved
from motet.memory.sequence_table import SequenceTable
from motet.memory.slot_mapping import MicroBatch
from motet.memory.transaction import DecodePlan, MemoryState, RestorePlan, Transaction
from motet.memory.validation import (
    cannot_take_out,
    check_encoded_anew,
    check_encodings,
    check_fork,
    check_positions,
    check_room,
    check_shift,
    check_tables,
    check_target,
    check_tokens,
    check_within,
    position_range,
    sequence_number,
)
from motet.spec import LayerCaches


class Memory:
    """Tokens of some sequences, and what the model's layers keep of them.

    Positions are counted from 0. Every operation changes all of its part or, when it raises or
    is interrupted, nothing: the new state is built beside the old one and put in its place.
    """

    def __init__(
        self,
        layers: Sequence[LayerCaches],
        kernels: Kernels,
        limits: Limits,
        context_length: int,
    ) -> None:
        """Of a model whose layers have these caches.

        ``context_length``: positions that a sequence has. Raises CapacityError for want of
        address space, or where not even a token fits; UnsupportedError for a cache of a kind that
        memory does not know.
        """
        self.max_sequences = limits.max_sequences
        self.max_tokens = limits.max_tokens
        self.context_length = context_length
        self.kernels = kernels
        specs = {(i, k): spec for i, caches in enumerate(layers) for k, spec in enumerate(caches)}
        page_bytes = full_page_bytes(specs.values(), kernels, limits.kv_type)
        most_pages = max(limits.kv_bytes // max(page_bytes, 1), 1)
        self._table = SequenceTable(limits.max_sequences, limits.max_tokens, most_pages)
        self.caches: tuple[Cache, ...] = (
            *kv_caches(specs, kernels, limits, self._table),
            *recurrent_caches(specs, kernels, limits),
            *cross_caches(specs, kernels, limits),
        )
        cross = (n for n, cache in enumerate(self.caches) if isinstance(cache, CrossCache))
        self._cross = next(cross, None)
        """The number of the cache that keeps what was encoded."""
        self.rewinds_anywhere = all(cache.rewinds_anywhere for cache in self.caches)
        """Whether any position can be gone back to, so that checkpoints are of no use."""
        self.kv_bytes = limits.kv_bytes
        self.checkpoint_bytes = 0 if self.rewinds_anywhere else limits.checkpoint_bytes
        self._ordered = any(cache.ordered for cache in self.caches)
        self._cache_of = {key: n for n, cache in enumerate(self.caches) for key in cache.arrays}
        for (layer, k), spec in specs.items():
            if (layer, k) not in self._cache_of:
                raise UnsupportedError(f"no cache keeps what layer {layer} declares: {spec}")
        least = context_memory(layers, 1, limits.kv_type, kernels).total
        if least > limits.kv_bytes:
            raise CapacityError(
                f"the caches of one token take {format_bytes(least)}, and kv_bytes allows"
                f" {format_bytes(limits.kv_bytes)}",
                hint="allow more by kv_bytes",
            )
        self._now = self._empty()
        self._use = ExclusiveUse()
        self._exports = Exports()
        self._changes = Changes(
            self._table, self.caches, self.kv_bytes, self.checkpoint_bytes, self._exports
        )

    def length(self, seq: int) -> int:
        """Tokens that ``seq`` holds."""
        return int(self._now.sequences.lengths[self._seq(seq)])

    def positions(self, seq: int) -> tuple[int, int] | None:
        """First and last position that ``seq`` holds; None when it is empty."""
        held = self._positions(self._seq(seq))
        return (int(held[0]), int(held[-1])) if held.size else None

    def tokens(self, seq: int) -> Int32:
        """The token ids that ``seq`` holds, int32 ``[length]``, in order of position."""
        return self._table.ids(self._now.sequences.blocks.places(self._seq(seq))[1])

    def encoded(self, seq: int) -> int:
        """Tokens that were encoded for ``seq``; always 0 where no layer attends to an encoder."""
        return int(self._encoded[self._seq(seq)])

    @property
    def held(self) -> list[int]:
        """The sequences that hold tokens, or what was encoded for them."""
        return np.flatnonzero((self._now.sequences.ends > 0) | (self._encoded > 0)).tolist()

    @property
    def used_bytes(self) -> int:
        """Bytes of caches that hold something, those of checkpoints included."""
        return sum(self._begin().used_bytes)

    def own_bytes(self, seq: int) -> int:
        """Bytes that ``remove(seq)`` would give back: those of what nothing else shares."""
        without = self._begin()
        without.forget(self._seq(seq))
        return self.used_bytes - sum(self._changes.begin(without.seal()).used_bytes)

    @property
    def ends(self) -> Int64:
        """int64 ``[S]``: where each sequence goes on, 0 where it is empty. Not to be changed."""
        return self._now.sequences.ends

    @property
    def usage(self) -> str:
        """How full memory is, in a few words."""
        used, tokens = len(self.held), self._distinct()
        return f"{used} of {self.max_sequences} sequences hold {tokens} of {self.max_tokens} tokens"

    def __repr__(self) -> str:
        return f"<motet.Memory: {self.usage}>"

    def remove(self, seq: int, start: int = 0, end: int | None = None) -> None:
        """Forget the tokens at positions start … end - 1, by default to the last.

        Other positions stay as they are: removing from the middle leaves a gap. What was encoded
        for ``seq`` stays too, unless neither ``start`` nor ``end`` is given. Raises CannotRewind,
        with the nearest position that can be reached, if no checkpoint has what the token that
        follows has to see and a layer no longer holds it; recurrent layers can't forget from the
        middle.
        """
        seq, (start, stop) = self._seq(seq), position_range(start, end)
        with self.exclusive():
            removed = self._positions(seq, start, stop)
            everything = start == 0 and end is None
            if not removed.size and not (everything and self._encoded[seq]):
                return
            transaction = self._begin()
            if everything:
                transaction.forget(seq)
            elif stop >= int(self._now.sequences.ends[seq]):
                transaction.cut(seq, start)
            elif self._ordered:
                raise cannot_take_out(seq, removed, transaction.reachable(seq, start))
            else:
                transaction.remove(seq, start, stop)
            self._now = transaction.seal()

    def rewind(self, ends: Mapping[int, int]) -> None:
        """Go back with several sequences, with each to a position: as ``remove(seq, position)``.

        All or none. What was kept so that they could go back farther, before tokens decoded as
        ``rewindable``, is let go, of those too that stay where they end. Raises CannotRewind as
        ``remove`` does, OptionError for a position beyond a sequence's end.
        """
        wanted = {
            self._seq(seq): checks.whole(f"the position of sequence {seq}", position)
            for seq, position in checks.mapping("ends", ends, "{sequence: position}").items()
        }
        with self.exclusive():
            for seq, position in wanted.items():
                check_within(seq, position, int(self._now.sequences.ends[seq]))
            transaction = self._begin()
            for seq, position in wanted.items():
                transaction.rewind(seq, position)
            self._now = transaction.seal()

    def copy(self, source: int, target: int, start: int = 0, end: int | None = None) -> None:
        """Give ``target`` the tokens of ``source`` at positions start … end - 1.

        Nothing is computed and whole pages are shared; a page or state is copied when one of the
        two goes on. Copying onto itself does nothing. Raises OptionError where ``target`` holds
        one of these positions already, CannotRewind if no checkpoint has what ``target``'s next
        token has to see and a layer no longer holds it, CapacityError when no page is free. With
        recurrent layers ``start`` is where ``source`` begins, and ``target`` is empty. What was
        encoded for ``source`` comes along, even without a token; OptionError where something else
        was encoded for ``target``.
        """
        source, target = self._seq(source), self._seq(target)
        start, stop = position_range(start, end)
        with self.exclusive():
            given = self._positions(source, start, stop)
            bare = start == 0 and not given.size and bool(self._encoded[source])
            if source == target or not (given.size or bare):
                return
            present = self._positions(target)
            check_encodings(self._encodings, source, target)
            if bare:
                if not present.size:
                    self._apply(lambda draft: draft.fork(source, target, 0))
                return
            check_target(source, target, given, present)
            first = int(self._positions(source)[0])
            begin, end = int(given[0]), int(given[-1]) + 1
            if self._ordered:
                check_fork(source, target, given, first, bool(present.size))
            if begin > first or present.size:
                self._apply(lambda draft: draft.insert(source, target, begin, end))
            else:
                self._apply(lambda draft: draft.fork(source, target, end))

    def keep(self, seq: int) -> None:
        """Clear every sequence but ``seq``."""
        seq = self._seq(seq)
        with self.exclusive():
            transaction = self._begin()
            for other in self.held:
                if other != seq:
                    transaction.forget(other)
            self._now = transaction.seal()

    def clear(self) -> None:
        """Forget everything, and give the caches' memory back to the system."""
        with self.exclusive():
            self._now = self._empty()
            self._changes.trim(self._now)

    def trim(self) -> None:
        """Give memory that nothing held needs back to the system, as ``clear`` does.

        What was forgotten is kept otherwise, for the tokens that come next.
        """
        with self.exclusive():
            self._changes.trim(self._now)

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
            checks.whole("delta", delta, checks.LEAST),
        )
        with self.exclusive():
            moved = self._positions(seq, start, stop)
            if not moved.size or delta == 0:
                return
            staying = np.setdiff1d(self._positions(seq), moved, assume_unique=True)
            check_shift(seq, moved, staying, delta, self.context_length, ordered=self._ordered)
            last = int(moved[-1])
            check_tables(last + delta + 1, self.max_sequences)
            end = last + delta + 1
            self._apply(lambda draft: draft.shift(seq, start, last + 1, delta), end)

    def checkpoint(self, seq: int) -> None:
        """Keep what layers hold of ``seq`` as it is, so that it can come back to where it ends.

        Nothing is copied. ``remove`` and ``copy`` use checkpoints by themselves, of any sequence
        that begins with the same tokens because it was copied from ``seq`` or shares them; a
        checkpoint is gone when no sequence begins with its tokens any more. Others are dropped
        for it when ``checkpoint_bytes`` are spent: first those made automatically, and of these
        and of the others the least recently used. Where any position can be gone back to, or
        nothing is held, there is nothing to do. Raises CapacityError if it takes more than
        ``checkpoint_bytes`` by itself.
        """
        seq = self._seq(seq)
        with self.exclusive():
            if self.rewinds_anywhere or not self._now.sequences.lengths[seq]:
                return
            transaction = self._begin()
            transaction.checkpoint([seq], asked=True)
            self._now = transaction.seal()

    def drop_checkpoints(self) -> bool:
        """Give up half of the checkpoints that ``checkpoint`` made, those used longest ago, or the
        last one; whether there was any. Those that are being saved stay."""
        with self.exclusive():
            transaction = self._begin()
            dropped = transaction.drop_checkpoints()
            self._now = transaction.seal()
            return dropped > 0

    def checkpoints(self, seq: int) -> list[int]:
        """Positions that ``seq`` can go back to by a checkpoint, ascending."""
        return [position for position, _ in self._now.checkpoints.marks[self._seq(seq)]]

    def reachable(self, seq: int, position: int) -> int:
        """The greatest position up to ``position`` from which ``remove`` is exact."""
        seq, (start, _) = self._seq(seq), position_range(position, None)
        return self._begin().reachable(seq, start)

    def invalidate_sharing(self) -> None:
        """What is held is no longer what its tokens would give if they were decoded again.

        From now on equal tokens of two sequences count as different, if one of the two was held
        before and they were not decoded once for both. Hold ``exclusive()``.
        """
        held = self._now.sequences
        broken = np.where(held.lengths > 0, 0, held.broken)
        self._now = self._now._replace(sequences=held._replace(broken=broken))

    def is_contiguous_and_unedited(self, seq: int) -> bool:
        """Whether ``seq`` holds what its tokens give when they are decoded in order, from 0."""
        seq = self._seq(seq)
        held = self._positions(seq)
        unedited = self._now.sequences.broken[seq] > len(held)
        return bool(unedited) and np.array_equal(held, np.arange(len(held)))

    def plan(self, ubatches: Sequence[MicroBatch]) -> DecodePlan:
        """Places for the tokens of all micro-batches, which continue the sequences in order.

        Nothing changes until the plan's ``begin`` and ``commit``; to abandon a plan, forget it.
        Hold ``exclusive()`` from here to there. Raises CapacityError when the tokens do not fit,
        BatchError for a token whose sequences have different pasts.
        """
        end = check_positions(ubatches, self.context_length, self.max_sequences)
        held = int(self._now.sequences.lengths.sum())
        check_tokens(ubatches, held, self._distinct, self.max_tokens)
        automatic = self.checkpoint_bytes > 0
        change = self._changes.draft(
            self._now,
            lambda draft: draft.plan(ubatches, self.kernels, self._cache_of, checkpoints=automatic),
            end,
        )
        return DecodePlan(change.result, *self._in_two_steps(change))

    def plan_encoding(self, parts: Sequence[MicroBatch]) -> DecodePlan:
        """Places for what an encoder makes of whole sequences, in place of what they have.

        As ``plan``; to be asked where a layer attends to an encoder. Raises BatchError for a
        sequence that holds tokens of its own, CapacityError when pages run out.
        """
        cross = self._cross
        assert cross is not None
        check_encoded_anew(parts, self._now.sequences.lengths)
        view_of = dict.fromkeys(self.caches[cross].arrays, 0)
        change = self._changes.draft(self._now, lambda draft: draft.encode(parts, cross, view_of))
        return DecodePlan(change.result, *self._in_two_steps(change))

    def export(self, seqs: Sequence[int]) -> Export:
        """What ``seqs`` hold, to be read and closed. Hold ``exclusive()``.

        Checkpoints that were asked for come along; automatic ones would make files many times as
        large, and come again as the sequences go on.
        """
        chosen, now = [self._seq(seq) for seq in seqs], self._now
        states = list(zip(self.caches, now.caches, strict=True))
        export = Export.of(self._table, now.sequences, states, now.checkpoints, chosen)
        self._exports.add(export)
        return export

    @property
    def being_exported(self) -> set[int]:
        """Sequences of exports that are still being read: they are to be left as they are."""
        return self._exports.sequences

    def fill(self, saved: Saved, seqs: Sequence[int], evicted: Sequence[int] = ()) -> RestorePlan:
        """Places for what was saved, in ``seqs``, which hold nothing once ``evicted`` are removed.

        Nothing changes until the plan's ``begin`` and ``commit``. Hold ``exclusive()`` from here to
        there. Raises CapacityError if it does not fit, StateFileError if it makes no sense.
        """
        transaction = self._begin()
        for seq in evicted:
            transaction.forget(seq)
        change = self._fill(transaction.seal() if evicted else self._now, saved, seqs)
        tokens, *places = change.result
        begin, finish = self._in_two_steps(change)

        def commit() -> None:
            ids = saved.sequences.tokens
            self._table.put(tokens.slots, ids[tokens.rows], tokens.rows, len(ids))
            finish()

        return RestorePlan(tuple(places), begin, commit)

    def fits(self, saved: Saved) -> tuple[Places, ...]:
        """Places for what was saved if nothing else were held: for each cache, as ``fill`` has.

        It looks at nothing that is held, so that any thread may ask at any time. Raises as ``fill``
        does.
        """
        return self._fill(self._empty(), saved, range(len(saved.sequences))).result[1:]

    def _fill(
        self, held: MemoryState, saved: Saved, seqs: Sequence[int]
    ) -> Change[tuple[Places, ...]]:
        """Of ``held``: ``seqs`` are given what was saved. With places for the tokens and for each
        cache."""
        free = self.max_tokens - self._table.distinct(held.sequences)
        check_room(saved.sequences, self.context_length, free, self.max_tokens)
        end = int(saved.sequences.held.positions.max(initial=-1)) + 1
        check_tables(end, self.max_sequences)
        targets = np.array(seqs, np.int64)
        most = min(saved.checkpoints, MOST_CHECKPOINTS) if self.checkpoint_bytes else 0
        while True:
            wanted = saved.with_checkpoints(most)
            wanted.check_marks()
            try:
                given = partial(Transaction.fill, saved=wanted, seqs=targets)
                return self._changes.draft(held, given, end)
            except CannotRewind as error:  # nothing that was saved is like that
                raise StateFileError(f"contradicts itself: {error.message}") from error
            except CapacityError:
                if not most:
                    raise
                most //= 2

    def exclusive(self) -> ExclusiveUse:
        """To be held, with ``with``, while something changes.

        Entering it raises MotetError where another thread, or an outer block, holds it.
        """
        return self._use

    @property
    def _encodings(self) -> CrossTable | None:
        """What was encoded; None where no layer attends to that."""
        return None if self._cross is None else self._now.caches[self._cross]

    @property
    def _encoded(self) -> Int64:
        """``[S]``: tokens that were encoded for each sequence."""
        encodings = self._encodings
        return np.zeros(self.max_sequences, np.int64) if encodings is None else encodings.lengths

    def _positions(self, seq: int, start: int = 0, stop: int = FOREVER) -> Int64:
        held = self._now.sequences.positions(seq)
        return held[(held >= start) & (held < stop)]

    def _empty(self) -> MemoryState:
        states = tuple(cache.empty() for cache in self.caches)
        return MemoryState(self._table.empty(), states, Checkpoints.empty(self.max_sequences))

    def _begin(self) -> Transaction:
        return self._changes.begin(self._now)

    def _in_two_steps(self, change: Change[Any]) -> tuple[Callable[[], None], Callable[[], None]]:
        """To be called before anything is written, and when everything is."""

        def begin() -> None:
            self._changes.make_room(change)
            self._now = change.base

        def commit() -> None:
            self._now = change.after

        return begin, commit

    def _apply(self, change: Callable[[Transaction], object], end: int = 0) -> None:
        """Change what is held, with room for positions below ``end``."""
        made = self._changes.draft(self._now, change, end)
        begin, commit = self._in_two_steps(made)
        begin()
        made.write()
        commit()

    def _seq(self, seq: int) -> int:
        return sequence_number(seq, self.max_sequences)

    def _distinct(self) -> int:
        return self._table.distinct(self._now.sequences)
