"""RWKV-7 (Goose): a state for each head that forgets, and takes back, channel by channel.

Peng et al. 2025 (arXiv 2503.14456), §4; names of tensors as in GGUF.
"""

from dataclasses import dataclass

from motet.arrays import Float32, Int32, Int64
from motet.kernels.interface import Kernels
from motet.kernels.interface_recurrent import RecurrentState, Runs
from motet.kernels.rwkv7 import Wkv7Heads
from motet.models.family import View
from motet.models.keys import MAX_WIDTH, Keys
from motet.models.norms import layer_norm
from motet.models.rwkv import HEAD_NORM_EPS, Rwkv, RwkvConfig, mix_channels, read_rwkv
from motet.models.tensors import TensorReader

_MIXED = "rwkvag"
"""What each mixing of a token with the one before is for, in the order of the fused tensor."""


@dataclass(frozen=True, kw_only=True)
class Rwkv7Config(RwkvConfig):
    """RWKV-7's sizes: ranks of the low-rank matrices that say …"""

    decay_rank: int
    """… how much of each channel stays,"""
    rate_rank: int
    """how much of what a key finds is taken back,"""
    value_rank: int
    """how much of the first layer's values is taken for the layer's own,"""
    gate_rank: int
    """and how much of each channel comes out."""


class Handing:
    """A view of memory that hands the first layer's values on to the layers after it."""

    def __init__(self, view: View) -> None:
        self.cache = view.cache
        self.first: Float32 | None = None
        """``[T, d_model]``, once the first layer has run."""


class LowRank:
    """up · activation(down · x) + bias, of rank ``rank``; ``name``: a letter, as in its tensors."""

    def __init__(
        self,
        t: TensorReader,
        kernels: Kernels,
        config: Rwkv7Config,
        name: str,
        rank: int,
        activation: str | None = None,
        *,
        biased: bool = True,
    ) -> None:
        d = config.d_model
        self._kernels = kernels
        self._activation = activation
        self.bias = t.array(f"time_mix_{name}0.weight", d) if biased else None
        self.down = t.matrix(f"time_mix_{name}1.weight", rank, d)
        self.up = t.matrix(f"time_mix_{name}2.weight", d, rank)

    def __call__(self, x: Float32) -> Float32:
        (low,) = self._kernels.linear(x, self.down)
        if self._activation is not None:
            low = self._kernels.activate(low, self._activation)
        return self._kernels.linear(low, self.up, biases=(self.bias,))[0]


class TimeMix:
    """The recurrence over tokens, with a state for each head."""

    def __init__(self, t: TensorReader, kernels: Kernels, layer: int, config: Rwkv7Config) -> None:
        d, heads = config.d_model, (config.n_heads, config.head_size)
        self._kernels = kernels
        self.lerps = t.array("time_mix_lerp_fused.weight", len(_MIXED), 1, 1, d)[:, 0]
        self.decay = LowRank(t, kernels, config, "w", config.decay_rank, "tanh")
        self.rate = LowRank(t, kernels, config, "a", config.rate_rank)
        self.gate = LowRank(t, kernels, config, "g", config.gate_rank, "sigmoid", biased=False)
        if layer:
            self.residual = LowRank(t, kernels, config, "v", config.value_rank)
        else:
            self.residual = None
            t.skip(*(f"time_mix_v{i}.weight" for i in range(3)))  # converters repeat a0 to a2
        self.receptance = t.matrix("time_mix_receptance.weight", d, d)
        self.key = t.matrix("time_mix_key.weight", d, d)
        self.value = t.matrix("time_mix_value.weight", d, d)
        self.heads = Wkv7Heads(
            k_k=t.array("time_mix_k_k.weight", d).reshape(heads),
            k_a=t.array("time_mix_k_a.weight", d).reshape(heads),
            r_k=t.array("time_mix_r_k.weight", d).reshape(heads),
            norm=t.array("time_mix_ln.weight", d).reshape(heads),
            norm_bias=t.array("time_mix_ln.bias", d).reshape(heads),
        )
        self.output = t.matrix("time_mix_output.weight", d, d)

    def forward(
        self, h: Float32, tails: Float32, states: Float32, runs: Runs, view: Handing
    ) -> Float32:
        """``[T, d_model]`` to the same. ``tails``: the token before; ``states``: the heads'."""
        kernels = self._kernels
        r, w, k, v, a, g = kernels.mix(h, kernels.token_shift(h, tails, runs), self.lerps)
        (value,) = kernels.linear(v, self.value)
        if self.residual is None:
            view.first = value
        else:
            assert view.first is not None
            value = kernels.mix(value, view.first, kernels.activate(self.residual(v), "sigmoid"))
        y = kernels.wkv7(
            kernels.linear(r, self.receptance)[0],
            self.decay(w),
            kernels.linear(k, self.key)[0],
            value,
            self.rate(a),
            self.heads,
            HEAD_NORM_EPS,
            states,
            runs,
        )
        y *= self.gate(g)
        return kernels.linear(y, self.output)[0]


