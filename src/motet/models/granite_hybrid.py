"""Granite 4.0-H (IBM 2025): Mamba-2 and some attention without positions, scaled as Granite."""

from dataclasses import dataclass, replace

from motet.kernels.interface import Kernels
from motet.kernels.routing import Routing
from motet.models.config import (
    HeadsConfig,
    Scales,
    read_heads,
    read_kv_heads_by_layer,
    read_scales,
    read_sizes,
)
from motet.models.decoder import Decoder
from motet.models.experts import Mixture, feed_forward
from motet.models.keys import MAX_WIDTH, Keys
from motet.models.layers import Attention, Block
from motet.models.mamba2 import read_mamba2
from motet.models.scans import Mamba2Mixer, Mamba2Sizes
from motet.models.tensors import TensorReader


@dataclass(frozen=True, kw_only=True)
class GraniteHybridConfig(HeadsConfig):
    """Mamba-2 layers and attention layers mixed, each followed by experts or one network."""

    kv_heads: tuple[int, ...]
    """Key and value heads of each layer; 0 makes it a Mamba-2 layer."""
    ssm: Mamba2Sizes
    scales: Scales
    mixture: Mixture | None


class GraniteHybrid(Decoder[GraniteHybridConfig]):
    """The ``granitehybrid`` architecture."""

    def __init__(
        self, config: GraniteHybridConfig, tensors: TensorReader, kernels: Kernels
    ) -> None:
        def block(t: TensorReader, i: int) -> Block:
            if config.kv_heads[i]:
                mixer = Attention(t, kernels, i, config, config.kv_heads[i])
            else:
                mixer = Mamba2Mixer(t, kernels, i, config, config.ssm)
            feed = feed_forward(t, kernels, config, config.mixture, i)
            return Block(t, kernels, config, mixer, feed, scale=config.scales.residual)

        super().__init__(
            config,
            tensors,
            kernels,
            block,
            embedding_scale=config.scales.embedding,
            logit_scale=config.scales.logit,
        )

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> GraniteHybridConfig:
        """The settings."""
        heads = read_heads(keys, read_sizes(keys, n_vocab, experts=True))
        keys.only("rope.scaling.finetuned", False, "attention that knows positions")
        keys.take("rope.freq_base", 0.0)  # of no rotary embedding
        keys.take("rope.dimension_count", 0)
        scale = keys.positive("attention.scale", heads.attention_scale)
        mixture, shared = None, keys.integer("expert_shared_feed_forward_length", 0, MAX_WIDTH, 0)
        if heads.n_experts:
            routing = Routing(heads.n_experts_used, scores="logits", weights="softmax")
            mixture = Mixture(routing=routing, d_ff=heads.d_ff, shared_d_ff=shared)
        return GraniteHybridConfig(
            **vars(replace(heads, attention_scale=scale)),
            kv_heads=read_kv_heads_by_layer(keys, heads),
            ssm=read_mamba2(keys),
            scales=read_scales(keys),
            mixture=mixture,
        )
