"""Memory of recurrent layers: one state a sequence, which every token rewrites, in a slot."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from motet.kernels.slots import RecurrentState, Runs
from motet.memory.counts import Counts
from motet.memory.saved import UNKNOWN, Filled, Places, Pool, Rows, Saved
from motet.memory.slots import SlotMap, SlotPool
from motet.memory.writes import Writes


class RecurrentMemory:
    """A ``Part`` of Memory."""

    def __init__(self, pool: SlotPool, max_sequences: int) -> None:
        self.pool = pool
        self.layers = frozenset(pool.arrays)
        self._max_sequences = max_sequences

    def empty(self) -> SlotMap:
        """The state in which nothing is held."""
        return SlotMap(np.full(self._max_sequences, -1, np.int32), np.zeros(1, np.int32), 0)

    @property
    def pools(self) -> tuple[Pool, ...]:
        """One, of states."""
        layers = {
            i: {f"state.{n}": array[:, None] for n, array in enumerate(arrays)}
            for i, arrays in self.pool.arrays.items()
        }
        return (Pool("states", layers),)

    def export(self, state: SlotMap, seqs: Sequence[int], holds: Sequence[int]) -> Rows:
        """The states of ``seqs`` and then of checkpoints, and the slots of the pool's rows."""
        held = np.array([*state.slots[np.array(seqs, int)], *holds], np.int32)
        slots, rows = np.unique(held[held >= 0], return_inverse=True)
        states = np.full(len(held), UNKNOWN, np.int32)
        states[held >= 0] = rows
        return Rows(states, slots.astype(np.int64))

    def draft(self, state: SlotMap, end: int) -> "RecurrentDraft":
        """A draft of ``state``; a state takes the same room wherever it stands."""
        return RecurrentDraft(self.pool, state)


class RecurrentDraft:
    """A ``Draft``.

    A slot that the base uses is never written: the first micro-batch of a transaction reads it
    and writes a fresh one, in which later micro-batches go on as long as nobody shares it.
    """

    def __init__(self, pool: SlotPool, base: SlotMap) -> None:
        self._pool = pool
        self._slots = base.slots.copy()
        self._held = base.held
        self._counts = Counts(
            base.refs,
            pool.slots,
            "states of sequences",
            hint="remove sequences, or give the context a larger max_sequences",
        )

    def advance(self, writes: Writes) -> "RecurrentView":
        """A slot to write for each set of sequences. Raises CapacityError when none is free."""
        counts, read = self._counts, self._slots[writes.leaders]
        alone = (read >= 0) & counts.ours(read) & (counts.refs[read] == writes.sizes)
        parting = (~alone).nonzero()[0]
        write = read
        if parting.size:
            sharers = writes.sizes[parting]
            write = read.copy()
            write[parting] = counts.take(sharers)
            left = read[parting] >= 0
            counts.release(read[parting][left], sharers[left])
            self._slots[writes.members] = np.repeat(write, writes.sizes)
        order = np.argsort(writes.rows, kind="stable").astype(np.int32)
        starts = np.arange(len(read) + 1, dtype=np.int32)
        if len(order) > len(read):  # not a token each
            np.cumsum(np.bincount(writes.rows), out=starts[1:])
        return RecurrentView(self._pool, Runs(order, starts, read, write))

    def reachable(self, seq: int, position: int) -> int:
        """0: a state of fewer tokens is not kept."""
        return 0

    def hold(self, seq: int) -> int:
        """Refer to the state of ``seq``, which holds something."""
        slot = int(self._slots[seq])
        self._counts.acquire(np.array([slot]))
        self._held += 1
        return slot

    def let_go(self, hold: int) -> None:
        """Refer to it no more."""
        self._counts.release(np.array([hold]))
        self._held -= 1

    def hold_bytes(self, hold: int) -> int:
        """What a state takes."""
        return self._pool.slot_bytes

    @property
    def held_bytes(self) -> int:
        """What all those referred to take."""
        return self._held * self._pool.slot_bytes

    def cut(self, seq: int, position: int, hold: int | None) -> None:
        """Go back to the state ``hold``, or forget everything."""
        self._replace(seq, -1 if hold is None else hold)

    def fork(self, source: int, target: int, position: int, hold: int | None) -> None:
        """Let ``target``, which is empty, begin from the state ``hold``, or else ``source``'s."""
        self._replace(target, int(self._slots[source]) if hold is None else hold)

    def adopt(self, leader: int, member: int) -> None:
        """Let ``member``, whose past equals ``leader``'s, go on from the same state."""
        self._replace(member, int(self._slots[leader]))

    def fill(self, seqs: np.ndarray, saved: Saved) -> Filled:
        """Give ``seqs``, which hold nothing, the saved states.

        Raises CapacityError when no slot is free.
        """
        held = saved.states != UNKNOWN
        rows, slot_of = np.unique(saved.states[held], return_inverse=True)
        fresh = self._counts.allocate(len(rows))
        self._counts.acquire(fresh[slot_of])
        slots = np.full(len(held), -1, np.int32)
        slots[held] = fresh[slot_of]
        self._slots[seqs] = slots[: len(seqs)]
        holds = slots[len(seqs) :].tolist()
        self._held += len(holds)
        return Filled([Places.of(rows, fresh.astype(np.int64))], holds)

    def seal(self) -> SlotMap:
        """The state as it has become."""
        return SlotMap(self._slots, self._counts.refs, self._held)

    def _replace(self, seq: int, slot: int) -> None:
        old = int(self._slots[seq])
        if old == slot:
            return
        self._slots[seq] = slot
        if slot >= 0:
            self._counts.acquire(np.array([slot]))
        if old >= 0:
            self._counts.release(np.array([old]))


@dataclass(frozen=True)
class RecurrentView:
    """A ``PartView``."""

    pool: SlotPool
    runs: Runs

    def begin(self) -> None:
        """Nothing: what is read and what is written are different slots, or one sequence's."""

    def layer(self, index: int) -> RecurrentState:
        """What layer ``index`` reads and writes."""
        return RecurrentState(self.pool.arrays[index], self.runs)
