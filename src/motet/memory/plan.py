"""A transaction: every micro-batch of a batch has its place before the first one is computed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from motet.memory.part import PartView


@dataclass(frozen=True)
class Step:
    """One micro-batch's view of memory; call ``begin`` right before computing it."""

    positions: np.ndarray
    """int32 ``[T]``."""
    parts: tuple[PartView, ...]
    part_of: Mapping[int, int]
    """Layer: the part that serves it."""

    def begin(self) -> None:
        """Do what has to be done before the micro-batch is computed."""
        for part in self.parts:
            part.begin()

    def cache(self, layer: int, k: int = 0) -> Any:
        """What the ``k``-th cache of a layer reads and writes: a PagedKV for attention."""
        assert k == 0, "Memory serves one cache a layer"
        return self.parts[self.part_of[layer]].layer(layer)


@dataclass(frozen=True)
class Plan:
    """The steps to compute, in order. Memory changes when ``commit`` is called, and only then."""

    steps: tuple[Step, ...]
    commit: Callable[[], None]
