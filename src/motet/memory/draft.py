"""Changes to the memory of attention layers, made on a private copy of its bookkeeping."""

from collections.abc import Iterator

import numpy as np

from motet.errors import CannotRewind
from motet.kernels.paged import PAGE
from motet.memory import bits
from motet.memory.pages import Moves, PageDraft, PageHold
from motet.memory.saved import Filled, Places, Saved
from motet.memory.store import UNBROKEN, Group, PagedStore, State
from motet.memory.view import AttentionView, Place
from motet.memory.writes import Writes

_CHUNK = 1024
"""Tokens moved at once."""


class AttentionDraft:
    """A ``Draft`` of ``state`` with room for positions below ``end``."""

    def __init__(self, store: PagedStore, state: State, end: int) -> None:
        columns = max(-(-end // PAGE), state.maps[0].tables.shape[1])
        self._store = store
        self._maps = [PageDraft(pages, columns) for pages in state.maps]
        self._ends = state.ends.copy()
        self._lengths = state.lengths.copy()
        self._broken = state.broken.copy()

    def advance(self, writes: Writes) -> AttentionView:
        """Make room for a micro-batch. Raises CapacityError when no page is free."""
        w = writes
        self._ends[w.members] = w.end
        self._lengths[w.members] += w.end - w.first
        entries, offsets = w.positions // PAGE, w.positions % PAGE
        places = []
        for group, pages in self._groups():
            if group.window:
                pages.retire(w.members, (w.first - group.kept) // PAGE)
            copies = pages.write(w)
            tables, masks = pages.lend()
            slots = tables[w.readers, entries].astype(np.int64) * PAGE + offsets
            places.append(Place(tables, masks, slots, copies))
        tokens = self._store.tokens  # at once, for ``agree`` later in the same transaction
        for source, target in places[0].copies:
            tokens.copy_page(source, target)
        tokens.put(places[0].slots, w.tokens)
        return AttentionView(self._store, places, w.readers.astype(np.int32), w.positions)

    def end(self, seq: int) -> int:
        """The position after the last one that ``seq`` holds; 0 if it is empty."""
        return int(self._ends[seq])

    def first(self, seq: int) -> int:
        """The first position that ``seq`` holds; 0 if it is empty."""
        held = bits.positions(self._maps[0].masks[seq])
        return int(held[0]) if held.size else 0

    @property
    def slides(self) -> bool:
        """Whether there are sliding layers."""
        return len(self._maps) > 1

    def agree(self, a: int, b: int) -> bool:
        """Whether two sequences hold the same tokens with, bit for bit, the same keys and values.

        A token decoded once for both is such; and so are equal tokens at equal positions that
        have had nothing but such tokens before them (the solo law).
        """
        pages, tokens = self._maps[0], self._store.tokens
        if not np.array_equal(pages.masks[a], pages.masks[b]):
            return False
        if np.array_equal(pages.tables[a], pages.tables[b]):
            return True
        held = bits.positions(pages.masks[a])
        slots_a, slots_b = (bits.page_slots(pages.tables[seq], held) for seq in (a, b))
        unbroken = held < min(self._broken[a], self._broken[b])
        equal = unbroken & (tokens.ids(slots_a) == tokens.ids(slots_b))
        return bool(np.all(equal | (tokens.serials(slots_a) == tokens.serials(slots_b))))

    def adopt(self, leader: int, member: int) -> None:
        """Let ``member``, which agrees with ``leader``, go on in its pages."""
        for _, pages in self._groups():
            pages.adopt(leader, member)

    def reachable(self, seq: int, position: int) -> int:
        """The greatest position up to ``position`` that ``seq`` can be cut back to exactly."""
        held = bits.positions(self._maps[0].masks[seq])
        exact = np.ones(len(held), bool)  # [i]: with held[i] the last token
        for window, lost in self._lost(seq):
            latest = np.where(np.isin(held, lost), held, -window)
            exact &= np.maximum.accumulate(latest) <= held + 1 - window
        kept = int(np.searchsorted(held, position))
        if kept == 0 or exact[kept - 1]:
            return position
        last = np.flatnonzero(exact[:kept])
        return int(held[last[-1] + 1] if last.size else held[0])

    def hold(self, seq: int) -> tuple[PageHold, ...]:
        """Refer to what sliding layers hold of ``seq``; full ones keep it as long as it lasts."""
        end = int(self._ends[seq])
        return tuple(pages.hold(seq, end - group.kept) for group, pages in self._sliding())

    def let_go(self, hold: tuple[PageHold, ...]) -> None:
        """Refer to it no more."""
        for (_, pages), held in zip(self._sliding(), hold, strict=True):
            pages.let_go(held)

    def hold_bytes(self, hold: tuple[PageHold, ...]) -> int:
        """What it keeps in memory, were it alone."""
        kept = zip(self._sliding(), hold, strict=True)
        return sum(len(held.pages) * group.page_bytes for (group, _), held in kept)

    @property
    def held_bytes(self) -> int:
        """What all of them keep; a page that several refer to counts once."""
        return sum(
            int(np.count_nonzero(pages.held)) * group.page_bytes for group, pages in self._sliding()
        )

    def cut(self, seq: int, position: int, hold: tuple[PageHold, ...] | None) -> None:
        """Forget ``position`` and all that follows; go back to ``hold`` if it is given."""
        self.remove(seq, position, int(self._ends[seq]))
        self._restore(seq, hold)

    def fork(
        self, source: int, target: int, position: int, hold: tuple[PageHold, ...] | None
    ) -> None:
        """Give ``target``, which is empty, all that ``source`` holds before ``position``.

        ``hold``: what was held there, if ``source`` no longer holds what the next token sees.
        """
        self._broken[target] = self._broken[source]
        for group, pages in self._groups():
            if hold is None or not group.window:
                self._move(group, pages.share(source, target, 0, position))
        self._restore(target, hold)
        self._recount(target)

    def remove(self, seq: int, start: int, end: int) -> None:
        """Forget positions start … end - 1."""
        held = bits.positions(self._maps[0].masks[seq])
        removed = (held >= start) & (held < end)
        for _, pages in self._groups():
            pages.remove(seq, start, end)
        above = held[(held >= end) & removed.any()]
        if above.size:
            self._broken[seq] = min(self._broken[seq], above[0])
        self._recount(seq)

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """Give ``target`` the positions start … end - 1 of ``source``; it holds none of these.

        For parts of a sequence, or to add to one. Raises CannotRewind if the next query would see
        what sliding layers no longer hold, CapacityError when no page is free.
        """
        held = bits.positions(self._maps[0].masks[source])
        given = held[(held >= start) & (held < end)]
        if not given.size:
            return
        if given[0] == held[0] and self._lengths[target] == 0:
            self._broken[target] = self._broken[source]
        else:
            self._broken[target] = min(self._broken[target], given[0])
        for group, pages in self._groups():
            self._move(group, pages.share(source, target, start, end))
        self._recount(target)
        self._require_window(target)

    def shift(self, seq: int, start: int, end: int, delta: int) -> None:
        """Move positions start … end - 1 by ``delta`` to positions that hold nothing.

        Raises as ``copy`` does.
        """
        held = bits.positions(self._maps[0].masks[seq])
        moved = held[(held >= start) & (held < end)]
        if not moved.size or delta == 0:
            return
        self._broken[seq] = min(self._broken[seq], moved[0], moved[0] + delta)
        for group, pages in self._groups():
            self._move(group, pages.shift(seq, start, end, delta))
        self._recount(seq)
        self._require_window(seq)

    def fill(self, seqs: np.ndarray, saved: Saved) -> Filled:
        """Give ``seqs``, which hold nothing, what was saved.

        Raises CapacityError when no page is free, CannotRewind if a next query would see what
        the sliding layers were not given.
        """
        places, holds = [], []
        for held, pages in zip(saved.held, self._maps, strict=True):
            slots, held_too = pages.fill(seqs, held)
            places.append(Places.of(held.rows, slots))
            holds.append(held_too)
        said = places[0]
        self._store.tokens.put_rows(said.slots, saved.tokens[said.rows], said.rows)
        self._broken[seqs] = saved.broken
        for seq in seqs.tolist():
            self._recount(seq)
            self._require_window(seq)
        sliding = zip(*holds[1:], strict=True) if holds[1:] else [()] * saved.checkpoints
        return Filled(places, list(sliding))

    def seal(self) -> State:
        """The state as it has become, without the pages that sliding layers have done with."""
        everyone = np.arange(len(self._ends))
        for group, pages in self._sliding():
            pages.retire(everyone, (self._ends - group.kept) // PAGE)
        columns = -(-int(self._ends.max()) // PAGE)
        return State(
            maps=tuple(pages.seal(columns) for pages in self._maps),
            ends=self._ends,
            lengths=self._lengths,
            broken=self._broken,
        )

    def _groups(self) -> Iterator[tuple[Group, PageDraft]]:
        return zip(self._store.groups, self._maps, strict=True)

    def _sliding(self) -> Iterator[tuple[Group, PageDraft]]:
        return ((group, pages) for group, pages in self._groups() if group.window)

    def _restore(self, seq: int, hold: tuple[PageHold, ...] | None) -> None:
        if hold is not None:
            for (_, pages), held in zip(self._sliding(), hold, strict=True):
                pages.restore(seq, held)

    def _lost(self, seq: int) -> Iterator[tuple[int, np.ndarray]]:
        """(window, positions that ``seq`` holds and these sliding layers do not)."""
        held = self._maps[0].masks[seq]
        for group, pages in self._sliding():
            yield group.window, bits.positions(held & ~pages.masks[seq])

    def _require_window(self, seq: int) -> None:
        end = int(self._ends[seq])
        for window, lost in self._lost(seq):
            if lost.size and lost[-1] > end - window:
                raise CannotRewind(
                    f"position {end} of sequence {seq} would see position {lost[-1]}, which layers"
                    f" with a sliding window of {window} no longer hold",
                    seq=seq,
                    position=end,
                    nearest=self.reachable(seq, end),
                    hint="decode the tokens again",
                )

    def _recount(self, seq: int) -> None:
        held = bits.positions(self._maps[0].masks[seq])
        self._lengths[seq] = held.size
        self._ends[seq] = held[-1] + 1 if held.size else 0
        if self._broken[seq] >= self._ends[seq]:
            self._broken[seq] = UNBROKEN

    def _move(self, group: Group, moves: Moves) -> None:
        tokens = () if group.window else (self._store.tokens,)
        for pool in (*group.pools, *tokens):
            for source, target in moves.pages:
                pool.copy_page(source, target)
            for i in range(0, len(moves.source), _CHUNK):
                part = slice(i, i + _CHUNK)
                pool.write(moves.target[part], pool.read(moves.source[part]))
