"""A mixture of experts in NumPy: what the native kernels are tested against."""

from collections.abc import Sequence
from typing import Any

import numpy as np


class ExpertsReference:
    """The part of ``Reference`` that sends tokens to experts."""

    linear: Any
    gated: Any

    def route(self, logits: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` experts that each token goes to, the largest first, and their weights.

        Weights are a softmax over all experts (not renormalised over the chosen), of equal experts
        the lowest id comes first. logits ``[T, E]``; returns ids int32 and weights, ``[T, k]``.
        """
        wide = logits.astype(np.float64)
        shares = np.exp(wide - wide.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        ids = np.argsort(-logits, axis=1, kind="stable")[:, :k]
        weights = np.take_along_axis(shares, ids, axis=1)
        return ids.astype(np.int32), weights.astype(np.float32)

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
        """Σ over ranks, in order, of weight · down(activation(gate(x)) · up(x)) of that expert.

        x ``[T, d]``, ids (int32) and weights ``[T, k]``, one matrix an expert in gate, up and down.
        Returns ``[T, d]``.
        """
        each = np.empty((*ids.shape, down[0].rows), np.float32)
        for e in np.unique(ids):
            token, rank = np.nonzero(ids == e)
            inner = self.gated(*self.linear(x[token], gate[e], up[e]), activation)
            (each[token, rank],) = self.linear(inner, down[e])
        out = np.zeros((len(x), down[0].rows), np.float32)
        for rank in range(ids.shape[1]):
            out += weights[:, rank, None] * each[:, rank]
        return out
