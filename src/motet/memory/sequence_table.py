"""Which tokens each sequence holds: ids, positions, and which of them are the same token.

It belongs to no layer: what layers keep of the tokens lies in caches. Tokens lie in pages of their
own block table, which caches of full attention share, since they keep exactly these.
"""

from typing import NamedTuple

import numpy as np

from motet.arrays import Int32, Int64
from motet.kernels import PAGE, Kernels
from motet.memory import page_masks
from motet.memory.block_table import (
    NO_COPIES,
    BlockTable,
    BlockTableDraft,
    LayerSlots,
    PageCopies,
    TokenMoves,
)
from motet.memory.saved import Places, SavedSequences, TokenRows, number_tokens
from motet.memory.slot_mapping import SlotMapping

UNBROKEN = int(np.iinfo(np.int64).max)

_PARTIAL_PAGES = 3
"""Pages that a sequence may fill partly: its first, its last, the one where it left a fork."""


class SequenceState(NamedTuple):
    """What the sequences hold at one moment; replaced as a whole, never changed."""

    blocks: BlockTable
    ends: Int64
    """``[S]``: the position after the last token held, 0 where there is none."""
    lengths: Int64
    """``[S]``: tokens held."""
    broken: Int64
    """``[S]``: tokens from this position on were computed with another past than the one held now
    (something was removed or moved beneath them); UNBROKEN where there are none."""

    def positions(self, seq: int) -> Int64:
        """Positions of the tokens that ``seq`` holds, ascending."""
        return page_masks.positions(self.blocks.masks[seq])


