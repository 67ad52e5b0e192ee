"""Attention memory as one micro-batch sees it."""

from dataclasses import dataclass

import numpy as np

from motet.kernels.paged import PagedKV
from motet.memory.pages import Copies
from motet.memory.store import PagedStore


@dataclass(frozen=True)
class Place:
    """Where the layers of one group read and write."""

    tables: np.ndarray
    masks: np.ndarray
    slots: np.ndarray
    copies: Copies
    """Pages that other sequences go on with; copied before this micro-batch writes."""


@dataclass(frozen=True)
class AttentionView:
    """A ``PartView``."""

    store: PagedStore
    places: list[Place]
    rows: np.ndarray
    """int32 ``[T]``: the sequence whose table each token reads."""
    positions: np.ndarray

    def begin(self) -> None:
        """Copy the pages that are about to differ."""
        for group, place in zip(self.store.groups, self.places, strict=True):
            for pool in group.pools if place.copies else ():
                for source, target in place.copies:
                    pool.copy_page(source, target)

    def layer(self, index: int) -> PagedKV:
        """What layer ``index`` reads and writes."""
        group, pool = self.store.pools[index]
        place = self.places[group]
        return PagedKV(pool, place.tables, place.masks, self.rows, self.positions, place.slots)