class ChannelMix:
    """value · relu(key · mix)² (So et al. 2021), where the mix takes some of the token before."""

    def __init__(self, t: TensorReader, kernels: Kernels, config: Rwkv7Config) -> None:
        d = config.d_model
        self._kernels = kernels
        self.lerp = t.array("channel_mix_lerp_k.weight", d)
        self.key = t.matrix("channel_mix_key.weight", config.d_ff, d)
        self.value = t.matrix("channel_mix_value.weight", d, config.d_ff)

    def forward(self, h: Float32, shifted: Float32) -> Float32:
        kernels = self._kernels
        (k,) = kernels.linear(kernels.mix(h, shifted, self.lerp), self.key)
        return kernels.linear(kernels.activate(k, "relu2"), self.value)[0]


class Rwkv7Block:
    """A layer."""

    def __init__(self, t: TensorReader, kernels: Kernels, layer: int, config: Rwkv7Config) -> None:
        self.caches = config.caches
        self._layer = layer
        self._kernels = kernels
        sizes = config.d_model, config.norm_eps
        self.attn_norm = layer_norm(t, kernels, "attn_norm", *sizes)
        self.time_mix = TimeMix(t, kernels, layer, config)
        self.attn_norm_2 = layer_norm(t, kernels, "attn_norm_2", *sizes)
        self.channel_mix = ChannelMix(t, kernels, config)

    def forward(self, x: Float32, view: Handing, wanted: Int64 | None) -> Float32:
        """The residual ``[T, d_model]``, which is overwritten, to ``[R, d_model]``."""
        cache: RecurrentState = view.cache(self._layer)
        time_tails, channel_tails, states = cache.arrays
        x += self.time_mix.forward(self.attn_norm(x), time_tails, states, cache.runs, view)
        return mix_channels(
            self._kernels, self.attn_norm_2, self.channel_mix, x, channel_tails, cache.runs, wanted
        )


class Rwkv7(Rwkv[Rwkv7Config, Rwkv7Block]):
    """The ``rwkv7`` architecture."""

    def __init__(self, config: Rwkv7Config, tensors: TensorReader, kernels: Kernels) -> None:
        super().__init__(config, tensors, kernels, lambda t, i: Rwkv7Block(t, kernels, i, config))

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> Rwkv7Config:
        """The settings in a file whose embedding has ``n_vocab`` rows."""

        def rank(name: str) -> int:
            return keys.integer(f"attention.{name}_lora_rank", 1, MAX_WIDTH)

        return Rwkv7Config(
            **vars(read_rwkv(keys, n_vocab)),
            decay_rank=rank("decay"),
            rate_rank=rank("iclr"),
            value_rank=rank("value_residual_mix"),
            gate_rank=rank("gate"),
        )

    def forward(self, tokens: Int32, view: View, wanted: Int64) -> Float32:
        """Final normalised states ``[R, d_model]`` of the rows ``wanted`` of ``tokens`` ``[T]``."""
        x, handing, last = self.embed(tokens), Handing(view), self.blocks[-1]
        for block in self.blocks:
            x = block.forward(x, handing, wanted if block is last else None)
        return self.output_norm(x)
