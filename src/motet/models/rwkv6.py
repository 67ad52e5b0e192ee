"""RWKV-6 (Finch): token shift, data-dependent decay, a matrix of state for each head.

Peng et al. 2024 (arXiv 2404.05892), §4; names of tensors as in GGUF.
"""

from dataclasses import dataclass

from motet.arrays import Float32, Int32, Int64
from motet.kernels.interface import Kernels
from motet.kernels.interface_recurrent import RecurrentState, Runs
from motet.models.family import View
from motet.models.keys import MAX_WIDTH, Keys
from motet.models.layers import contiguous
from motet.models.norms import layer_norm
from motet.models.rwkv import HEAD_NORM_EPS, Rwkv, RwkvConfig, mix_channels, read_rwkv
from motet.models.tensors import TensorReader

_MIXED = "wkvrg"
"""What each mixing of a token with the one before is for, in the order of the fused tensors."""


@dataclass(frozen=True, kw_only=True)
class Rwkv6Config(RwkvConfig):
    """RWKV-6's sizes, in channels."""

    mix_rank: int
    """Of the low-rank matrices that say how much of the token before each channel takes."""
    decay_rank: int
    """Of the low-rank matrices that say how fast each channel forgets."""
    rescale_every: int
    """The residual is halved after every so many layers, to stay within F16; 0 for never. The
    file's output matrices are divided accordingly."""


class TimeMix:
    """The recurrence over tokens, with a state for each head."""

    def __init__(self, t: TensorReader, kernels: Kernels, config: Rwkv6Config) -> None:
        d, heads = config.d_model, (config.n_heads, config.head_size)
        self._kernels = kernels
        self._heads = -1, *heads
        self.lerp_x = t.array("time_mix_lerp_x.weight", d)
        self.lerps = self._read_lerps(t, d)
        self.w1 = t.matrix("time_mix_w1.weight", len(_MIXED) * config.mix_rank, d)
        self.w2 = t.experts("time_mix_w2.weight", len(_MIXED), d, config.mix_rank)
        self.decay = t.array("time_mix_decay.weight", d)
        self.decay_w1 = t.matrix("time_mix_decay_w1.weight", config.decay_rank, d)
        self.decay_w2 = t.matrix("time_mix_decay_w2.weight", d, config.decay_rank)
        self.first = t.array("time_mix_first.weight", *heads)
        self.receptance = t.matrix("time_mix_receptance.weight", d, d)
        self.key = t.matrix("time_mix_key.weight", d, d)
        self.value = t.matrix("time_mix_value.weight", d, d)
        self.gate = t.matrix("time_mix_gate.weight", d, d)
        self.ln = t.array("time_mix_ln.weight", d).reshape(heads)
        self.ln_bias = t.array("time_mix_ln.bias", d).reshape(heads)
        self.output = t.matrix("time_mix_output.weight", d, d)

    @staticmethod
    def _read_lerps(t: TensorReader, d: int) -> tuple[Float32, ...]:
        """``[d]`` for each of ``_MIXED``; files of 2024 have five tensors for it."""
        if t.has("time_mix_lerp_fused.weight"):
            return tuple(t.array("time_mix_lerp_fused.weight", len(_MIXED), 1, 1, d)[:, 0, 0])
        return tuple(t.array(f"time_mix_lerp_{name}.weight", d) for name in _MIXED)

    def forward(self, h: Float32, tails: Float32, states: Float32, runs: Runs) -> Float32:
        """``[T, d_model]`` to the same. ``tails``: the token before; ``states``: the heads'."""
        kernels = self._kernels
        w, k, v, r, g = self._mixed(h, kernels.token_shift(h, tails, runs))
        low = kernels.activate(kernels.linear(w, self.decay_w1)[0], "tanh")
        (w,) = kernels.linear(low, self.decay_w2)
        w += self.decay
        y = kernels.wkv6(
            kernels.linear(r, self.receptance)[0],
            kernels.linear(k, self.key)[0],
            kernels.linear(v, self.value)[0],
            w,
            self.first,
            states,
            runs,
        )
        y = y.reshape(self._heads)
        y = kernels.layer_norm(y, self.ln, self.ln_bias, HEAD_NORM_EPS).reshape(h.shape)
        y = kernels.gated(kernels.linear(g, self.gate)[0], y, "silu")
        return kernels.linear(y, self.output)[0]

    def _mixed(self, h: Float32, shifted: Float32) -> list[Float32]:
        """What w, k, v, r and g are made of: mixes whose shares depend on the token itself."""
        kernels = self._kernels
        (low,) = kernels.linear(kernels.mix(h, shifted, self.lerp_x), self.w1)
        low = kernels.activate(low, "tanh").reshape(len(h), len(_MIXED), -1)
        mixed: list[Float32] = []
        for i, (up, lerp) in enumerate(zip(self.w2, self.lerps, strict=True)):
            (share,) = kernels.linear(contiguous(low[:, i]), up)
            share += lerp
            mixed.append(kernels.mix(h, shifted, share))
        return mixed


