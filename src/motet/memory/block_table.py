"""Block tables: which page holds which positions of which sequence, shared and copied on write.

A ``BlockTable`` is never changed. A ``BlockTableDraft`` starts as its copy, is changed freely and
sealed into the next one, or dropped. While a draft lives, nothing that its base can see is written
over: pages come from those that the base does not use, and a page in use takes only tokens at
places that no sequence of the base holds. So dropping a draft at any point undoes it.

Here are numbers of pages alone; what lies in them is known to the owner of the table.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from motet.arrays import Array, Int32, Int64, UInt64
from motet.kernels import PAGE, Kernels
from motet.kernels.interface import BlockTables
from motet.memory import page_masks
from motet.memory.ref_counts import RefCounts
from motet.memory.saved import TokenRows
from motet.memory.slot_mapping import SlotMapping


@dataclass(frozen=True)
class PageCopies:
    """Pages to copy before anything is written, each to its partner."""

    source: Int64
    target: Int64

    @classmethod
    def of(cls, pairs: list[tuple[int, int]]) -> "PageCopies":
        """Of (source, target)."""
        if not pairs:
            return NO_COPIES
        both = np.array(pairs, np.int64)
        return cls(both[:, 0], both[:, 1])

    def __len__(self) -> int:
        return len(self.source)


NO_COPIES = PageCopies(np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True)
class TokenMoves:
    """Pages to copy, and then tokens to copy from slot to slot."""

    pages: PageCopies
    source: Int64
    target: Int64


class LayerSlots(NamedTuple):
    """Where the layers of a cache read and write in one micro-batch."""

    tables: BlockTables
    copies: PageCopies
    """Pages that other sequences go on with; copied before this micro-batch writes."""


class BlockTable(NamedTuple):
    """Where the tokens of every sequence lie."""

    tables: Int32
    """``[S, P]``: page that holds positions 64·j … 64·j + 63, -1 where there is none."""
    masks: UInt64
    """``[S, P]``: bit p % 64 is set where position p is held."""
    refs: Int32
    """Table entries and checkpoints that name each page, for those ever in use."""
    held: Int32
    """Checkpoints alone; where it ends, there are none."""
    pages: int
    """How many there are."""

    def places(self, seq: int) -> tuple[Int64, Int64]:
        """Positions that ``seq`` holds, ascending, and their slots."""
        at = page_masks.positions(self.masks[seq])
        return at, page_masks.page_slots(self.tables[seq], at)

    @classmethod
    def empty(cls, sequences: int, pages: int) -> "BlockTable":
        """Nothing held by any of ``sequences``."""
        tables, masks = np.zeros((sequences, 0), np.int32), np.zeros((sequences, 0), np.uint64)
        return cls(tables, masks, np.zeros(1, np.int32), np.zeros(0, np.int32), pages)


@dataclass(frozen=True)
class HeldBlocks:
    """A checkpoint's references to what a sequence held, ``[n]`` table entries of it."""

    entries: Int64
    pages: Int32
    masks: UInt64

    def places(self) -> tuple[Int64, Int64]:
        """Positions that it holds, ascending, and their slots."""
        at = page_masks.positions(self.masks)
        places = self.entries[at // PAGE] * PAGE + at % PAGE
        return places, page_masks.page_slots(self.pages, at)


@dataclass(frozen=True)
class Blocks:
    """What the owners of saved tokens hold, block by block: what one has in one table entry."""

    numbers: Int64
    """``[N]``: the block that each token belongs to, owner after owner."""
    owners: Int64
    """``[B]``."""
    entries: Int64
    """``[B]``: the table entry, position // PAGE; ascending in each owner."""
    masks: UInt64
    """``[B]``: the positions held in it."""
    starts: Int64
    """``[owners]``: the first block of each …"""
    counts: Int64
    """… and how many there are."""

    @classmethod
    def of(cls, saved: TokenRows) -> "Blocks":
        """Of what each owner holds."""
        owners, positions = saved.owners, saved.positions.astype(np.int64)
        numbers = _blocks(owners, positions)
        firsts = np.flatnonzero(np.diff(numbers, prepend=-1))
        masks = np.zeros(len(firsts), np.uint64)
        np.bitwise_or.at(masks, numbers, page_masks.bit(positions))
        owner = owners[firsts]
        counts = np.bincount(owner, minlength=len(saved.lengths))
        starts = counts.cumsum() - counts
        return cls(numbers, owner, positions[firsts] // PAGE, masks, starts, counts)

    def masks_of(self, owner: int, entries: Int64) -> UInt64:
        """What an owner holds in each of these table entries."""
        own = slice(start := int(self.starts[owner]), start + int(self.counts[owner]))
        held, masks = self.entries[own], self.masks[own]
        if not held.size:
            return np.zeros(len(entries), np.uint64)
        at = np.minimum(np.searchsorted(held, entries), len(held) - 1)
        return np.where(held[at] == entries, masks[at], np.uint64(0))


class BlockTableDraft:
    """A table being changed; ``columns``: table entries that it needs, at least the base's."""

    def __init__(self, base: BlockTable, columns: int) -> None:
        more = max(0, columns - base.tables.shape[1])
        self.tables: Int32 = _widened(base.tables, more, -1)
        self.masks: UInt64 = _widened(base.masks, more, 0)
        self.held = base.held
        self._base = base
        self._counts = RefCounts(
            base.refs,
            base.pages,
            f"pages of {PAGE} tokens",
            hint="remove sequences, or give the context a larger max_tokens or kv_bytes",
        )

    @property
    def used(self) -> int:
        """Pages in use while the draft lives: by the base, or at some time by the draft."""
        return self._counts.used

    def advance(self, mapping: SlotMapping, kernels: Kernels) -> LayerSlots:
        """Make room for a micro-batch's tokens, with a page of its own for each set of sequences.

        Raises CapacityError when no page is free.
        """
        copies = self._write(mapping)
        rows, positions = mapping.rows, mapping.positions
        end = int(np.maximum.reduce(mapping.entries)) + 1
        tables, masks = self.tables[mapping.leaders, :end], self.masks[mapping.leaders, :end]
        slots = tables[rows, positions // PAGE].astype(np.int64) * PAGE + positions % PAGE
        seen = kernels.block_tables(tables, masks, rows.astype(np.int32), positions, slots)
        return LayerSlots(seen, copies)

    def widen(self, columns: int) -> None:
        """Room for so many table entries."""
        more = columns - self.tables.shape[1]
        if more > 0:
            self.tables = _widened(self.tables, more, -1)
            self.masks = _widened(self.masks, more, 0)

    def adopt(self, leader: int, member: int) -> None:
        """Give ``member`` the pages of ``leader`` in place of its own."""
        old, new = self.tables[member].copy(), self.tables[leader]
        if np.array_equal(old, new) and np.array_equal(self.masks[member], self.masks[leader]):
            return
        self._counts.acquire(new[new >= 0])
        self.tables[member], self.masks[member] = new, self.masks[leader]
        self._counts.release(old[old >= 0])

    def fill(self, seqs: Int64, saved: TokenRows) -> tuple[Int64, list[HeldBlocks]]:
        """Fresh pages for what ``seqs``, which hold nothing, are given, and after them checkpoints.

        They share pages where they can. Returns the slot of each entry of ``saved``, and the
        checkpoints' references.
        """
        positions, blocks = saved.positions.astype(np.int64), Blocks.of(saved)
        shared = _shared(blocks.numbers, positions, saved.rows)
        homes, page_of = np.unique(shared, return_inverse=True)
        pages = self._counts.allocate(len(homes))[page_of]
        self._counts.acquire(pages)
        entries, masks = blocks.entries, blocks.masks
        own = blocks.owners < len(seqs)
        where = seqs[blocks.owners[own]], entries[own]
        self.tables[where], self.masks[where] = pages[own], masks[own]
        first = np.append(blocks.starts, len(pages))[len(seqs) :]
        holds = [HeldBlocks(entries[a:b], pages[a:b], masks[a:b]) for a, b in pairwise(first)]
        self._count_held(pages[~own], 1)
        return pages[blocks.numbers].astype(np.int64) * PAGE + positions % PAGE, holds

    def retire(self, seqs: Int64, limits: Int64) -> None:
        """Give up the entries of ``seqs`` below ``limits`` (``[M]`` each)."""
        most = int(limits.max(initial=0))
        if most <= 0:
            return
        held = (self.tables[seqs, :most] >= 0) & (np.arange(most) < limits[:, None])
        if not held.any():
            return
        which, entries = np.nonzero(held)
        where = seqs[which], entries
        pages = self.tables[where]
        self.tables[where] = -1
        self.masks[where] = 0
        self._counts.release(pages)

    def remove(self, seq: int, start: int, end: int) -> None:
        """Forget positions start … end - 1."""
        first = start // PAGE
        entries = slice(first, -(-end // PAGE))
        mask = self.masks[seq, entries]
        mask &= ~page_masks.span(start, end, np.arange(first, first + len(mask)))
        self._release_empty(self.tables[seq, entries], mask)

    def cut(self, seq: int, position: int) -> None:
        """Forget ``position`` and all that follows."""
        entries = slice(position // PAGE, None)
        mask = self.masks[seq, entries]
        mask[:1] &= page_masks.low(position % PAGE)
        mask[1:] = 0
        self._release_empty(self.tables[seq, entries], mask)

    def _release_empty(self, table: Int32, mask: UInt64) -> None:
        """Give up pages of these entries where nothing is held."""
        empty = (table >= 0) & (mask == 0)
        if np.count_nonzero(empty):
            pages = table[empty]
            table[empty] = -1
            self._counts.release(pages)

    def hold(self, seq: int, start: int) -> HeldBlocks:
        """Refer to the pages of ``seq`` with positions from ``start`` on."""
        first = max(start, 0) // PAGE
        entries = np.flatnonzero(self.tables[seq, first:] >= 0) + first
        hold = HeldBlocks(entries, self.tables[seq, entries], self.masks[seq, entries])
        self._counts.acquire(hold.pages)
        self._count_held(hold.pages, 1)
        return hold

    def release(self, hold: HeldBlocks) -> None:
        """Refer to them no more."""
        self._counts.release(hold.pages)
        self._count_held(hold.pages, -1)

    def restore(self, seq: int, hold: HeldBlocks) -> None:
        """Give ``seq`` what was held, in place of what it holds now."""
        table, mask = self.tables[seq], self.masks[seq]
        self._counts.acquire(hold.pages)
        self._counts.release(table[table >= 0])
        table[:], mask[:] = -1, 0
        table[hold.entries], mask[hold.entries] = hold.pages, hold.masks

    def share(self, source: int, target: int, start: int, end: int) -> TokenMoves:
        """Give ``target`` the positions start … end - 1 of ``source``, where it has none.

        Pages are shared where it has none either; elsewhere tokens move into a page of its own.
        """
        columns = np.arange(len(self.masks[source]), dtype=np.int64)
        given = self.masks[source] & page_masks.span(start, end, columns)
        own, theirs = self.tables[target], self.tables[source]
        merged = (given != 0) & (own >= 0) & (own != theirs)
        added = (given != 0) & (own < 0)
        self._counts.acquire(theirs[added])
        own[added] = theirs[added]
        copies = self._renew(target, np.flatnonzero(merged))
        self.masks[target] |= given
        at = page_masks.positions(np.where(merged, given, np.uint64(0)))
        return TokenMoves(copies, page_masks.page_slots(theirs, at), page_masks.page_slots(own, at))

    def shift(self, seq: int, start: int, end: int, delta: int) -> TokenMoves:
        """Move positions start … end - 1 by ``delta``, into fresh pages; targets must be free."""
        columns = np.arange(len(self.masks[seq]), dtype=np.int64)
        at = page_masks.positions(self.masks[seq] & page_masks.span(start, end, columns))
        source = page_masks.page_slots(self.tables[seq], at)
        self.remove(seq, start, end)
        at += delta
        copies = self._renew(seq, np.unique(at // PAGE))
        np.bitwise_or.at(self.masks[seq], at // PAGE, page_masks.bit(at))
        return TokenMoves(copies, source, page_masks.page_slots(self.tables[seq], at))

    def seal(self, columns: int) -> BlockTable:
        """The table as it has become, of which ``columns`` entries are in use."""
        tables, masks = self.tables[:, :columns], self.masks[:, :columns]
        return BlockTable(tables, masks, self._counts.refs, self.held, self._base.pages)

    def _write(self, mapping: SlotMapping) -> PageCopies:
        counts, pages = self._counts, self.tables[mapping.entry_seqs, mapping.entries]
        missing, doubtful = pages < 0, counts.refs[pages] > mapping.sharers
        if counts.left:
            doubtful |= np.isin(pages, list(counts.left))
        copies: list[tuple[int, int]] = []
        for k in (doubtful & ~missing).nonzero()[0].tolist():
            page, sharers = np.array(pages[k : k + 1]), mapping.sharers[k : k + 1]
            written = int(mapping.bits[k])
            if counts.refs[page[0]] > sharers[0] or self._base_holds(int(page[0]), written):
                pages[k : k + 1] = counts.take(sharers)
                copies.append((int(page[0]), int(pages[k])))
                counts.release(page, sharers)
        added = bool(np.count_nonzero(missing))
        if added:
            pages[missing] = counts.take(mapping.sharers[missing])
        each = mapping.member_entry
        where, bits = (mapping.member_seqs, mapping.entries[each]), mapping.bits[each]
        if copies or added:
            self.tables[where] = pages[each]
        self.masks[where] |= bits
        return PageCopies.of(copies)

    def _renew(self, seq: int, entries: Int64) -> PageCopies:
        """A fresh page for each of the entries; those to copy into it."""
        old, new = self.tables[seq, entries], self._counts.take(np.ones(len(entries), np.int64))
        self.tables[seq, entries] = new
        self._counts.release(old[old >= 0])
        used = old >= 0
        return PageCopies(old[used].astype(np.int64), new[used].astype(np.int64))

    def _count_held(self, pages: Int32, change: int) -> None:
        """``pages``: one that several checkpoints hold comes as often."""
        self.held = np.pad(self.held, (0, len(self._counts.refs) - len(self.held)))
        np.add.at(self.held, pages, change)

    def _base_holds(self, page: int, written: int) -> bool:
        """Whether the base may hold a token where one is to be written."""
        if page < len(self._base.held) and self._base.held[page]:
            return True
        holders = self._base.masks[self._base.tables == page]
        return bool(int(np.bitwise_or.reduce(holders)) & written)


def _widened(array: Array, more: int, fill: int) -> Array:
    """A copy with so many more columns."""
    if not more:
        return np.array(array)
    return np.pad(array, ((0, 0), (0, more)), constant_values=fill)


def _blocks(owners: Int64, positions: Int64) -> Int64:
    """``[N]``: the number of the block, from 0, that each token belongs to.

    A block is what a sequence holds in one table entry. ``owners`` and ``positions``: ``[N]``,
    sequence after sequence, positions ascending in each.
    """
    entries = positions // PAGE
    begins = (np.diff(owners) != 0) | (np.diff(entries) != 0)
    return np.concatenate([np.zeros(min(1, len(owners)), np.int64), np.cumsum(begins)])


def _shared(blocks: Int64, positions: Int64, rows: Int32) -> Int64:
    """``[B]``: for each block the one whose page it can live in, often its own.

    A block lives in another's page where that holds all its tokens at the same positions, as
    forks do until they part, and one that went back or stayed behind. ``rows``: equal numbers
    mean one token.
    """
    count = int(blocks[-1]) + 1 if blocks.size else 0
    itself = np.arange(count)
    if count < 2:
        return itself
    places = np.unique((positions << 32) | rows, return_inverse=True)[1].astype(np.int64)
    sizes = np.bincount(blocks, minlength=count)
    by_place = np.lexsort((blocks, -sizes[blocks], places))
    firsts = np.flatnonzero(np.diff(places[by_place], prepend=-1))
    largest = blocks[by_place[firsts]]  # [place]: the largest block with that token there
    last = np.cumsum(sizes) - 1  # the last token of a block is in the fewest others
    home = largest[places[last]]
    stride = int(places.max()) + 1
    found = np.isin(home[blocks] * stride + places, blocks * stride + places)
    whole = np.bincount(blocks[~found], minlength=count) == 0
    target = np.where(whole, home, itself)
    return np.where(target[target] == target, target, itself)
