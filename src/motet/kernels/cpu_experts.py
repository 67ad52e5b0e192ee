"""The native kernels of a mixture of experts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

ACTIVATIONS = {"silu": 0, "gelu_tanh": 1, "gelu_erf": 2, "sigmoid": 3, "tanh": 4, "relu2": 5}
"""Activations, with the number by which the native kernels know them."""


class ExpertsCPU:
    """The part of ``CPU`` that sends tokens to experts: see ``ExpertsReference``."""

    _native: Any
    _pool: Any

    def route(self, logits: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """ids (int32) of the ``k`` largest, and their shares of a softmax over all: ``[T, k]``."""
        shape = (len(logits), k)
        ids, weights = np.empty(shape, np.int32), np.empty(shape, np.float32)
        self._native.route(self._pool, logits, ids, weights)
        return ids, weights

    def experts(
        self,
        x: np.ndarray,
        ids: np.ndarray,
        weights: np.ndarray,
        gate: Sequence[Any],
        up: Sequence[Any],
        down: Sequence[Any],
        activation: str,
    ) -> np.ndarray:
        """Σ over ranks, in order, of weight · down(activation(gate(x)) · up(x))."""
        out = np.empty((len(x), down[0].rows), np.float32)
        act = ACTIVATIONS[activation]
        self._native.experts(self._pool, x, ids, weights, gate, up, down, act, out)
        return out
