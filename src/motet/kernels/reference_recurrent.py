"""Recurrent layers in NumPy: what the native kernels are tested against.

Token by token, states rounded to float32 after each, so that any division of a sequence into runs
gives the same numbers.
"""

from collections.abc import Callable, Iterator

import numpy as np

from motet.arrays import Array, Float32, Int32, Int64
from motet.kernels.interface_recurrent import Runs
from motet.kernels.rwkv7 import Wkv7Heads

_FASTEST = float(-np.exp(-0.5))
"""RWKV-7's decay is between the exponential of this and 1."""


class RecurrentReference:
    """The recurrent half of ``Reference``.

    States are float32 arrays ``[slots, …]`` that are read and written where ``runs`` says.
    Arguments called strided may be views of some columns of a wider array.
    """

    def causal_conv(
        self,
        x: Float32,
        weight: Float32,
        bias: Float32 | None,
        tails: Float32,
        runs: Runs,
        activation: str | None = None,
    ) -> Float32:
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

    def sum_rows(self, x: Float32, states: Float32, runs: Runs) -> Float32:
        out = np.empty((len(runs.read), x.shape[1]), np.float32)
        for number, (rows, (total, lost), write) in enumerate(_begin(runs, states)):
            for row in rows:
                new = total + x[row]
                added = new - total
                lost = lost + ((total - (new - added)) + (x[row] - added))
                total = new
            states[write] = total, lost
            out[number] = total + lost
        return out

    def selective_scan(
        self,
        x: Float32,
        dt: Float32,
        dt_bias: Float32,
        a: Float32,
        b: Float32,
        c: Float32,
        d: Float32,
        states: Float32,
        runs: Runs,
        z: Float32 | None = None,
    ) -> Float32:
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
        x: Float32,
        dt: Float32,
        dt_bias: Float32,
        a: Float32,
        b: Float32,
        c: Float32,
        d: Float32,
        states: Float32,
        runs: Runs,
    ) -> Float32:
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

    def delta_rule(
        self,
        q: Float32,
        k: Float32,
        v: Float32,
        beta: Float32,
        dt: Float32,
        dt_bias: Float32,
        a: Float32,
        states: Float32,
        runs: Runs,
        *,
        eps: float,
        tiled: bool = False,
    ) -> Float32:
        _, heads, n, width = states.shape
        groups = q.shape[1] // n
        order: Int64 = np.arange(heads, dtype=np.int64)
        group: Int64 = order % groups if tiled else order // (heads // groups)
        out = np.empty(v.shape, np.float32)
        for rows, state, write in _begin(runs, states):
            for row in rows:
                key, query = (_unit(x[row].reshape(groups, n), eps)[group] for x in (k, q))
                value = v[row].reshape(heads, width)
                step = _softplus(dt[row] + dt_bias).reshape(heads, -1)
                state = _exp(step * a[:, None])[:, :, None] * state
                found = (state * key[:, :, None]).sum(axis=1)
                added = _sigmoid(beta[row])[:, None] * (value - found)
                state = state + key[:, :, None] * added[:, None, :]
                y = (state * query[:, :, None]).sum(axis=1) / np.float32(np.sqrt(n))
                out[row] = y.reshape(-1)
            states[write] = state
        return out

    def wkv6(
        self,
        r: Float32,
        k: Float32,
        v: Float32,
        w: Float32,
        u: Float32,
        states: Float32,
        runs: Runs,
    ) -> Float32:
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

    def wkv7(
        self,
        r: Float32,
        w: Float32,
        k: Float32,
        v: Float32,
        a: Float32,
        heads: Wkv7Heads,
        eps: float,
        states: Float32,
        runs: Runs,
    ) -> Float32:
        count, size = heads.k_k.shape
        out = np.empty(r.shape, np.float32)
        for rows, state, write in _begin(runs, states):
            for row in rows:
                ri, wi, ki, vi, ai = (m[row].reshape(count, size) for m in (r, w, k, v, a))
                rate, decay = _sigmoid(ai), _exp(_sigmoid(wi) * _FASTEST)
                kappa = ki * heads.k_k
                length = np.sqrt((kappa * kappa).sum(axis=1, keepdims=True))
                kappa = kappa / np.maximum(length, np.float32(1e-12))
                key = ki * (1 + (rate - 1) * heads.k_a)
                seen = (state * kappa[:, :, None]).sum(axis=1)[:, None]  # [H, 1, values]
                state = decay[:, :, None] * state - (kappa * rate)[:, :, None] * seen
                state = state + key[:, :, None] * vi[:, None]
                y = (state * ri[:, :, None]).sum(axis=1)
                centred = y - y.mean(axis=1, keepdims=True)
                y = centred / np.sqrt((centred * centred).mean(axis=1, keepdims=True) + eps)
                bonus = (ri * key * heads.r_k).sum(axis=1, keepdims=True)
                out[row] = (y * heads.norm + heads.norm_bias + bonus * vi).reshape(-1)
            states[write] = state
        return out

    def token_shift(self, x: Float32, tails: Float32, runs: Runs) -> Float32:
        out = np.empty(x.shape, np.float32)
        for rows, state, write in _begin(runs, tails):
            out[rows[0]] = state
            out[rows[1:]] = x[rows[:-1]]
            tails[write] = x[rows[-1]]
        return out

    def mix(self, x: Float32, shifted: Float32, t: Float32) -> Float32:
        return (x + (shifted - x) * t).astype(np.float32)


def _begin(runs: Runs, states: Float32) -> Iterator[tuple[Int32, Float32, int]]:
    """Rows, first state and slot to write of each run; all are read before any is written, but
    those of runs that go on from the one before."""
    nothing = np.zeros(states.shape[1:], np.float32)
    first: list[Float32] = [nothing if s < 0 else np.array(states[s]) for s in runs.read]
    for i, state in enumerate(first):
        goes_on = i > 0 and runs.read[i] == runs.write[i - 1]
        rows = runs.order[runs.starts[i] : runs.starts[i + 1]]
        yield rows, np.array(states[runs.read[i]]) if goes_on else state, runs.write[i]


def _wide(function: Callable[[Array], Array]) -> Callable[[Float32], Float32]:
    """``function`` in float64, rounded once."""

    def rounded(x: Float32) -> Float32:
        with np.errstate(over="ignore"):
            return function(x.astype(np.float64)).astype(np.float32)

    return rounded


_exp = _wide(np.exp)


def _plain_softplus(x: Array) -> Array:
    return np.logaddexp(0, x)


def _plain_silu(x: Array) -> Array:
    return x / (1 + np.exp(-np.maximum(x, -700)))


def _plain_sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-np.maximum(x, -700)))


def _unit(x: Float32, eps: float) -> Float32:
    """Rows of about length 1."""
    squares = (x * x).sum(axis=-1, keepdims=True) + np.float32(eps)
    return x / np.sqrt(squares)


_softplus = _wide(_plain_softplus)
_sigmoid = _wide(_plain_sigmoid)
_silu = _wide(_plain_silu)
