"""Mixers that scan: Mamba's and Mamba-2's, whose caches are states of constant size."""

from dataclasses import dataclass

from motet.arrays import Float32, Int64
from motet.kernels.interface import Kernels
from motet.kernels.interface_recurrent import RecurrentState
from motet.models.config import Config
from motet.models.family import View
from motet.models.layers import contiguous
from motet.models.tensors import TensorReader
from motet.spec import Recurrent


@dataclass(frozen=True, kw_only=True)
class MambaSizes:
    """Of a Mamba mixer, in channels."""

    d_inner: int
    d_state: int
    d_conv: int
    """Tokens that the convolution sees, the newest included."""
    dt_rank: int


@dataclass(frozen=True)
class ScanNorms:
    """Weights of the RMS norms on a Mamba mixer's time step, B and C, and their epsilon."""

    dt: Float32
    b: Float32
    c: Float32
    eps: float


class MambaMixer:
    """A Mamba mixer (Gu, Dao 2023, arXiv 2312.00752): a causal convolution, a selective scan."""

    def __init__(
        self,
        t: TensorReader,
        kernels: Kernels,
        layer: int,
        config: Config,
        sizes: MambaSizes,
        norms: ScanNorms | None = None,
        *,
        cache: int = 0,
    ) -> None:
        d, inner, n, rank = config.d_model, sizes.d_inner, sizes.d_state, sizes.dt_rank
        self.caches = (Recurrent(((sizes.d_conv - 1, inner), (n, inner))),)
        self._layer, self._cache = layer, cache
        self._kernels = kernels
        self._sizes = inner, rank, rank + n
        self._norms = norms
        self.ssm_in = t.matrix("ssm_in.weight", 2 * inner, d)
        self.conv = t.array("ssm_conv1d.weight", inner, sizes.d_conv)
        self.conv_bias = t.optional_array("ssm_conv1d.bias", inner)
        self.x = t.matrix("ssm_x.weight", rank + 2 * n, inner)
        self.dt = t.matrix("ssm_dt.weight", inner, rank)
        self.dt_bias = t.array("ssm_dt.bias", inner)
        self.a = t.transposed("ssm_a", inner, n)
        self.d = t.array("ssm_d", inner)
        self.out = t.matrix("ssm_out.weight", d, inner)

    def forward(self, h: Float32, view: View, wanted: Int64 | None) -> Float32:
        kernels, norms = self._kernels, self._norms
        inner, to_b, to_c = self._sizes
        state: RecurrentState = view.cache(self._layer, self._cache)
        tails, states = state.arrays
        (h,) = kernels.linear(h, self.ssm_in)
        x, z = h[:, :inner], h[:, inner:]
        x = kernels.causal_conv(x, self.conv, self.conv_bias, tails, state.runs, "silu")
        (h,) = kernels.linear(x, self.x)
        dt, b, c = contiguous(h[:, :to_b]), h[:, to_b:to_c], h[:, to_c:]
        if norms is not None:
            dt = kernels.rms_norm(dt, norms.dt, norms.eps)
            b = kernels.rms_norm(contiguous(b), norms.b, norms.eps)
            c = kernels.rms_norm(contiguous(c), norms.c, norms.eps)
        (dt,) = kernels.linear(dt, self.dt)
        y = kernels.selective_scan(x, dt, self.dt_bias, self.a, b, c, self.d, states, state.runs, z)
        return kernels.linear(y if wanted is None else y[wanted], self.out)[0]


@dataclass(frozen=True, kw_only=True)
class Mamba2Sizes:
    """Of a Mamba-2 mixer, in channels."""

    d_inner: int
    d_state: int
    d_conv: int
    """Tokens that the convolution sees, the newest included."""
    n_heads: int
    n_groups: int
    """Heads of a group share B and C."""

    @property
    def head_dim(self) -> int:
        return self.d_inner // self.n_heads


class Mamba2Mixer:
    """A Mamba-2 mixer (Dao, Gu 2024, arXiv 2405.21060): one decay a head, norms after the gate.

    ``normed``: whether it has these norms.
    """

    def __init__(
        self,
        t: TensorReader,
        kernels: Kernels,
        layer: int,
        config: Config,
        sizes: Mamba2Sizes,
        *,
        normed: bool = True,
        cache: int = 0,
    ) -> None:
        d, inner, heads, groups = config.d_model, sizes.d_inner, sizes.n_heads, sizes.n_groups
        grouped = groups * sizes.d_state
        convolved = inner + 2 * grouped
        tail = sizes.d_conv - 1, convolved
        self.caches = (Recurrent((tail, (heads, sizes.d_state, sizes.head_dim))),)
        self._layer, self._cache = layer, cache
        self._kernels = kernels
        self._sizes = inner, inner + grouped
        self._groups = -1, groups, inner // groups
        self._eps = config.norm_eps
        self.z_xbc_dt = t.stacked("ssm_in.weight", (inner, convolved, heads), d)
        self.conv = t.array("ssm_conv1d.weight", convolved, sizes.d_conv)
        self.conv_bias = t.optional_array("ssm_conv1d.bias", convolved)
        self.dt_bias = t.array("ssm_dt.bias", heads)
        self.a = t.array("ssm_a", heads, 1)[:, 0]
        self.d = t.array("ssm_d", heads, 1)[:, 0]
        self.norm = t.array("ssm_norm.weight", groups, inner // groups) if normed else None
        self.out = t.matrix("ssm_out.weight", d, inner)

    def forward(self, h: Float32, view: View, wanted: Int64 | None) -> Float32:
        kernels = self._kernels
        to_b, to_c = self._sizes
        state: RecurrentState = view.cache(self._layer, self._cache)
        tails, states = state.arrays
        z, xbc, dt = kernels.linear(h, *self.z_xbc_dt)
        xbc = kernels.causal_conv(xbc, self.conv, self.conv_bias, tails, state.runs, "silu")
        x, b, c = xbc[:, :to_b], xbc[:, to_b:to_c], xbc[:, to_c:]
        y = kernels.mamba2_scan(x, dt, self.dt_bias, self.a, b, c, self.d, states, state.runs)
        if wanted is not None:
            z, y = z[wanted], y[wanted]
        h = kernels.gated(z, y, "silu")
        if self.norm is not None:
            grouped = kernels.rms_norm(h.reshape(self._groups), self.norm, self._eps)
            h = grouped.reshape(y.shape)
        return kernels.linear(h, self.out)[0]
