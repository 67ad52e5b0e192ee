"""The native kernels of recurrent layers."""

from typing import Any

import numpy as np

from motet.kernels.slots import Runs


class RecurrentCPU:
    """The recurrent half of ``CPU``: see ``RecurrentReference`` for formulas and shapes.

    Arguments called strided there may be views of some columns of a wider array; states must be
    C-contiguous float32, since they are written in place. All raise ValueError where shapes differ.
    """

    _native: Any
    _pool: Any

    def causal_conv(
        self,
        x: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray | None,
        tails: np.ndarray,
        runs: Runs,
        activation: str | None = None,
    ) -> np.ndarray:
        """Depthwise, over a run's tokens: bias + Σₖ weight[c, k] · x[t − K + 1 + k, c]."""
        if activation not in (None, "silu"):
            raise ValueError(f"activation is {activation!r}, not None or silu")
        out = np.empty(x.shape, np.float32)
        silu = activation == "silu"
        self._native.causal_conv(self._pool, x, weight, bias, tails, runs, silu, out)
        return out

    def selective_scan(
        self,
        x: np.ndarray,
        dt: np.ndarray,
        dt_bias: np.ndarray,
        a: np.ndarray,
        b: np.ndarray,
        c: np.ndarray,
        d: np.ndarray,
        states: np.ndarray,
        runs: Runs,
        z: np.ndarray | None = None,
    ) -> np.ndarray:
        """Mamba's recurrence, times silu(z) where z is given."""
        out = np.empty(x.shape, np.float32)
        self._native.selective_scan(self._pool, x, dt, dt_bias, a, b, c, d, states, runs, z, out)
        return out

    def mamba2_scan(
        self,
        x: np.ndarray,
        dt: np.ndarray,
        dt_bias: np.ndarray,
        a: np.ndarray,
        b: np.ndarray,
        c: np.ndarray,
        d: np.ndarray,
        states: np.ndarray,
        runs: Runs,
    ) -> np.ndarray:
        """Mamba-2's recurrence, one decay for a whole head."""
        out = np.empty(x.shape, np.float32)
        self._native.mamba2_scan(self._pool, x, dt, dt_bias, a, b, c, d, states, runs, out)
        return out

    def wkv6(
        self,
        r: np.ndarray,
        k: np.ndarray,
        v: np.ndarray,
        w: np.ndarray,
        u: np.ndarray,
        states: np.ndarray,
        runs: Runs,
    ) -> np.ndarray:
        """RWKV-6's recurrence, with decay exp(−exp(w))."""
        out = np.empty(r.shape, np.float32)
        self._native.wkv6(self._pool, r, k, v, w, u, states, runs, out)
        return out

    def token_shift(self, x: np.ndarray, tails: np.ndarray, runs: Runs) -> np.ndarray:
        """The row of the run's token before."""
        out = np.empty(x.shape, np.float32)
        self._native.token_shift(self._pool, x, tails, runs, out)
        return out

    def mix(self, x: np.ndarray, shifted: np.ndarray, t: np.ndarray) -> np.ndarray:
        """x + (shifted − x) · t, t ``[d]`` or ``[T, d]``."""
        out = np.empty(x.shape, np.float32)
        self._native.mix(self._pool, x, shifted, t, out)
        return out
