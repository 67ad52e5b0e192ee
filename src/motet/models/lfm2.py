"""LFM2 (Liquid AI 2025, arXiv 2511.23404): short convolutions, attention in some layers.

LFM2-8B-A1B has experts.
"""

from dataclasses import dataclass, replace

from motet.arrays import Float32, Int64
from motet.kernels.interface import Kernels
from motet.kernels.interface_recurrent import RecurrentState
from motet.kernels.routing import Routing
from motet.models.config import (
    Config,
    HeadsConfig,
    RotaryConfig,
    read_heads,
    read_kv_heads_by_layer,
    read_sizes,
)
from motet.models.decoder import Decoder
from motet.models.experts import Mixture, feed_forward
from motet.models.family import View
from motet.models.keys import MAX_WIDTH, Keys
from motet.models.layers import Attention, Block
from motet.models.rope import make_rope, read_rope
from motet.models.tensors import TensorReader
from motet.spec import Recurrent


@dataclass(frozen=True, kw_only=True)
class Lfm2Config(HeadsConfig, RotaryConfig):
    """Convolution layers and attention layers mixed."""

    kv_heads: tuple[int, ...]
    """Key and value heads of each layer; 0 makes it a convolution."""
    taps: int
    """Tokens that a convolution sees, the newest included."""
    mixture: Mixture | None


class ShortConvolution:
    """out(C ⊙ convolution(B ⊙ u)), where B, C and u are linear in the input."""

    def __init__(
        self, t: TensorReader, kernels: Kernels, layer: int, config: Config, taps: int
    ) -> None:
        d = config.d_model
        self.caches = (Recurrent(((taps - 1, d),)),)
        self._layer = layer
        self._kernels = kernels
        self.bcu = t.stacked("shortconv.in_proj.weight", (d, d, d), d)
        self.conv = t.array("shortconv.conv.weight", d, taps)
        self.out = t.matrix("shortconv.out_proj.weight", d, d)

    def forward(self, h: Float32, view: View, wanted: Int64 | None) -> Float32:
        kernels = self._kernels
        state: RecurrentState = view.cache(self._layer)
        (tails,) = state.arrays
        b, c, u = kernels.linear(h, *self.bcu)
        b *= u
        y = kernels.causal_conv(b, self.conv, None, tails, state.runs)
        y *= c
        return kernels.linear(y if wanted is None else y[wanted], self.out)[0]


class Lfm2(Decoder[Lfm2Config]):
    """The ``lfm2`` architecture."""

    def __init__(self, config: Lfm2Config, tensors: TensorReader, kernels: Kernels) -> None:
        rope = make_rope(config.rope, "neox")

        def block(t: TensorReader, i: int) -> Block:
            kv_heads = config.kv_heads[i]
            if kv_heads:
                mixer = Attention(t, kernels, i, config, kv_heads, rope=rope, qk_norms=True)
            else:
                mixer = ShortConvolution(t, kernels, i, config, config.taps)
            return Block(
                t, kernels, config, mixer, feed_forward(t, kernels, config, config.mixture, i)
            )

        super().__init__(config, tensors, kernels, block, output_norm="token_embd_norm")

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> Lfm2Config:
        """The settings."""
        return _read(keys, read_heads(keys, read_sizes(keys, n_vocab)))


class Lfm2Moe(Lfm2):
    """The ``lfm2moe`` architecture: experts, but for the first layers."""

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> Lfm2Config:
        """The settings."""
        heads = read_heads(keys, read_sizes(keys, n_vocab, experts=True))
        keys.only("expert_gating_func", 2, "experts that are not scored by a sigmoid")
        mixture = Mixture(
            routing=Routing(
                heads.n_experts_used, scores="sigmoid", weights="normalised", epsilon=1e-6
            ),
            d_ff=keys.integer("expert_feed_forward_length", 1, MAX_WIDTH),
            dense_layers=keys.integer("leading_dense_block_count", 0, heads.n_layers, 0),
        )
        return replace(_read(keys, heads), mixture=mixture)


def _read(keys: Keys, heads: HeadsConfig) -> Lfm2Config:
    return Lfm2Config(
        **vars(heads),
        rope=read_rope(keys, heads.head_dim, 10000.0),
        kv_heads=read_kv_heads_by_layer(keys, heads),
        taps=keys.integer("shortconv.l_cache", 2, MAX_WIDTH),
        mixture=None,
    )
