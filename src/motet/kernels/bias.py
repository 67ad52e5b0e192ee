"""Position bias as data: what is added to a score by how far the key stands from its query."""

from collections.abc import Callable

import numpy as np

from motet.arrays import Float32, Int64
from motet.kernels.sizes import PAGE

_GROWTH = 1024
"""Distances by which the table grows."""


class PositionBias:
    """A number for each head and distance: ALiBi's slopes, T5's learned buckets.

    ``of``: int64 ``[n]`` distances, key − query, to float32 ``[heads, n]``. It is added to a score
    after the score's scale, before a cap and the softmax.
    """

    def __init__(self, heads: int, of: Callable[[Int64], Float32]) -> None:
        self.heads = heads
        self._of = of
        self._table = np.zeros((heads, 1), np.float32)

    def table(self, reach: int) -> Float32:
        """float32 ``[heads, 2 · R + 1]``, R ≥ ``reach`` + PAGE: entry ``[h, R + d]`` is of d.

        A kernel may read a page beyond what is seen. Equal distances have equal entries, whatever
        the length of the table.
        """
        old = self._table
        if old.shape[1] // 2 >= reach + PAGE:
            return old
        reach = -(-(max(reach, old.shape[1]) + PAGE) // _GROWTH) * _GROWTH
        table = np.ascontiguousarray(self._of(np.arange(-reach, reach + 1)), np.float32)
        assert table.shape == (self.heads, 2 * reach + 1)
        self._table = table
        return table
