"""Where a model's numbers stop being finite: found by computing again, once logits show it."""

from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np

from motet.arrays import Float32, Int32, Int64
from motet.errors import NumericalError
from motet.models.family import View
from motet.models.tensors import EMBEDDING

_VALUES = 1 << 18
"""Looked at together: so many stay in a core's cache."""


def rows_not_finite(x: Float32) -> list[int]:
    """Rows of ``[R, n]`` with an infinity or what is not a number: of the first ones, some."""
    step = max(1, _VALUES // x.shape[1])
    for start in range(0, len(x), step):
        finite = np.isfinite(x[start : start + step] if len(x) > step else x)
        if np.count_nonzero(finite) < finite.size:
            return (start + np.flatnonzero(~finite.all(axis=1))).tolist()
    return []


def first_not_finite(family: Any, compute: Callable[["WatchedFamily"], object]) -> str:
    """The part of the model whose output is the first that is not finite.

    ``compute`` runs the family that it is given as it was run when this was seen.
    """
    try:
        compute(WatchedFamily(family))
    except _Found as found:
        return found.place
    return "a part that is finite when it is computed again"


class WatchedFamily:
    """A family that stops where its numbers are not finite any more."""

    def __init__(self, family: Any) -> None:
        self.caches = family.caches
        self.pooled_heads = family.pooled_heads
        self.blocks = [_Watched(block, i) for i, block in enumerate(family.blocks)]
        self._family = copy(family)
        self._family.blocks = self.blocks

    def forward(self, tokens: Int32, view: View, wanted: Int64) -> Float32:
        hidden = self._family.forward(tokens, view, wanted)
        return _finite(hidden, "the final norm (output_norm)")

    def encode(self, tokens: Int32, view: Any, wanted: Int64 | None) -> Float32:
        return _finite(self._family.encode(tokens, view, wanted), "the final norm")

    def remember(self, states: Float32, view: View) -> None:
        try:
            self._family.remember(states, view)
        except NumericalError:  # of keys or values
            raise _Found("the decoder's cross attention") from None

    def head(self, hidden: Float32) -> Float32:
        return _finite(self._family.head(hidden), "the output head")


class _Watched:
    """A layer."""

    def __init__(self, block: Any, number: int) -> None:
        self._block = block
        self._place = f"layer {number} (blk.{number})"
        self._first = number == 0

    def forward(self, x: Float32, view: Any, wanted: Int64 | None) -> Float32:
        if self._first:
            _finite(x, f"the embedding ({EMBEDDING})")
        try:
            return _finite(self._block.forward(x, view, wanted), self._place)
        except NumericalError:  # of keys or values
            raise _Found(self._place) from None


def _finite(x: Float32, place: str) -> Float32:
    if rows_not_finite(x):
        raise _Found(place)
    return x


class _Found(Exception):
    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place
