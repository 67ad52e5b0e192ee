"""Recurrent caches: one state a sequence, which every token rewrites, in a slot of its own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from motet.arrays import Array, Float32, Int32, Int64
from motet.kernels import Kernels
from motet.kernels.interface_recurrent import RecurrentState, Runs
from motet.memory.block_table import LayerSlots, TokenMoves
from motet.memory.cache import REWIND, CacheKey, Exported, Filled, Limits
from motet.memory.checkpoints import MOST_CHECKPOINTS
from motet.memory.ref_counts import RefCounts, unused
from motet.memory.saved import (
    NO_ROW,
    Places,
    Saved,
    Tables,
    check_all_used,
    contradicts,
    read_table,
)
from motet.memory.sequence_table import SequenceDraft, SequenceState, SequenceTable
from motet.memory.slot_mapping import SlotMapping
from motet.memory.trails import Cuts, Trail
from motet.spec import CacheSpec, Recurrent

_SLOTS = 3 + 2 * REWIND
"""Of each sequence: the state that it has, the one being computed, and that of those which it
shared a token with; trails of two decodes. A checkpoint has two: those dropped by a batch stay
until it is done."""

_ITEM = np.dtype(np.float32).itemsize


def state_bytes(spec: Recurrent) -> int:
    """What the state of one sequence takes in one layer."""
    return sum(_ITEM * prod(shape) for shape in spec.shapes)


def recurrent_caches(
    specs: Mapping[CacheKey, CacheSpec], kernels: Kernels, limits: Limits
) -> Iterator["RecurrentCache"]:
    """One for all recurrent layers, if there are any."""
    recurrent = {key: spec for key, spec in specs.items() if isinstance(spec, Recurrent)}
    if recurrent:
        yield RecurrentCache(recurrent, kernels, limits)


class SlotTable(NamedTuple):
    """Which sequence's state lies in which slot; replaced as a whole, never changed."""

    slots: Int32
    """``[S]``: the slot of each sequence; -1 where nothing is held, a state of zeros."""
    refs: Int32
    """Sequences, trails and checkpoints that refer to each slot, for those ever in use."""
    held: int
    """How many of these are checkpoints."""
    trails: Mapping[int, Trail]
    """Of each sequence that can go back in steps."""


