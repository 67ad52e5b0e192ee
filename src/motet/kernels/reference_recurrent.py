"""Recurrent layers in NumPy: what the native kernels are tested against.

Token by token, states rounded to float32 after each, so that any division of a sequence into runs
gives the same numbers.
"""

from collections.abc import Callable

import numpy as np

from motet.kernels.slots import Runs


class RecurrentReference:
    """The recurrent half of ``Reference``.

    States are float32 arrays ``[slots, …]`` that are read and written where ``runs`` says.
    Arguments called strided may be views of some columns of a wider array.
    """

    def causal_conv(
        self,
        x: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray | None,
        tails: np.ndarray,
        runs: Runs,
        activation: str | None = None,
    ) -> np.ndarray:
        """Depthwise, over a run's tokens: bias + Σₖ weight[c, k] · x[t − K + 1 + k, c].

        x ``[T, C]`` (strided), weight ``[C, K]``, bias ``[C]``, tails ``[slots, K − 1, C]``: last
        inputs, oldest first; activation None or "silu". Returns ``[T, C]``.
        """
        out = np.empty(x.shape, np.float32)
        past = weight.shape[1] - 1
        for rows, state, write in _begin(runs, tails):
            inputs = np.concatenate([state, x[rows]])
            for t, row in enumerate(rows):
                out[row] = 0 if bias is None else bias
                for k in range(past + 1):
                    out[row] += weight[:, k] * inputs[t + k]
            tails[write] = inputs[len(rows) :]
        return _silu(out) if activation == "silu" else out

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
        """Mamba's recurrence (Gu, Dao 2023, arXiv 2312.00752, algorithm 2).

        Δ = softplus(dt + dt_bias); h = exp(Δ·a)·h + (Δ·x)·b; y = Σₙ h·c + d·x, times silu(z) where
        z is given. x, dt, z ``[T, D]``, b, c ``[T, N]`` (all strided), a ``[N, D]``, dt_bias, d
        ``[D]``, states ``[slots, N, D]``. Returns ``[T, D]``.
        """
        out = np.empty(x.shape, np.float32)
        for rows, state, write in _begin(runs, states):
            for row in rows:
                step = _softplus(dt[row] + dt_bias)
                state = _exp(step * a) * state + (step * x[row]) * b[row][:, None]
                out[row] = (state * c[row][:, None]).sum(axis=0) + d * x[row]
            states[write] = state
        return out if z is None else out * _silu(z)

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
        """Mamba-2's recurrence (Dao, Gu 2024, arXiv 2405.21060, §2), one decay for a whole head.

        Δ = softplus(dt + dt_bias); h[n, p] = exp(Δ·a)·h[n, p] + b[n]·Δ·x[p]; y[p] = Σₙ c[n]·h[n, p]
        + d·x[p]. x ``[T, H·P]``, dt ``[T, H]``, b, c ``[T, G·N]`` (all strided), dt_bias, a, d
        ``[H]``, states ``[slots, H, N, P]``; head h reads group h // (H / G). Returns ``[T, H·P]``.
        """
        _, heads, n, width = states.shape
        groups = b.shape[1] // n
        out = np.empty(x.shape, np.float32)
        for rows, state, write in _begin(runs, states):
            for row in rows:
                step = _softplus(dt[row] + dt_bias)
                value = x[row].reshape(heads, 1, width)
                key, query = (
                    np.repeat(m[row].reshape(groups, n), heads // groups, axis=0)[:, :, None]
                    for m in (b, c)
                )
                fresh = (step[:, None, None] * value) * key
                state = _exp(step * a)[:, None, None] * state + fresh
                y = (state * query).sum(axis=1) + d[:, None] * value[:, 0]
                out[row] = y.reshape(-1)
            states[write] = state
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
        """RWKV-6's recurrence (Peng et al. 2024, arXiv 2404.05892, §4.2).

        y[j] = Σᵢ r[i]·(s[i, j] + u[i]·k[i]·v[j]); s[i, j] = exp(−exp(w[i]))·s[i, j] + k[i]·v[j].
        r, k, v, w ``[T, H·S]`` (strided), u ``[H, S]``, states ``[slots, H, S, S]``. Returns
        ``[T, H·S]``.
        """
        heads, size = u.shape
        out = np.empty(r.shape, np.float32)
        for rows, state, write in _begin(runs, states):
            for row in rows:
                ri, ki, wi = (m[row].reshape(heads, size, 1) for m in (r, k, w))
                pair = ki * v[row].reshape(heads, 1, size)
                out[row] = (ri * (state + u[:, :, None] * pair)).sum(axis=1).reshape(-1)
                state = _exp(-_exp(wi)) * state + pair
            states[write] = state
        return out

    def token_shift(self, x: np.ndarray, tails: np.ndarray, runs: Runs) -> np.ndarray:
        """The row of the run's token before: x ``[T, d]``, tails ``[slots, d]``; ``[T, d]``."""
        out = np.empty(x.shape, np.float32)
        for rows, state, write in _begin(runs, tails):
            out[rows[0]] = state
            out[rows[1:]] = x[rows[:-1]]
            tails[write] = x[rows[-1]]
        return out

    def mix(self, x: np.ndarray, shifted: np.ndarray, t: np.ndarray) -> np.ndarray:
        """x + (shifted − x) · t, t ``[d]`` or ``[T, d]``."""
        return x + (shifted - x) * t


def _begin(runs: Runs, states: np.ndarray):
    """Rows, first state and slot to write of each run; all are read before any is written."""
    first = [
        np.zeros(states.shape[1:], np.float32) if s < 0 else states[s].copy() for s in runs.read
    ]
    for i, state in enumerate(first):
        yield runs.order[runs.starts[i] : runs.starts[i + 1]], state, runs.write[i]


def _wide(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """``function`` in float64, rounded once."""

    def rounded(x: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return function(x.astype(np.float64)).astype(np.float32)

    return rounded


_exp = _wide(np.exp)
_softplus = _wide(lambda x: np.logaddexp(0, x))
_silu = _wide(lambda x: x / (1 + np.exp(-np.maximum(x, -700))))
