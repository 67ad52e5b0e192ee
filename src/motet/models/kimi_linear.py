"""Kimi Linear (Kimi Team 2025, arXiv 2510.26692): Kimi Delta Attention, some latent attention."""

import math
from dataclasses import dataclass

from motet.kernels.interface import Kernels
from motet.models.config import HeadsConfig, read_sizes
from motet.models.decoder import Decoder
from motet.models.delta import DeltaSizes, KimiDeltaAttention
from motet.models.experts import Mixture, feed_forward, read_mixture
from motet.models.keys import MAX_HEAD_WIDTH, MAX_HEADS, MAX_WIDTH, Keys
from motet.models.layers import Block
from motet.models.mla import LatentAttention, LatentSizes, unabsorbed
from motet.models.tensors import TensorReader

_LATENT_EPS = 1e-6
"""Of the norms of latent vectors, in the authors' code, whatever the layers' is."""


@dataclass(frozen=True, kw_only=True)
class KimiLinearConfig(HeadsConfig):
    """Layers by the delta rule and layers of latent attention without positions mixed."""

    kv_heads: tuple[int, ...]
    """1 in each layer of latent attention; 0 makes it one by the delta rule."""
    latent: LatentSizes
    delta: DeltaSizes
    mixture: Mixture | None


class KimiLinear(Decoder[KimiLinearConfig]):
    """The ``kimi-linear`` architecture."""

    def __init__(self, config: KimiLinearConfig, tensors: TensorReader, kernels: Kernels) -> None:
        def block(t: TensorReader, i: int) -> Block:
            if config.kv_heads[i]:
                if t.has("attn_kv_b.weight"):
                    raise unabsorbed(f"blk.{i}.attn_kv_b.weight is there")
                mixer = LatentAttention(t, kernels, i, config, config.latent, rope=None)
            else:
                mixer = KimiDeltaAttention(t, kernels, i, config, config.delta)
            feed = feed_forward(t, kernels, config, config.mixture, i)
            return Block(t, kernels, config, mixer, feed)

        super().__init__(config, tensors, kernels, block)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> KimiLinearConfig:
        """The settings."""
        sizes = read_sizes(keys, n_vocab, experts=True)
        heads = keys.integer("attention.head_count", 1, MAX_HEADS)
        kv_heads = keys.integers("attention.head_count_kv", sizes.n_layers, 0, MAX_HEADS)
        if max(kv_heads) > 1:
            raise unabsorbed(f"{keys.key('attention.head_count_kv')} has {max(kv_heads)}")
        head_dim = keys.integer("attention.key_length_mla", 2, MAX_HEAD_WIDTH)
        rotary = keys.integer("rope.dimension_count", 1, head_dim - 1)
        rank = keys.integer("attention.kv_lora_rank", 1, MAX_HEAD_WIDTH)
        key_length = keys.integer("attention.key_length", 1, MAX_HEAD_WIDTH)
        if key_length != rank + rotary:
            raise keys.wrong("attention.key_length", key_length, f"{rank + rotary}, as ranks say")
        keys.take("attention.value_length", 0)  # of no head that there is
        q_rank = keys.integer("attention.q_lora_rank", 0, MAX_WIDTH, 0)
        delta_dim = keys.integer("kda.head_dim", 1, MAX_HEAD_WIDTH)
        return KimiLinearConfig(
            **vars(sizes),
            n_heads=heads,
            head_dim=head_dim,
            value_dim=keys.integer("attention.value_length_mla", 1, MAX_HEAD_WIDTH),
            attention_scale=1 / math.sqrt(head_dim),
            d_ff=keys.integer("feed_forward_length", 1, MAX_WIDTH),
            kv_heads=kv_heads,
            latent=LatentSizes(rank, rotary, q_rank, _LATENT_EPS),
            delta=DeltaSizes(
                heads=heads,
                key_heads=heads,
                key_dim=delta_dim,
                value_dim=delta_dim,
                taps=keys.integer("ssm.conv_kernel", 2, MAX_WIDTH),
            ),
            mixture=read_mixture(keys, sizes, normalised=True),
        )
