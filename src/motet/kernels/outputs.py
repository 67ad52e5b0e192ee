"""Arrays that kernels write their results to."""

from typing import Any

import numpy as np

from motet.arrays import Float32

_MANY = 32
"""Rows from which an array may be large enough for the kernels' own memory."""


def empty(native: Any, shape: tuple[int, ...]) -> Float32:
    """Not initialised. Large ones lie in memory that the kernels keep (``native/buffers.hpp``)."""
    return np.empty(shape, np.float32) if shape[0] < _MANY else native.floats(shape)
