"""ModernBERT (Warner et al. 2024, arXiv 2412.13663): global attention in every third layer, local
attention in the others, rotary positions, norms before each part.
"""

from dataclasses import dataclass

from motet.arrays import Float32, Int64
from motet.errors import UnsupportedError, shown
from motet.kernels.interface import Kernels
from motet.models.config import HeadsConfig, read_sliding
from motet.models.encoder import Encoder, EncoderAttention, EncoderConfig, read_encoder
from motet.models.family import Whole
from motet.models.keys import MAX_CONTEXT, Keys
from motet.models.norms import loose_layer_norm
from motet.models.rope import RopeConfig, make_rope, read_rope
from motet.models.tensors import TensorReader

_ACTIVATIONS = {"gelu": "gelu_erf", "silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}


@dataclass(frozen=True, kw_only=True)
class ModernBertConfig(EncoderConfig):
    """Layers that see everything, and layers that see half a window to either side."""

    sliding: tuple[bool, ...]
    window: int
    """Tokens that a sliding layer sees, both sides together."""
    rope: RopeConfig
    sliding_rope: RopeConfig
    activation: str


class SplitMLP:
    """down(activation(a) ⊙ b), where one matrix gives a above b."""

    def __init__(
        self, t: TensorReader, kernels: Kernels, config: HeadsConfig, activation: str
    ) -> None:
        d, ff = config.d_model, config.d_ff
        self._kernels, self._activation = kernels, activation
        self.up = t.stacked("ffn_up.weight", (ff, ff), d)
        self.down = t.matrix("ffn_down.weight", d, ff)

    def forward(self, h: Float32) -> Float32:
        """``[R, d_model]`` to the same."""
        gate, up = self._kernels.linear(h, *self.up)
        return self._kernels.linear(self._kernels.gated(gate, up, self._activation), self.down)[0]


class ModernBertBlock:
    """A layer: norm, attention, norm, feed-forward; the first one's attention takes what is already
    normed."""

    caches = ()

    def __init__(
        self, t: TensorReader, kernels: Kernels, layer: int, config: ModernBertConfig
    ) -> None:
        slides = config.sliding[layer]
        d, eps = config.d_model, config.norm_eps
        self.attn_norm = loose_layer_norm(t, kernels, "attn_norm", d, eps) if layer else None
        self.attention = EncoderAttention(
            t,
            kernels,
            config,
            config.n_kv_heads,
            rope=make_rope(config.sliding_rope if slides else config.rope, "neox"),
            window=config.window // 2 if slides else 0,
        )
        self.ffn_norm = loose_layer_norm(t, kernels, "ffn_norm", d, eps)
        self.feed_forward = SplitMLP(t, kernels, config, config.activation)

    def forward(self, x: Float32, view: Whole, wanted: Int64 | None) -> Float32:
        """The residual ``[T, d_model]`` to ``[R, d_model]``."""
        normed = x if self.attn_norm is None else self.attn_norm(x)
        h = self.attention.forward(normed, view, wanted)
        h += x if wanted is None else x[wanted]
        out = self.feed_forward.forward(self.ffn_norm(h))
        out += h
        return out


class ModernBert(Encoder[ModernBertConfig]):
    """The ``modern-bert`` architecture."""

    def __init__(self, config: ModernBertConfig, tensors: TensorReader, kernels: Kernels) -> None:
        def block(t: TensorReader, i: int) -> ModernBertBlock:
            return ModernBertBlock(t, kernels, i, config)

        super().__init__(
            config, tensors, kernels, block, output_norm=True, activation=config.activation
        )

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> ModernBertConfig:
        """The settings; layer i sees everything iff i % 3 == 0."""
        keys.take("attention.layer_norm_rms_epsilon", 0.0)  # the converter writes both
        config = read_encoder(keys, n_vocab, "rotary")
        rope = read_rope(keys, config.head_dim, 160000.0)
        base = keys.positive("rope.freq_base_swa", 10000.0)
        name = "hidden_activation"
        activation = keys.text(name, "gelu")
        if activation not in _ACTIVATIONS:
            raise UnsupportedError(
                f"{keys.key(name)} is {shown(activation)}",
                hint=f"Motet knows {', '.join(_ACTIVATIONS)}",
            )
        keys.only("classifier.pooling_type", 2, "a classifier of other states than the first")
        return ModernBertConfig(
            **vars(config),
            sliding=read_sliding(keys, config.n_layers, 3, global_first=True),
            window=keys.integer("attention.sliding_window", 2, MAX_CONTEXT),
            rope=rope,
            sliding_rope=RopeConfig(base, rope.dimension),
            activation=_ACTIVATIONS[activation],
        )
