"""Layers that read what others keep of keys and values, and keep none (Brandon et al. 2024, arXiv
2405.12981).

Where the last layers of a model are such (Sun et al. 2024, arXiv 2405.05254), nothing that comes
later needs what they make of earlier tokens: they are computed for the wanted rows alone.
"""

from collections.abc import Sequence

from motet.arrays import Int32, Int64
from motet.errors import ModelFileError
from motet.kernels.interface import Extended, Kernels, PagedKV
from motet.models.family import View


def owners(kinds: Sequence[object], sharing: int) -> tuple[int, ...]:
    """The layer whose keys and values each layer reads.

    The last ``sharing`` of them read those of the last layer before them of their kind. Raises
    ModelFileError where there is none.
    """
    own = len(kinds) - sharing
    last = {kind: layer for layer, kind in enumerate(kinds[:own])}
    without = next((i for i in range(own, len(kinds)) if kinds[i] not in last), None)
    if without is not None:
        raise ModelFileError(
            f"layer {without} has no keys of its own, and no layer of its kind before the last"
            f" {sharing} has any",
        )
    return (*range(own), *(last[kind] for kind in kinds[own:]))


def every_row(rows: Int64, count: int) -> bool:
    """Whether ``rows`` are all of ``count``, in order."""
    return len(rows) == count and bool((rows[1:] > rows[:-1]).all())


class ViewOfRows:
    """What some rows of a micro-batch see of what was stored for all of it; nothing is written."""

    def __init__(self, view: View, kernels: Kernels, rows: Int64) -> None:
        self._view, self._kernels, self._rows = view, kernels, rows
        self._made: dict[tuple[int, int], PagedKV] = {}

    @property
    def positions(self) -> Int32:
        """``[R]``."""
        return self._view.positions[self._rows]

    def cache(self, layer: int, k: int = 0) -> PagedKV:
        """What the ``k``-th cache of a layer holds; it attends."""
        if (layer, k) not in self._made:
            self._made[layer, k] = self._of_rows(self._view.cache(layer, k))
        return self._made[layer, k]

    def _of_rows(self, kv: PagedKV) -> PagedKV:
        to, rows, extended = kv.tables, self._rows, kv.extended
        tables = self._kernels.block_tables(
            to.tables, to.masks, to.rows[rows], to.positions[rows], to.slots[rows]
        )
        if extended is not None:
            factors = None if extended.factors is None else extended.factors[rows]
            extended = Extended(extended.window, extended.groups[rows], factors)
        return PagedKV(kv.pages, tables, extended)
