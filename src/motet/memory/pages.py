"""Which page holds which token: page tables, reference counts, copy on write; no keys or values.

A ``PageMap`` is never changed. A ``PageDraft`` starts as its copy, is changed freely and sealed
into the next map, or dropped. While a draft lives, nothing that its base can see is written over:
pages come from those that the base does not use, and a page in use takes only tokens at places
that no sequence of the base holds. So dropping a draft at any point undoes it.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from motet.kernels.paged import PAGE
from motet.memory import bits
from motet.memory.counts import Counts
from motet.memory.saved import Held
from motet.memory.sharing import page_blocks, shared_blocks
from motet.memory.writes import Writes

Copies = list[tuple[int, int]]
"""Pages to copy before anything is written: (source, target)."""


@dataclass(frozen=True)
class Moves:
    """Pages to copy, and then tokens to copy from slot to slot (int64 ``[n]`` each)."""

    pages: Copies
    source: np.ndarray
    target: np.ndarray


@dataclass(frozen=True)
class PageMap:
    """Where the tokens of every sequence lie, for layers that remember alike."""

    tables: np.ndarray
    """int32 ``[S, P]``: page that holds positions 64·j … 64·j + 63, -1 where there is none."""
    masks: np.ndarray
    """uint64 ``[S, P]``: bit p % 64 is set where position p is held."""
    refs: np.ndarray
    """int32: table entries and checkpoints that name each page, for those ever in use."""
    held: np.ndarray
    """int32: checkpoints alone; where it ends, there are none."""
    pages: int
    """How many there are."""

    def places(self, seq: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions that ``seq`` holds, ascending, and their slots; int64."""
        at = bits.positions(self.masks[seq])
        return at, bits.page_slots(self.tables[seq], at)

    @classmethod
    def empty(cls, sequences: int, pages: int) -> "PageMap":
        """Nothing held by any of ``sequences``."""
        tables, masks = np.zeros((sequences, 0), np.int32), np.zeros((sequences, 0), np.uint64)
        return cls(tables, masks, np.zeros(1, np.int32), np.zeros(0, np.int32), pages)


