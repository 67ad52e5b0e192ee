"""Mixers by the gated delta rule: Gated DeltaNet, and Kimi Delta Attention."""

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

from motet.arrays import Float32, Int64
from motet.kernels.interface import Kernels
from motet.kernels.interface_recurrent import RecurrentState
from motet.models.config import Config
from motet.models.family import View
from motet.models.tensors import TensorReader
from motet.spec import Recurrent

_LENGTH_EPS = 1e-6
"""Beside the squares of q or k that are summed, in the authors' code; no file says it."""


@dataclass(frozen=True, kw_only=True)
class DeltaSizes:
    """Of a mixer by the delta rule."""

    heads: int
    """Of values, states and outputs."""
    key_heads: int
    key_dim: int
    value_dim: int
    """Channels of a head."""
    taps: int
    """Tokens that the convolution sees, the newest included."""


class GatedDeltaNet:
    """Yang, Kautz, Hatamizadeh 2024, arXiv 2412.06464, as Qwen 3 Next and Qwen 3.5 have it.

    ``tiled``: whether value heads take turns with key heads, and the file has their two rates in
    two tensors; else those of a key head follow each other, and their rates stand in one.
    """

    def __init__(
        self,
        t: TensorReader,
        kernels: Kernels,
        layer: int,
        config: Config,
        sizes: DeltaSizes,
        *,
        tiled: bool,
    ) -> None:
        d, heads, groups, n = config.d_model, sizes.heads, sizes.key_heads, sizes.key_dim
        keys, values = groups * n, heads * sizes.value_dim
        convolved = 2 * keys + values
        tail = sizes.taps - 1, convolved
        self.caches = (Recurrent((tail, (heads, n, sizes.value_dim))),)
        self._layer, self._kernels, self._eps = layer, kernels, config.norm_eps
        self._keys, self._tiled = keys, tiled
        self._of_groups = -1, groups, 2, heads // groups
        self._of_heads = -1, sizes.value_dim
        if not tiled and t.has("ssm_in.weight"):
            order = _rows_by_part(groups, n, values // groups)
            self.qkv, self.z = t.stacked("ssm_in.weight", (convolved, values), d, order)
        else:
            self.qkv = t.matrix("attn_qkv.weight", convolved, d)
            self.z = t.matrix("attn_gate.weight", values, d)
        names = ("ssm_beta", "ssm_alpha") if tiled else ("ssm_ba",)
        self.rates = [t.matrix(f"{n}.weight", 2 * heads // len(names), d) for n in names]
        self.conv = t.array("ssm_conv1d.weight", convolved, sizes.taps)
        self.dt_bias = t.array("ssm_dt.bias", heads)
        self.a = t.array("ssm_a", heads)
        self.norm = t.array("ssm_norm.weight", sizes.value_dim)
        self.out = t.matrix("ssm_out.weight", d, values)

    def forward(self, h: Float32, view: View, wanted: Int64 | None) -> Float32:
        kernels, keys = self._kernels, self._keys
        state: RecurrentState = view.cache(self._layer)
        tails, states = state.arrays
        qkv, z, *rates = kernels.linear(h, self.qkv, self.z, *self.rates)
        beta, dt = rates if self._tiled else self._apart(rates[0])
        qkv = kernels.causal_conv(qkv, self.conv, None, tails, state.runs, "silu")
        y = kernels.delta_rule(
            qkv[:, :keys],
            qkv[:, keys : 2 * keys],
            qkv[:, 2 * keys :],
            beta,
            dt,
            self.dt_bias,
            self.a,
            states,
            state.runs,
            eps=_LENGTH_EPS,
            tiled=self._tiled,
        )
        if wanted is not None:
            y, z = y[wanted], z[wanted]
        normed = kernels.rms_norm(y.reshape(self._of_heads), self.norm, self._eps)
        return kernels.linear(kernels.gated(z, normed.reshape(z.shape), "silu"), self.out)[0]

    def _apart(self, rates: Float32) -> tuple[Float32, Float32]:
        """The two rates of each head, from rows that have them key head by key head."""
        grouped = rates.reshape(self._of_groups)
        heads = -1, rates.shape[1] // 2
        return (
            cast(Float32, grouped[:, :, 0].copy()).reshape(heads),
            cast(Float32, grouped[:, :, 1].copy()).reshape(heads),
        )


def _rows_by_part(groups: int, keys: int, values: int) -> list[int]:
    """The rows of q, then of k, of v and of z, in files that have those of a key head together."""
    ends = 0, keys, 2 * keys, 2 * keys + values, 2 * (keys + values)
    heads = range(0, groups * ends[-1], ends[-1])
    return [head + row for a, b in pairwise(ends) for head in heads for row in range(a, b)]


class KimiDeltaAttention:
    """Kimi Team 2025, arXiv 2510.26692: a decay for each key channel; heads have their own keys."""

    def __init__(
        self, t: TensorReader, kernels: Kernels, layer: int, config: Config, sizes: DeltaSizes
    ) -> None:
        d, heads, n, taps = config.d_model, sizes.heads, sizes.key_dim, sizes.taps
        width = heads * n
        tail = taps - 1, width
        self.caches = (Recurrent((tail, tail, tail, (heads, n, n))),)
        self._layer, self._kernels, self._eps = layer, kernels, config.norm_eps
        self._of_heads = -1, n
        self.qkv = [t.matrix(f"attn_{name}.weight", width, d) for name in "qkv"]
        self.convs = [t.array(f"ssm_conv1d_{x}.weight", width, 1, taps)[:, 0] for x in "qkv"]
        self.beta = t.matrix("ssm_beta.weight", heads, d)
        self.rate = t.matrix("ssm_f_a.weight", n, d), t.matrix("ssm_f_b.weight", width, n)
        self.gate = t.matrix("ssm_g_a.weight", n, d), t.matrix("ssm_g_b.weight", width, n)
        self.dt_bias = t.array("ssm_dt.bias", width)
        self.a = t.array("ssm_a", heads, 1)[:, 0]
        self.norm = t.array("ssm_norm.weight", n)
        self.out = t.matrix("attn_output.weight", d, width)

    def forward(self, h: Float32, view: View, wanted: Int64 | None) -> Float32:
        kernels = self._kernels
        state: RecurrentState = view.cache(self._layer)
        q_tails, k_tails, v_tails, states = state.arrays
        q, k, v, beta, dt, gate = kernels.linear(
            h, *self.qkv, self.beta, self.rate[0], self.gate[0]
        )
        q = kernels.causal_conv(q, self.convs[0], None, q_tails, state.runs, "silu")
        k = kernels.causal_conv(k, self.convs[1], None, k_tails, state.runs, "silu")
        v = kernels.causal_conv(v, self.convs[2], None, v_tails, state.runs, "silu")
        (dt,) = kernels.linear(dt, self.rate[1])
        y = kernels.delta_rule(
            q, k, v, beta, dt, self.dt_bias, self.a, states, state.runs, eps=_LENGTH_EPS
        )
        if wanted is not None:
            y, gate = y[wanted], gate[wanted]
        (gate,) = kernels.linear(gate, self.gate[1])
        normed = kernels.rms_norm(y.reshape(self._of_heads), self.norm, self._eps)
        return kernels.linear(kernels.gated(gate, normed.reshape(gate.shape), "sigmoid"), self.out)[
            0
        ]
