"""Memory of attention layers: the tokens of every sequence, and their keys and values, in pages."""

import numpy as np

from motet.memory import bits
from motet.memory.draft import AttentionDraft
from motet.memory.pages import PageMap
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

    def draft(self, state: State, end: int) -> AttentionDraft:
        """A draft of ``state`` with room for positions below ``end``."""
        return AttentionDraft(self._store, state, end)
