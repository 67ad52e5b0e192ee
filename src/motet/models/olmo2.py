"""OLMo 2 and 3 (OLMo Team 2024, arXiv 2501.00656; 2025): norms after each part of a layer alone.

OLMo 3 has sliding layers, whose rotary embedding is not stretched.
"""

from dataclasses import replace

from motet.kernels.interface import Kernels
from motet.models.alternating import alternating
from motet.models.config import AttentionConfig, read_attention, read_sliding
from motet.models.decoder import Decoder
from motet.models.keys import MAX_CONTEXT, Keys
from motet.models.layers import Block, GatedMLP
from motet.models.rope import RopeConfig
from motet.models.tensors import TensorReader


class Olmo2(Decoder[AttentionConfig]):
    """The ``olmo2`` architecture: queries and keys have a norm over all heads together."""

    def __init__(self, config: AttentionConfig, tensors: TensorReader, kernels: Kernels) -> None:
        attention = alternating(config, kernels, qk_norms="all")

        def block(t: TensorReader, i: int) -> Block:
            mixer, mlp = attention(t, i), GatedMLP(t, kernels, config, "silu")
            return Block(t, kernels, config, mixer, mlp, pre_norms=False, post_norms=True)

        super().__init__(config, tensors, kernels, block)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> AttentionConfig:
        """The settings; with a window, layer i slides unless (i + 1) % 4 == 0 or the file says."""
        config = read_attention(keys, n_vocab)
        window = keys.integer("attention.sliding_window", 0, MAX_CONTEXT, 0)
        base = keys.positive("rope.freq_base_swa", config.rope.base)
        if not window:
            return config
        return replace(
            config,
            window=window,
            sliding=read_sliding(keys, config.n_layers, 4),
            sliding_rope=RopeConfig(base, config.rope.dimension),
        )
