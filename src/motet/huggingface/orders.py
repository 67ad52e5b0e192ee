"""Rows and columns of a checkpoint's tensors in an order of their own."""

import numpy as np

from motet.arrays import Int64, UInt8
from motet.huggingface.tensors import WORDS, Change, Reordered, Weights, computed


class ReorderedColumns(Weights):
    """Column i is column ``order[i]`` of ``weights``."""

    def __init__(self, weights: Weights, order: Int64) -> None:
        """Raises ValueError unless there are as many columns."""
        if weights.columns != len(order) or weights.type not in WORDS:
            raise ValueError(f"its rows are not {len(order)} floats")
        super().__init__(weights.shape, weights.type)
        self._weights = weights
        self._order = order

    def read(self, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        words = self._weights.read(first, last, buffer).view(WORDS[self.type])
        return np.take(words, self._order, axis=1).view(np.uint8)


def taken(order: Int64, of: int) -> Change:
    """Rows ``order`` of the ``of`` that there are, or as many elements of a vector."""

    def change(weights: Weights) -> Weights:
        if weights.shape[0] != of:
            raise ValueError(f"it has not {of} rows")
        if len(weights.shape) == 1:
            return computed(lambda values: values[order])(weights)
        return Reordered(weights, order)

    return change


def columns_taken(order: Int64) -> Change:
    """All columns, in another order."""
    return lambda weights: ReorderedColumns(weights, order)