class SequenceTable:
    """The tokens by slot: their ids, and a serial number for each that was ever decoded.

    Equal serials mean one token, decoded once: what layers keep of it is the same bits in
    whichever pages it lies.
    """

    def __init__(self, max_sequences: int, max_tokens: int, most_pages: int) -> None:
        """``most_pages``: that caches have memory for."""
        self.max_sequences = max_sequences
        pages = -(-max_tokens // PAGE) + _PARTIAL_PAGES * max_sequences
        self.pages = min(pages, most_pages)
        """Of tokens, and so of every cache that keeps them all."""
        self._ids = np.zeros(PAGE, np.int32)
        self._serials = np.zeros(PAGE, np.int64)
        self._decoded = 0

    def empty(self) -> SequenceState:
        """The state in which nothing is held."""
        n = self.max_sequences
        return SequenceState(
            BlockTable.empty(n, self.pages),
            ends=np.zeros(n, np.int64),
            lengths=np.zeros(n, np.int64),
            broken=np.full(n, UNBROKEN),
        )

    def draft(self, state: SequenceState, end: int) -> "SequenceDraft":
        """A draft of ``state`` with room for positions below ``end``."""
        return SequenceDraft(self, state, end)

    def ids(self, slots: Int64) -> Int32:
        """The tokens in ``slots``."""
        return self._ids[slots]

    def serials(self, slots: Int64) -> Int64:
        """Their serial numbers."""
        return self._serials[slots]

    def distinct(self, state: SequenceState) -> int:
        """Tokens held by all sequences; one that several share counts once."""
        blocks = state.blocks
        masks = np.zeros(len(blocks.refs), np.uint64)
        used = blocks.tables >= 0
        np.bitwise_or.at(masks, blocks.tables[used], blocks.masks[used])
        return np.unique(self.serials(page_masks.positions(masks))).size

    def export(self, state: SequenceState, seqs: list[int]) -> tuple[SavedSequences, Int64]:
        """What ``seqs`` hold, and the slot of each row."""
        places = [state.blocks.places(seq) for seq in seqs]
        held, slots = self.token_rows(state, seqs, places)
        numbers = np.array(seqs, np.int64)
        return SavedSequences(numbers, state.broken[numbers], self.ids(slots), held), slots

    def token_rows(
        self, state: SequenceState, seqs: list[int], places: list[tuple[Int64, Int64]]
    ) -> tuple[TokenRows, Int64]:
        """A row for each different token at ``places``, and the slot of each row.

        ``places``: of each owner positions, and slots in whatever pages it keeps them in;
        ``seqs``: for each a sequence that holds these positions.
        """
        lengths = np.array([len(positions) for positions, _ in places], np.int64)
        positions = np.concatenate([np.arange(0), *(each for each, _ in places)])
        lie = np.concatenate([np.arange(0), *(each for _, each in places)])
        page = state.blocks.tables[np.repeat(np.array(seqs, np.int64), lengths), positions // PAGE]
        serials = self.serials(page.astype(np.int64) * PAGE + positions % PAGE)
        rows, slots = number_tokens(serials, lie)
        return TokenRows(lengths, positions.astype(np.int32), rows), slots

    def put(self, slots: Int64, ids: Int32, rows: Int64 | Int32, count: int) -> None:
        """``count`` tokens that are new here; those with equal ``rows`` (from 0) are one."""
        if not len(slots):
            return
        self._reach(int(np.maximum.reduce(slots)))
        self._ids[slots] = ids
        self._serials[slots] = self._decoded + rows
        self._decoded += count

    def move(self, moves: TokenMoves) -> None:
        """Copy tokens as ``moves`` says."""
        self.copy_pages(moves.pages)
        if len(moves.target):
            self._reach(int(moves.target.max()))
            self._ids[moves.target] = self._ids[moves.source]
            self._serials[moves.target] = self._serials[moves.source]

    def copy_pages(self, copies: PageCopies) -> None:
        """Copy the tokens of whole pages."""
        for old, new in zip(copies.source.tolist(), copies.target.tolist(), strict=True):
            self._reach(max(old, new) * PAGE)
            for array in (self._ids, self._serials):
                array[new * PAGE :][:PAGE] = array[old * PAGE :][:PAGE]

    def _reach(self, slot: int) -> None:
        """Room for the page of ``slot``; arrays grow, since most contexts never fill."""
        if slot >= len(self._ids):
            more = max(len(self._ids), slot // PAGE * PAGE + PAGE - len(self._ids))
            self._serials = np.pad(self._serials, (0, more))
            self._ids = np.pad(self._ids, (0, more))


class SequenceDraft:
    """Changes to the sequence table, made on a private copy of its bookkeeping."""

    def __init__(self, table: SequenceTable, state: SequenceState, end: int) -> None:
        """``end``: room is needed for positions below it."""
        self.blocks = BlockTableDraft(state.blocks, -(-end // PAGE))
        self.ends: Int64 = state.ends.copy()
        self._table = table
        self._lengths: Int64 = state.lengths.copy()
        self._broken: Int64 = state.broken.copy()

    @property
    def columns(self) -> int:
        """Entries of each sequence's row in a block table."""
        return self.blocks.tables.shape[1]

    def advance(self, mapping: SlotMapping, kernels: Kernels) -> LayerSlots:
        """Add a micro-batch's tokens. Raises CapacityError when no page is free."""
        self.ends[mapping.members] = mapping.end
        self._lengths[mapping.members] += mapping.end - mapping.first
        placed = self.blocks.advance(mapping, kernels)
        # At once, for ``agree`` later in the same transaction.
        if placed.copies is not NO_COPIES:
            self._table.copy_pages(placed.copies)
        count = len(mapping.tokens)
        self._table.put(placed.tables.slots, mapping.tokens, np.arange(count), count)
        return placed

    def end(self, seq: int) -> int:
        """The position after the last one that ``seq`` holds; 0 if it is empty."""
        return int(self.ends[seq])

    def first(self, seq: int) -> int:
        """The first position that ``seq`` holds; 0 if it is empty."""
        held = self.positions(seq)
        return int(held[0]) if held.size else 0

    def positions(self, seq: int) -> Int64:
        """Positions of the tokens that ``seq`` holds, ascending."""
        return page_masks.positions(self.blocks.masks[seq])

    def agree(self, a: int, b: int) -> bool:
        """Whether two sequences hold the same tokens with, bit for bit, the same cache contents.

        A token decoded once for both is such; and so are equal tokens at equal positions that
        have had nothing but such tokens before them (the solo law).
        """
        blocks, table = self.blocks, self._table
        if not np.array_equal(blocks.masks[a], blocks.masks[b]):
            return False
        if np.array_equal(blocks.tables[a], blocks.tables[b]):
            return True
        held = self.positions(a)
        slots_a, slots_b = (page_masks.page_slots(blocks.tables[seq], held) for seq in (a, b))
        unbroken = held < min(self._broken[a], self._broken[b])
        equal = unbroken & (table.ids(slots_a) == table.ids(slots_b))
        return bool(np.all(equal | (table.serials(slots_a) == table.serials(slots_b))))

    def adopt(self, leader: int, member: int) -> None:
        """Let ``member``, which agrees with ``leader``, go on in its pages."""
        self.blocks.adopt(leader, member)

    def cut(self, seq: int, position: int) -> None:
        """Forget ``position`` and all that follows."""
        tail = self.blocks.masks[seq, position // PAGE :]
        before = page_masks.count(tail)
        self.blocks.cut(seq, position)
        if page_masks.holds(self.blocks.masks[seq], position - 1):  # the rest need not be counted
            left = int(self._lengths[seq]) - before + page_masks.count(tail)
            self._set_length(seq, left, position)
        else:
            self._recount(seq)

    def fork(self, source: int, target: int, position: int) -> None:
        """Give ``target``, which is empty, all that ``source`` holds before ``position``."""
        self._broken[target] = self._broken[source]
        self.blocks.share(source, target, 0, position)
        self._recount(target)

    def remove(self, seq: int, start: int, end: int) -> None:
        """Take positions start … end - 1 out."""
        held = self.positions(seq)
        removed = (held >= start) & (held < end)
        above = held[(held >= end) & removed.any()]
        if above.size:
            self._broken[seq] = min(self._broken[seq], above[0])
        self.blocks.remove(seq, start, end)
        self._recount(seq)

    def insert(self, source: int, target: int, start: int, end: int) -> TokenMoves:
        """Add positions start … end - 1 of ``source``, some at least, to ``target``.

        Raises CapacityError when no page is free.
        """
        held = self.positions(source)
        first = held[held >= start][0]
        if first == held[0] and self._lengths[target] == 0:
            self._broken[target] = self._broken[source]
        else:
            self._broken[target] = min(self._broken[target], first)
        return self._moved(target, self.blocks.share(source, target, start, end))

    def shift(self, seq: int, start: int, end: int, delta: int) -> TokenMoves:
        """Move positions start … end - 1, some at least, to free ones. Raises CapacityError."""
        held = self.positions(seq)
        first = held[held >= start][0]
        self._broken[seq] = min(self._broken[seq], first, first + delta)
        return self._moved(seq, self.blocks.shift(seq, start, end, delta))

    def fill(self, seqs: Int64, saved: SavedSequences) -> Places:
        """Give ``seqs``, which hold nothing, what was saved; where the rows are to go.

        The tokens themselves are still to be ``put`` there. Raises CapacityError when no page is
        free.
        """
        slots, _ = self.blocks.fill(seqs, saved.held)
        self._broken[seqs] = saved.broken
        for seq in seqs.tolist():
            self._recount(seq)
        return Places.of(saved.held.rows, slots)

    def seal(self) -> SequenceState:
        """The state as it has become."""
        columns = -(-int(np.maximum.reduce(self.ends)) // PAGE)
        return SequenceState(self.blocks.seal(columns), self.ends, self._lengths, self._broken)

    def _moved(self, seq: int, moves: TokenMoves) -> TokenMoves:
        self._table.move(moves)
        self._recount(seq)
        return moves

    def _recount(self, seq: int) -> None:
        held = self.positions(seq)
        self._set_length(seq, held.size, int(held[-1]) + 1 if held.size else 0)

    def _set_length(self, seq: int, length: int, end: int) -> None:
        self._lengths[seq] = length
        self.ends[seq] = end
        if self._broken[seq] >= end:
            self._broken[seq] = UNBROKEN
