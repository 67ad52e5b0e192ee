"""The native kernels of recurrent layers: ``CPU`` has them."""

from typing import Any

from motet.arrays import Float32
from motet.kernels.interface_recurrent import Runs
from motet.kernels.outputs import empty
from motet.kernels.rwkv7 import Wkv7Heads


class CPURecurrent:
    """As ``interface_recurrent`` says."""

    _native: Any
    _pool: Any

    def sum_rows(self, x: Float32, states: Float32, runs: Runs) -> Float32:
        out = empty(self._native, (len(runs.read), x.shape[1]))
        self._native.sum_rows(self._pool, x, states, runs, out)
        return out

    def causal_conv(
        self,
        x: Float32,
        weight: Float32,
        bias: Float32 | None,
        tails: Float32,
        runs: Runs,
        activation: str | None = None,
    ) -> Float32:
        if activation not in (None, "silu"):
            raise ValueError(f"activation is {activation!r}, not None or silu")
        out = empty(self._native, x.shape)
        silu = activation == "silu"
        self._native.causal_conv(self._pool, x, weight, bias, tails, runs, silu, out)
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
        out = empty(self._native, x.shape)
        self._native.selective_scan(self._pool, x, dt, dt_bias, a, b, c, d, states, runs, z, out)
        return out

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
        out = empty(self._native, x.shape)
        self._native.mamba2_scan(self._pool, x, dt, dt_bias, a, b, c, d, states, runs, out)
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
        out = empty(self._native, v.shape)
        self._native.delta_rule(
            self._pool, q, k, v, beta, dt, dt_bias, a, states, runs, eps, tiled, out
        )
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
        out = empty(self._native, r.shape)
        self._native.wkv6(self._pool, r, k, v, w, u, states, runs, out)
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
        out = empty(self._native, r.shape)
        self._native.wkv7(self._pool, r, w, k, v, a, heads, eps, states, runs, out)
        return out

    def token_shift(self, x: Float32, tails: Float32, runs: Runs) -> Float32:
        out = empty(self._native, x.shape)
        self._native.token_shift(self._pool, x, tails, runs, out)
        return out

    def mix(self, x: Float32, shifted: Float32, t: Float32) -> Float32:
        out = empty(self._native, (*t.shape[:-2], *x.shape))
        self._native.mix(self._pool, x, shifted, t, out)
        return out