class ChannelMix:
    """The feed-forward network, which sees the token before too."""

    def __init__(self, t: TensorReader, kernels: Kernels, config: Rwkv6Config) -> None:
        d = config.d_model
        self._kernels = kernels
        self.lerp_k = t.array("channel_mix_lerp_k.weight", d)
        self.lerp_r = t.array("channel_mix_lerp_r.weight", d)
        self.key = t.matrix("channel_mix_key.weight", config.d_ff, d)
        self.receptance = t.matrix("channel_mix_receptance.weight", d, d)
        self.value = t.matrix("channel_mix_value.weight", d, config.d_ff)

    def forward(self, h: Float32, shifted: Float32) -> Float32:
        """``[R, d_model]`` to the same. ``shifted``: of the token before."""
        kernels = self._kernels
        (k,) = kernels.linear(kernels.mix(h, shifted, self.lerp_k), self.key)
        (value,) = kernels.linear(kernels.activate(k, "relu2"), self.value)
        (r,) = kernels.linear(kernels.mix(h, shifted, self.lerp_r), self.receptance)
        return kernels.gated(r, value, "sigmoid")


class Rwkv6Block:
    """A layer: it keeps the inputs of both mixes one token ago, and the heads' states."""

    def __init__(self, t: TensorReader, kernels: Kernels, layer: int, config: Rwkv6Config) -> None:
        self.caches = config.caches
        self._layer = layer
        self._kernels = kernels
        sizes = config.d_model, config.norm_eps
        self.attn_norm = layer_norm(t, kernels, "attn_norm", *sizes)
        self.time_mix = TimeMix(t, kernels, config)
        self.attn_norm_2 = layer_norm(t, kernels, "attn_norm_2", *sizes)
        self.channel_mix = ChannelMix(t, kernels, config)
        self._halves = bool(config.rescale_every) and (layer + 1) % config.rescale_every == 0

    def forward(self, x: Float32, view: View, wanted: Int64 | None) -> Float32:
        """The residual ``[T, d_model]``, which is overwritten, to ``[R, d_model]``."""
        cache: RecurrentState = view.cache(self._layer)
        time_tails, channel_tails, states = cache.arrays
        x += self.time_mix.forward(self.attn_norm(x), time_tails, states, cache.runs)
        x = mix_channels(
            self._kernels, self.attn_norm_2, self.channel_mix, x, channel_tails, cache.runs, wanted
        )
        if self._halves:
            x *= 0.5
        return x


class Rwkv6(Rwkv[Rwkv6Config, Rwkv6Block]):
    """The ``rwkv6`` architecture."""

    def __init__(self, config: Rwkv6Config, tensors: TensorReader, kernels: Kernels) -> None:
        super().__init__(config, tensors, kernels, lambda t, i: Rwkv6Block(t, kernels, i, config))

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> Rwkv6Config:
        """The settings in a file whose embedding has ``n_vocab`` rows."""
        return Rwkv6Config(
            **vars(read_rwkv(keys, n_vocab)),
            mix_rank=keys.integer("time_mix_extra_dim", 1, MAX_WIDTH),
            decay_rank=keys.integer("time_decay_extra_dim", 1, MAX_WIDTH),
            rescale_every=keys.integer("rescale_every_n_layers", 0, MAX_WIDTH, 0),
        )

    def forward(self, tokens: Int32, view: View, wanted: Int64) -> Float32:
        """Final normalised states ``[R, d_model]`` of the rows ``wanted`` of ``tokens`` ``[T]``."""
        x, last = self.embed(tokens), self.blocks[-1]
        for block in self.blocks:
            x = block.forward(x, view, wanted if block is last else None)
        return self.output_norm(x)
