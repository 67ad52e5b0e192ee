"""DeepSeek V2 and V3 (DeepSeek-AI 2024, arXiv 2405.04434 and 2412.19437), and what shares its form.

Latent attention; a first layer or more with one feed-forward network, then mixtures of experts.
"""

import math
from dataclasses import dataclass, replace

from motet.kernels.interface import Kernels
from motet.models.config import HeadsConfig, RotaryConfig, read_sizes
from motet.models.decoder import Decoder
from motet.models.experts import Mixture, feed_forward, read_mixture
from motet.models.keys import MAX_HEAD_WIDTH, MAX_HEADS, MAX_WIDTH, Keys
from motet.models.layers import Block
from motet.models.mla import LatentAttention, LatentSizes, unabsorbed
from motet.models.rope import RopeConfig, make_rope, read_rope
from motet.models.tensors import TensorReader


@dataclass(frozen=True, kw_only=True)
class DeepSeek2Config(HeadsConfig, RotaryConfig):
    """``head_dim`` and ``value_dim`` are what heads compare and sum; ``latent`` what is kept."""

    latent: LatentSizes
    mixture: Mixture | None
    """None where no layer has experts."""


class DeepSeek2(Decoder[DeepSeek2Config]):
    """The ``deepseek2`` architecture."""

    def __init__(self, config: DeepSeek2Config, tensors: TensorReader, kernels: Kernels) -> None:
        rope = make_rope(config.rope, "normal")

        def block(t: TensorReader, i: int) -> Block:
            if t.has("attn_kv_b.weight"):
                raise unabsorbed(f"blk.{i}.attn_kv_b.weight is there")
            attention = LatentAttention(t, kernels, i, config, config.latent, rope=rope)
            feed = feed_forward(t, kernels, config, config.mixture, i)
            return Block(t, kernels, config, attention, feed)

        super().__init__(config, tensors, kernels, block)
        tensors.skip_blocks(config.n_layers, config.draft_layers)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> DeepSeek2Config:
        """The settings. Layers that draft tokens, after the others, are not run."""
        sizes = read_sizes(keys, n_vocab, experts=True, drafts=True)
        kv_heads = keys.integer("attention.head_count_kv", 1, MAX_WIDTH)
        if kv_heads != 1 or not keys.has("attention.key_length_mla"):
            raise unabsorbed(f"{keys.key('attention.head_count_kv')} is {kv_heads}")
        head_dim = keys.integer("attention.key_length_mla", 1, MAX_HEAD_WIDTH)
        rope = read_rope(keys, head_dim, 10000.0)
        if rope.dimension >= head_dim:
            raise keys.wrong("rope.dimension_count", rope.dimension, f"below {head_dim}")
        latent = keys.integer("attention.kv_lora_rank", 1, MAX_HEAD_WIDTH)
        for name, width in (("key", latent + rope.dimension), ("value", latent)):
            given = keys.integer(f"attention.{name}_length", 1, MAX_HEAD_WIDTH)
            if given != width:
                raise keys.wrong(f"attention.{name}_length", given, f"{width}, as the ranks say")
        q_rank = keys.integer("attention.q_lora_rank", 0, MAX_WIDTH, 0)
        # Motet's own key: llama.cpp takes the layers' epsilon.
        latent_eps = keys.positive("attention.latent_layer_norm_rms_epsilon", sizes.norm_eps)
        rope, magnitude = _read_magnitude(keys, rope)
        return DeepSeek2Config(
            **vars(sizes),
            n_heads=keys.integer("attention.head_count", 1, MAX_HEADS),
            head_dim=head_dim,
            value_dim=keys.integer("attention.value_length_mla", 1, MAX_HEAD_WIDTH),
            attention_scale=magnitude**2 / math.sqrt(head_dim),
            d_ff=keys.integer("feed_forward_length", 1, MAX_WIDTH),
            rope=rope,
            latent=LatentSizes(latent, rope.dimension, q_rank, latent_eps),
            mixture=read_mixture(keys, sizes),
        )


def _read_magnitude(keys: Keys, rope: RopeConfig) -> tuple[RopeConfig, float]:
    """YaRN's attention factor multiplies whole scores here, not rotated queries and keys.

    ``yarn_log_multiplier`` is 0.1 · mscale_all_dim of the authors' configuration; without it the
    magnitude is as in other models.
    """
    log_multiplier = keys.positive("rope.scaling.yarn_log_multiplier", 0.0, or_zero=True)
    if rope.scaling != "yarn" or not log_multiplier:
        return rope, 1.0
    rope = replace(rope, magnitude=keys.positive("rope.scaling.attn_factor", 1.0))
    return rope, 1.0 + log_multiplier * math.log(max(rope.factor, 1.0))
