"""Memory of attention layers: the tokens of every sequence, and their keys and values, in pages."""

from collections.abc import Sequence

import numpy as np

from motet.kernels.paged import PAGE
from motet.memory import bits
from motet.memory.draft import AttentionDraft
from motet.memory.pages import PageHold, PageMap
from motet.memory.saved import Export, Held, Pool
from motet.memory.store import UNBROKEN, PagedStore, State


class AttentionMemory:
    """A ``Part`` of Memory, and its record of what was said."""

    def __init__(self, store: PagedStore) -> None:
        self._store = store
        self.layers = frozenset(store.pools)

    def empty(self) -> State:
        """The state in which nothing is held."""
        n = self._store.max_sequences
        return State(
            maps=tuple(PageMap.empty(n, group.pages) for group in self._store.groups),
            ends=np.zeros(n, np.int64),
            lengths=np.zeros(n, np.int64),
            broken=np.full(n, UNBROKEN),
        )

    def positions(self, state: State, seq: int) -> np.ndarray:
        """Positions of the tokens that ``seq`` holds, ascending, int64."""
        return bits.positions(state.maps[0].masks[seq])

    def ids(self, state: State, seq: int) -> np.ndarray:
        """The tokens that ``seq`` holds, int32, in order of position."""
        held = self.positions(state, seq)
        return self._store.tokens.ids(bits.page_slots(state.maps[0].tables[seq], held))

    def distinct(self, state: State) -> int:
        """Tokens held by all sequences; one that several share counts once."""
        tokens = state.maps[0]
        masks = np.zeros(len(tokens.refs), np.uint64)
        used = tokens.tables >= 0
        np.bitwise_or.at(masks, tokens.tables[used], tokens.masks[used])
        return np.unique(self._store.tokens.serials(bits.positions(masks))).size

    @property
    def pools(self) -> tuple[Pool, ...]:
        """One of the tokens of full attention, then one for each sliding window."""
        layers = [
            {i: pool.parts for i, (group, pool) in self._store.pools.items() if group == n}
            for n in range(len(self._store.groups))
        ]
        names = [f"sliding_{g.window}" if g.window else "full" for g in self._store.groups]
        return tuple(map(Pool, names, layers))

    def export(
        self, state: State, seqs: Sequence[int], holds: Sequence[tuple[int, tuple[PageHold, ...]]]
    ) -> Export:
        """What ``seqs`` and then checkpoints hold of each pool, and the slots of its rows.

        ``holds``: of each checkpoint a sequence that may use it, and what it refers to.
        """
        tokens, full = self._store.tokens, state.maps[0]
        held, slots = [], []
        for group, pages in enumerate(state.maps):
            owners, places = list(seqs), [pages.places(seq) for seq in seqs]
            if group:
                owners += [seq for seq, _ in holds]
                places += [hold[group - 1].places() for _, hold in holds]
            lengths = np.array([len(positions) for positions, _ in places], np.int64)
            positions = np.concatenate([np.arange(0), *(each for each, _ in places)])
            lie = np.concatenate([np.arange(0), *(each for _, each in places)])
            page = full.tables[np.repeat(owners, lengths).astype(int), positions // PAGE]
            serials = tokens.serials(page.astype(np.int64) * PAGE + positions % PAGE)
            _, first, rows = np.unique(serials, return_index=True, return_inverse=True)
            order = np.argsort(first)  # of first appearance, so that most rows follow each other
            slots.append(lie[first[order]])
            held.append(Held(lengths, positions.astype(np.int32), _inverse(order)[rows]))
        broken = state.broken[np.array(seqs, int)]
        return Export(tokens.ids(slots[0]), broken, tuple(held), tuple(slots))

    def draft(self, state: State, end: int) -> AttentionDraft:
        """A draft of ``state`` with room for positions below ``end``."""
        return AttentionDraft(self._store, state, end)


def _inverse(order: np.ndarray) -> np.ndarray:
    """int32: where each index stands in ``order``."""
    ranks = np.empty(len(order), np.int32)
    ranks[order] = np.arange(len(order), dtype=np.int32)
    return ranks
