"""OpenELM (Mehta et al. 2024, arXiv 2404.14619): layers whose numbers of heads and widths grow."""

import math
from dataclasses import dataclass

from motet.kernels.interface import Kernels
from motet.models.config import HeadsConfig, RotaryConfig, read_sizes
from motet.models.decoder import Decoder
from motet.models.keys import MAX_HEAD_WIDTH, MAX_HEADS, MAX_WIDTH, Keys
from motet.models.layers import Attention, Block, GatedMLP
from motet.models.rope import make_rope, read_rope
from motet.models.tensors import TensorReader


@dataclass(frozen=True, kw_only=True)
class OpenElmConfig(RotaryConfig):
    """A decoder whose layers attend with heads of one size, more or fewer of them."""

    layers: tuple[HeadsConfig, ...]
    kv_heads: tuple[int, ...]
    """Key and value heads of each layer."""


class OpenElm(Decoder[OpenElmConfig]):
    """The ``openelm`` architecture: q, k and v in one tensor, norms on each head's q and k."""

    def __init__(self, config: OpenElmConfig, tensors: TensorReader, kernels: Kernels) -> None:
        rope = make_rope(config.rope, "neox")

        def block(t: TensorReader, i: int) -> Block:
            layer, kv_heads = config.layers[i], config.kv_heads[i]
            attention = Attention(
                t, kernels, i, layer, kv_heads, rope=rope, qk_norms=True, fused=True
            )
            return Block(t, kernels, layer, attention, GatedMLP(t, kernels, layer, "silu"))

        super().__init__(config, tensors, kernels, block)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> OpenElmConfig:
        """The settings; heads and feed-forward widths are a number a layer, or one for all."""
        sizes = read_sizes(keys, n_vocab)
        heads = keys.integers("attention.head_count", sizes.n_layers, 1, MAX_HEADS)
        kv_heads = keys.integers("attention.head_count_kv", sizes.n_layers, 1, MAX_WIDTH)
        for count, of in zip(kv_heads, heads, strict=True):
            keys.divides("attention.head_count_kv", count, "attention.head_count", of)
        head_dim = keys.integer("attention.key_length", 1, MAX_HEAD_WIDTH)
        value_dim = keys.integer("attention.value_length", 1, MAX_HEAD_WIDTH, head_dim)
        widths = keys.integers("feed_forward_length", sizes.n_layers, 1, MAX_WIDTH)
        return OpenElmConfig(
            **vars(sizes),
            head_dim=head_dim,
            rope=read_rope(keys, head_dim, 10000.0),
            layers=tuple(
                HeadsConfig(
                    **vars(sizes),
                    n_heads=n_heads,
                    head_dim=head_dim,
                    value_dim=value_dim,
                    attention_scale=1 / math.sqrt(head_dim),
                    d_ff=d_ff,
                )
                for n_heads, d_ff in zip(heads, widths, strict=True)
            ),
            kv_heads=kv_heads,
        )