class RecurrentCache:
    """A ``Cache``: the states of all recurrent layers; one slot number holds in each of them."""

    name = "states"
    rewinds_anywhere = False
    ordered = True
    holds_positions = False

    def __init__(
        self, specs: Mapping[CacheKey, Recurrent], kernels: Kernels, limits: Limits
    ) -> None:
        self._kernels = kernels
        self.slot_bytes = sum(map(state_bytes, specs.values()))
        checkpoints = min(limits.checkpoint_bytes // self.slot_bytes, MOST_CHECKPOINTS)
        slots = _SLOTS * limits.max_sequences + 2 * checkpoints + 1
        self.slots = min(slots, limits.kv_bytes // self.slot_bytes)
        self.states: Mapping[CacheKey, tuple[Float32, ...]] = {
            key: tuple(kernels.allocate_states(self.slots, shape) for shape in spec.shapes)
            for key, spec in specs.items()
        }
        self.arrays: Mapping[CacheKey, Mapping[str, Array]] = {
            key: {f"state.{n}": array[:, None] for n, array in enumerate(arrays)}
            for key, arrays in self.states.items()
        }
        self._max_sequences = limits.max_sequences

    def empty(self) -> SlotTable:
        """The state in which nothing is held."""
        slots, refs = np.full(self._max_sequences, -1, np.int32), np.zeros(1, np.int32)
        return SlotTable(slots, refs, 0, {})

    def draft(self, state: SlotTable, sequences: SequenceDraft) -> "RecurrentDraft":
        """A draft of ``state``."""
        return RecurrentDraft(self, state)

    def export(
        self,
        state: SlotTable,
        table: SequenceTable,
        sequences: SequenceState,
        seqs: list[int],
        tokens: Int64,
        holds: list[tuple[int, int]],
    ) -> Exported:
        """The states of ``seqs`` and then of checkpoints."""
        own = [int(state.slots[seq]) for seq in seqs]
        held = np.array([*own, *(hold for _, hold in holds)], np.int32)
        slots, rows = np.unique(held[held >= 0], return_inverse=True)
        states = np.full(len(held), NO_ROW, np.int32)
        states[held >= 0] = rows
        return Exported(StateRows(states), slots.astype(np.int64))

    def read(self, tables: Tables) -> "StateRows":
        """Raises StateFileError where the table is missing."""
        return StateRows(read_table(tables, "states.rows", np.int32))

    def trim(self, states: Sequence[tuple[SequenceState, SlotTable]]) -> None:
        free = unused(table.refs for _, table in states)
        for arrays in self.states.values():
            for array in arrays:
                self._kernels.discard(array, free)


@dataclass(frozen=True)
class StateRows:
    """``CacheRows`` of states."""

    rows: Int32
    """``[owners]``: NO_ROW where nothing is held."""

    def tables(self) -> dict[str, Array]:
        return {"states.rows": self.rows}

    def only(self, owners: Int64) -> "StateRows":
        return StateRows(self.rows[owners])

    def check(self, saved: Saved, count: int) -> None:
        rows, sequences = self.rows, len(saved.sequences)
        if len(rows) != saved.owners:
            contradicts("its tables are not of the same sequences")
        if np.any(rows < NO_ROW) or np.any(rows >= count):
            contradicts("a state is not in the pool of states")
        if np.any((rows[:sequences] == NO_ROW) != (saved.sequences.held.lengths == 0)):
            contradicts("a sequence has tokens without a state, or a state without tokens")
        if np.any(rows[sequences:] == NO_ROW):
            contradicts("a checkpoint has no state")
        check_all_used(rows[rows != NO_ROW], count)

    def check_marks(self, saved: Saved) -> None:
        """A state says nothing of where it is."""


class RecurrentDraft:
    """A ``CacheDraft``.

    A slot that the base uses is never written: the first micro-batch of a transaction reads it
    and writes a fresh one, in which later micro-batches go on as long as nobody shares it. Tokens
    that may be taken back write a fresh one each.
    """

    def __init__(self, cache: RecurrentCache, base: SlotTable) -> None:
        self._cache = cache
        self._slots: Int32 = base.slots.copy()
        self._held = base.held
        self._trails = dict(base.trails)
        self._begun: set[int] = set()
        """Sequences whose trail is of this transaction, so that it goes on."""
        self._counts = RefCounts(
            base.refs,
            cache.slots,
            "states of sequences",
            hint="remove sequences, or give the context a larger max_sequences or kv_bytes",
        )

    def advance(self, mapping: SlotMapping, placed: LayerSlots) -> "RecurrentView":
        """A slot to write for each set of sequences, and for each of its tokens that may be taken
        back. Raises CapacityError when none is free."""
        if mapping.rewindable is not None:
            cuts = Cuts.of(mapping.rows, mapping.rewindable)
            return RecurrentView(self._cache, self._rewindable(mapping, cuts))
        for seq in self._trails.keys() & mapping.members.tolist() if self._trails else ():
            self.settle(seq)
        read, write = self._go_on(mapping.leaders, mapping.sizes, mapping.members)
        order = np.argsort(mapping.rows, kind="stable").astype(np.int32)
        starts = np.arange(len(read) + 1, dtype=np.int32)
        if len(order) > len(read):  # not a token each
            np.cumsum(np.bincount(mapping.rows), out=starts[1:])
        return RecurrentView(self._cache, Runs(order, starts, read, write))

    def _go_on(self, leaders: Int64, sizes: Int64, members: Int64) -> tuple[Int32, Int32]:
        """The slot that each set of sequences reads, and the one that it writes."""
        counts, read = self._counts, self._slots[leaders]
        held, write = read >= 0, np.array(read)
        parting = slice(None)  # none is ours, as in a decode's first micro-batch
        if not counts.untouched:
            alone = held & counts.ours(read) & (counts.refs[read] == sizes)
            parting = (~alone).nonzero()[0]
            held = held[parting]
        sharers = sizes[parting]
        if len(sharers):
            write[parting] = counts.take(sharers)
            counts.release(read[parting][held], sharers[held])
            one_each = len(members) == len(write)
            self._slots[members] = write if one_each else np.repeat(write, sizes)
        return read, write

    def _rewindable(self, mapping: SlotMapping, cuts: Cuts) -> Runs:
        """Of a micro-batch with tokens that may be taken back, of one sequence each."""
        leaders, sizes, single = mapping.leaders, mapping.sizes, cuts.single
        plain = np.zeros(len(leaders), bool)
        plain[cuts.sets[~single]] = True
        gone_on = np.repeat(plain, sizes)
        for seq in self._trails.keys() & mapping.members.tolist():
            if seq not in self._begun or seq in mapping.members[gone_on]:
                self.settle(seq)
        read, write = np.empty((2, len(single)), np.int32)
        read[~single], write[~single] = self._go_on(
            leaders[plain], sizes[plain], mapping.members[gone_on]
        )
        write[single] = self._counts.take(np.ones(np.count_nonzero(single), np.int64))
        read[1:][single[1:]] = write[:-1][single[1:]]
        firsts = single & (np.diff(cuts.sets, prepend=-1) != 0)
        read[firsts] = self._slots[leaders[cuts.sets[firsts]]]
        ends = mapping.end[sizes.cumsum() - sizes]
        for number in np.unique(cuts.sets[single]).tolist():
            runs = np.flatnonzero(single & (cuts.sets == number))
            seq, before = int(leaders[number]), self._trails.get(int(leaders[number]))
            self._slots[seq] = write[runs[-1]]
            if before is None:
                before = Trail(int(ends[number]) - len(runs), read[:0])
            self._trails[seq] = before.then(read[runs])
            self._begun.add(seq)
        return Runs(cuts.order, cuts.starts, read, write)

    def reachable(self, seq: int, position: int) -> int:
        """0 where the sequence has no trail there: a state of fewer tokens is not kept."""
        trail = self._trails.get(seq)
        return 0 if trail is None or trail.slot(position) is None else position

    def hold(self, seq: int) -> int:
        """Refer to the state of ``seq``, which holds something."""
        slot = int(self._slots[seq])
        self._counts.acquire(np.array([slot], np.int32))
        self._held += 1
        return slot

    def release(self, hold: int) -> None:
        self._counts.release(np.array([hold], np.int32))
        self._held -= 1

    def hold_bytes(self, hold: int) -> int:
        return self._cache.slot_bytes

    @property
    def held_bytes(self) -> int:
        return self._held * self._cache.slot_bytes

    @property
    def used_bytes(self) -> int:
        return self._counts.used * self._cache.slot_bytes

    def cut(self, seq: int, position: int, hold: int | None) -> None:
        """Go back to the state ``hold`` or one of the trail, or forget everything."""
        self._replace(seq, self._kept(seq, position, -1) if hold is None else hold)
        self.settle(seq)

    def settle(self, seq: int) -> None:
        trail = self._trails.pop(seq, None)
        if trail is not None:
            self._begun.discard(seq)
            self._counts.release(trail.slots[trail.slots >= 0])

    def forget(self, seq: int) -> None: ...

    def fork(self, source: int, target: int, position: int, hold: int | None) -> None:
        now = int(self._slots[source])
        self._replace(target, self._kept(source, position, now) if hold is None else hold)

    def remove(self, seq: int, start: int, end: int) -> None: ...

    def insert(self, source: int, target: int, start: int, end: int, moves: TokenMoves) -> None: ...

    def shift(self, seq: int, start: int, end: int, delta: int, moves: TokenMoves) -> None:
        """A state has no positions, but a trail does."""
        self.settle(seq)

    def agrees(self, leader: int, member: int) -> bool:
        return True

    def adopt(self, leader: int, member: int) -> None:
        self._replace(member, int(self._slots[leader]))
        self.settle(member)

    def missing(self, seq: int) -> None: ...

    def fill(self, seqs: Int64, rows: StateRows, places: Places, checkpoints: int) -> Filled:
        held = rows.rows != NO_ROW
        numbers, slot_of = np.unique(rows.rows[held], return_inverse=True)
        fresh = self._counts.allocate(len(numbers))
        self._counts.acquire(fresh[slot_of])
        slots = np.full(len(held), -1, np.int32)
        slots[held] = fresh[slot_of]
        self._slots[seqs] = slots[: len(seqs)]
        holds = slots[len(seqs) :].tolist()
        self._held += len(holds)
        return Filled(Places.of(numbers, fresh.astype(np.int64)), holds)

    def write(self) -> None: ...

    def seal(self) -> SlotTable:
        return SlotTable(self._slots, self._counts.refs, self._held, self._trails)

    def _kept(self, seq: int, position: int, otherwise: int) -> int:
        """The slot of the state before ``position`` of the trail of ``seq``."""
        trail = self._trails.get(seq)
        slot = None if trail is None else trail.slot(position)
        return otherwise if slot is None else slot

    def _replace(self, seq: int, slot: int) -> None:
        old = int(self._slots[seq])
        if old == slot:
            return
        self._slots[seq] = slot
        if slot >= 0:
            self._counts.acquire(np.array([slot], np.int32))
        if old >= 0:
            self._counts.release(np.array([old], np.int32))


class RecurrentView(NamedTuple):
    """A ``CacheView``."""

    owner: RecurrentCache
    runs: Runs

    def begin(self) -> None:
        """Nothing: what is read and what is written are different slots, or one sequence's."""

    def cache(self, key: CacheKey) -> RecurrentState:
        """What the layer reads and writes."""
        return RecurrentState(self.owner.states[key], self.runs)
