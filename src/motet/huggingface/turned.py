"""Matrices of experts: some rows of each, and matrices that are stored the other way round."""

import numpy as np

from motet.arrays import UInt8
from motet.huggingface.tensors import Change, Reordered, Weights
from motet.weights.formats import row_bytes


def every(first: int, step: int) -> Change:
    """Of the rows of each matrix of ``[…, rows, columns]`` every ``step``-th, from ``first`` on."""

    def change(weights: Weights) -> Weights:
        *matrices, rows, columns = weights.shape
        order = np.arange(weights.rows).reshape(-1, rows)[:, first::step]
        return Reordered(weights, order.ravel(), (*matrices, order.shape[1], columns))

    return change


def turned(first: int = 0, step: int = 1) -> Change:
    """Likewise of the columns, as rows."""
    return lambda weights: Turned(weights, first, step)


class Turned(Weights):
    """See ``turned``. A matrix is read whole, and kept until another one is."""

    def __init__(self, weights: Weights, first: int, step: int) -> None:
        *matrices, rows, columns = weights.shape
        if not matrices or weights.type.block > 1:
            raise ValueError("they are no matrices of floats")
        super().__init__((*matrices, len(range(first, columns, step)), rows), weights.type)
        self._weights = weights
        self._from, self._step, self._size = first, step, rows
        self._held, self._matrix = -1, np.empty((0, 0), np.uint8)

    def read(self, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        out = np.empty((last - first, row_bytes(self.type, self.columns)), np.uint8)
        at, height = first, self.shape[-2]
        while at < last:
            matrix, row = divmod(at, height)
            count = min(height - row, last - at)
            out[at - first : at - first + count] = self._turned(matrix)[row : row + count]
            at += count
        return out

    def _turned(self, matrix: int) -> UInt8:
        if matrix != self._held:
            raw = self._weights.read(matrix * self._size, (matrix + 1) * self._size)
            values = np.ascontiguousarray(raw).view(f"u{self.type.block_bytes}")
            columns = values[:, self._from :: self._step]
            self._matrix = np.ascontiguousarray(columns.T).view(np.uint8)
            self._held = matrix
        return self._matrix