@dataclass(frozen=True)
class PageHold:
    """A checkpoint's references to what a sequence held, ``[n]`` table entries of it."""

    entries: np.ndarray
    pages: np.ndarray
    masks: np.ndarray

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions that it holds, ascending, and their slots; int64."""
        at = bits.positions(self.masks)
        places = self.entries[at // PAGE] * PAGE + at % PAGE
        return places, bits.page_slots(self.pages, at)


class PageDraft:
    """A map being changed; ``columns``: table entries that it needs, at least the base's."""

    def __init__(self, base: PageMap, columns: int) -> None:
        self.tables = _widened(base.tables, columns, -1)
        self.masks = _widened(base.masks, columns, 0)
        self.held = base.held
        self._base = base
        self._counts = Counts(
            base.refs,
            base.pages,
            f"pages of {PAGE} tokens",
            hint="remove sequences, or give the context a larger max_tokens",
        )
        self._shown = self.tables, self.masks
        """What micro-batches are shown. Entries are only added to it, so that all those of a
        long prompt share it: a later position is no query's past, and a retired entry (gone
        from ``tables``) is out of every later query's window."""
        self._lent = False

    def lend(self) -> tuple[np.ndarray, np.ndarray]:
        """Tables and masks for a micro-batch; they stay right for it whatever follows."""
        self._lent = True
        return self._shown

    def write(self, w: Writes) -> Copies:
        """Make room for a micro-batch's tokens, with a page of its own for each set of sequences.

        Raises CapacityError when no page is free.
        """
        counts, pages = self._counts, self.tables[w.entry_seqs, w.entries]
        doubtful = (pages >= 0) & (counts.refs[pages] > w.sharers)
        if counts.left:
            doubtful |= np.isin(pages, list(counts.left))
        copies = []
        for k in doubtful.nonzero()[0]:
            page, sharers = pages[k : k + 1].copy(), w.sharers[k]
            if counts.refs[page[0]] > sharers or self._base_holds(page[0], w.bits[k]):
                pages[k : k + 1] = counts.take(w.sharers[k : k + 1])
                copies.append((int(page[0]), int(pages[k])))
                counts.release(page, sharers)
        missing = (pages < 0).nonzero()[0]
        if missing.size:
            pages[missing] = counts.take(w.sharers[missing])
        if copies:
            self._replace()
        where = w.member_seqs, w.entries[w.member_entry]
        for tables, masks in self._arrays():
            tables[where] = pages[w.member_entry]
            masks[where] |= w.bits[w.member_entry]
        return copies

    def adopt(self, leader: int, member: int) -> None:
        """Give ``member`` the pages of ``leader`` in place of its own."""
        if self._same(leader, member):
            return
        self._replace()
        old, new = self.tables[member].copy(), self.tables[leader]
        self._counts.acquire(new[new >= 0])
        self.tables[member], self.masks[member] = new, self.masks[leader]
        self._counts.release(old[old >= 0])

    def fill(self, seqs: np.ndarray, held: Held) -> tuple[np.ndarray, list[PageHold]]:
        """Fresh pages for what ``seqs``, which hold nothing, are given, and after them checkpoints.

        They share pages where they can. Returns the slot of each entry of ``held``, int64, and
        the checkpoints' references.
        """
        owners = np.repeat(np.arange(len(held.lengths)), held.lengths)
        positions = held.positions.astype(np.int64)
        blocks = page_blocks(owners, positions)
        homes, page_of = np.unique(shared_blocks(blocks, positions, held.rows), return_inverse=True)
        pages = self._counts.allocate(len(homes))[page_of]
        self._counts.acquire(pages)
        firsts = np.flatnonzero(np.diff(blocks, prepend=-1))
        masks = np.zeros(len(pages), np.uint64)
        np.bitwise_or.at(masks, blocks, np.uint64(1) << (positions % PAGE).astype(np.uint64))
        owner, entries = owners[firsts], positions[firsts] // PAGE
        own = owner < len(seqs)
        self.tables[seqs[owner[own]], entries[own]] = pages[own]
        self.masks[seqs[owner[own]], entries[own]] = masks[own]
        ends = np.searchsorted(owner, np.arange(len(seqs), len(held.lengths) + 1))
        holds = [PageHold(entries[a:b], pages[a:b], masks[a:b]) for a, b in pairwise(ends)]
        for hold in holds:
            self._count_held(hold, 1)
        return pages[blocks].astype(np.int64) * PAGE + positions % PAGE, holds

    def retire(self, seqs: np.ndarray, limits: np.ndarray) -> None:
        """Give up the entries of ``seqs`` below ``limits`` (int64 ``[M]`` each)."""
        most = int(limits.max(initial=0))
        if most <= 0:
            return
        held = (self.tables[seqs, :most] >= 0) & (np.arange(most) < limits[:, None])
        if not held.any():
            return
        self._keep_shown()
        which, entries = np.nonzero(held)
        where = seqs[which], entries
        pages = self.tables[where]
        self.tables[where] = -1
        self.masks[where] = 0
        self._counts.release(pages)

    def remove(self, seq: int, start: int, end: int) -> None:
        """Forget positions start … end - 1."""
        table, mask = self.tables[seq], self.masks[seq]
        mask &= ~bits.span(start, end, np.arange(len(mask)))
        empty = (table >= 0) & (mask == 0)
        pages = table[empty]
        table[empty] = -1
        self._counts.release(pages)

    def hold(self, seq: int, start: int) -> PageHold:
        """Refer to the pages of ``seq`` with positions from ``start`` on."""
        first = max(start, 0) // PAGE
        entries = np.flatnonzero(self.tables[seq, first:] >= 0) + first
        hold = PageHold(entries, self.tables[seq, entries], self.masks[seq, entries])
        self._counts.acquire(hold.pages)
        self._count_held(hold, 1)
        return hold

    def let_go(self, hold: PageHold) -> None:
        """Refer to them no more."""
        self._counts.release(hold.pages)
        self._count_held(hold, -1)

    def restore(self, seq: int, hold: PageHold) -> None:
        """Give ``seq`` what was held, in place of what it holds now."""
        table, mask = self.tables[seq], self.masks[seq]
        self._counts.acquire(hold.pages)
        self._counts.release(table[table >= 0])
        table[:], mask[:] = -1, 0
        table[hold.entries], mask[hold.entries] = hold.pages, hold.masks

    def share(self, source: int, target: int, start: int, end: int) -> Moves:
        """Give ``target`` the positions start … end - 1 of ``source``, where it has none.

        Pages are shared where it has none either; elsewhere tokens move into a page of its own.
        """
        given = self.masks[source] & bits.span(start, end, np.arange(self.masks.shape[1]))
        own, theirs = self.tables[target], self.tables[source]
        merged = (given != 0) & (own >= 0) & (own != theirs)
        added = (given != 0) & (own < 0)
        self._counts.acquire(theirs[added])
        own[added] = theirs[added]
        copies = self._renew(target, np.flatnonzero(merged))
        self.masks[target] |= given
        at = bits.positions(np.where(merged, given, np.uint64(0)))
        return Moves(copies, bits.page_slots(theirs, at), bits.page_slots(own, at))

    def shift(self, seq: int, start: int, end: int, delta: int) -> Moves:
        """Move positions start … end - 1 by ``delta``, into fresh pages; targets must be free."""
        at = bits.positions(self.masks[seq] & bits.span(start, end, np.arange(self.masks.shape[1])))
        source = bits.page_slots(self.tables[seq], at)
        self.remove(seq, start, end)
        at += delta
        copies = self._renew(seq, np.unique(at // PAGE))
        one = np.uint64(1)
        np.bitwise_or.at(self.masks[seq], at // PAGE, one << (at % PAGE).astype(np.uint64))
        return Moves(copies, source, bits.page_slots(self.tables[seq], at))

    def seal(self, columns: int) -> PageMap:
        """The map as it has become, of which ``columns`` entries are in use."""
        tables, masks = self.tables[:, :columns], self.masks[:, :columns]
        return PageMap(tables, masks, self._counts.refs, self.held, self._base.pages)

    def _same(self, a: int, b: int) -> bool:
        same_pages = np.array_equal(self.tables[a], self.tables[b])
        return same_pages and np.array_equal(self.masks[a], self.masks[b])

    def _renew(self, seq: int, entries: np.ndarray) -> Copies:
        """A fresh page for each of the entries; those to copy into it."""
        old, new = self.tables[seq, entries], self._counts.take(np.ones(len(entries), np.int64))
        self.tables[seq, entries] = new
        self._counts.release(old[old >= 0])
        return [(int(o), int(n)) for o, n in zip(old, new, strict=True) if o >= 0]

    def _count_held(self, hold: PageHold, change: int) -> None:
        self.held = np.pad(self.held, (0, len(self._counts.refs) - len(self.held)))
        self.held[hold.pages] += change

    def _base_holds(self, page: int, wanted: np.uint64) -> bool:
        """Whether the base may hold a token where one is to be written."""
        if page < len(self._base.held) and self._base.held[page]:
            return True
        return bool(np.bitwise_or.reduce(self._base.masks[self._base.tables == page]) & wanted)

    def _arrays(self) -> list[tuple[np.ndarray, np.ndarray]]:
        live = self.tables, self.masks
        return [live] if self._shown[0] is self.tables else [live, self._shown]

    def _keep_shown(self) -> None:
        """Leave what micro-batches were shown as it is, and go on with a copy."""
        if self._lent and self._shown[0] is self.tables:
            self.tables, self.masks = self.tables.copy(), self.masks.copy()

    def _replace(self) -> None:
        """As ``_keep_shown``; later micro-batches are shown the copy."""
        self._keep_shown()
        self._shown = self.tables, self.masks
        self._lent = False


def _widened(array: np.ndarray, columns: int, fill: int) -> np.ndarray:
    if array.shape[1] == columns:
        return array.copy()
    wide = np.full((len(array), columns), fill, array.dtype)
    wide[:, : array.shape[1]] = array
    return wide
