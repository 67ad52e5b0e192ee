"""DeepSeek V2 and V3 (DeepSeek-AI 2024, arXiv 2405.04434 and 2412.19437), and what shares its form.

Latent attention; a first layer or more with one feed-forward network, then mixtures of experts.
"""

import math
from dataclasses import dataclass, replace

from motet.errors import UnsupportedError
from motet.kernels.interface import Kernels
from motet.kernels.routing import Routing
from motet.models.config import HeadsConfig, RotaryConfig, read_sizes
from motet.models.decoder import Decoder
from motet.models.experts import MixtureOfExperts
from motet.models.keys import MAX_HEAD_WIDTH, MAX_HEADS, MAX_WIDTH, Keys
from motet.models.layers import Block, GatedMLP
from motet.models.mla import LatentAttention, LatentSizes
from motet.models.rope import RopeConfig, make_rope, read_rope
from motet.models.tensors import TensorReader

_GATING = {1: "softmax", 2: "sigmoid"}
"""``expert_gating_func``, as llama.cpp numbers them."""
_LEAST = 1e-20
"""Added to the sum by which weights are divided, as in the authors' code."""


@dataclass(frozen=True, kw_only=True)
class DeepSeek2Config(HeadsConfig, RotaryConfig):
    """``head_dim`` and ``value_dim`` are what heads compare and sum; ``latent`` what is kept."""

    latent: LatentSizes
    dense_layers: int
    """First layers without experts; their feed-forward network has ``d_ff`` channels."""
    routing: Routing | None
    """None where no layer has experts."""
    expert_d_ff: int = 0
    shared_experts: int = 0
    """Experts that every token goes to, side by side in one network."""


class DeepSeek2(Decoder[DeepSeek2Config]):
    """The ``deepseek2`` architecture."""

    def __init__(self, config: DeepSeek2Config, tensors: TensorReader, kernels: Kernels) -> None:
        rope = make_rope(config.rope, "normal")

        def block(t: TensorReader, i: int) -> Block:
            if t.has("attn_kv_b.weight"):
                raise _converted_before(f"blk.{i}.attn_kv_b.weight is there")
            attention = LatentAttention(t, kernels, i, config, config.latent, rope=rope)
            if config.routing is None or i < config.dense_layers:
                feed = GatedMLP(t, kernels, config, "silu")
            else:
                expert, shared = replace(config, d_ff=config.expert_d_ff), None
                if config.shared_experts:
                    together = replace(config, d_ff=config.shared_experts * config.expert_d_ff)
                    shared = GatedMLP(t, kernels, together, "silu", suffix="_shexp")
                feed = MixtureOfExperts(
                    t, kernels, expert, "silu", config.routing, biased=True, shared=shared
                )
            return Block(t, kernels, config, attention, feed)

        super().__init__(config, tensors, kernels, block)
        tensors.skip_blocks(config.n_layers, config.draft_layers)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> DeepSeek2Config:
        """The settings. Layers that draft tokens, after the others, are not run."""
        sizes = read_sizes(keys, n_vocab, experts=True, drafts=True)
        kv_heads = keys.integer("attention.head_count_kv", 1, MAX_WIDTH)
        if kv_heads != 1 or not keys.has("attention.key_length_mla"):
            raise _converted_before(f"{keys.key('attention.head_count_kv')} is {kv_heads}")
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
        dense = keys.integer("leading_dense_block_count", 0, sizes.n_layers, 0)
        experts = sizes.n_experts > 0
        return DeepSeek2Config(
            **vars(sizes),
            n_heads=keys.integer("attention.head_count", 1, MAX_HEADS),
            head_dim=head_dim,
            value_dim=keys.integer("attention.value_length_mla", 1, MAX_HEAD_WIDTH),
            attention_scale=magnitude**2 / math.sqrt(head_dim),
            d_ff=keys.integer("feed_forward_length", 1, MAX_WIDTH),
            rope=rope,
            latent=LatentSizes(latent, rope.dimension, q_rank, latent_eps),
            dense_layers=dense,
            routing=_read_routing(keys, sizes.n_experts, sizes.n_experts_used) if experts else None,
            expert_d_ff=keys.integer("expert_feed_forward_length", 1, MAX_WIDTH) if experts else 0,
            shared_experts=keys.integer("expert_shared_count", 0, 64, 0) if experts else 0,
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


def _read_routing(keys: Keys, experts: int, used: int) -> Routing:
    gating = keys.integer("expert_gating_func", 0, 255, 1) or 1
    if gating not in _GATING:
        raise UnsupportedError(
            f"{keys.key('expert_gating_func')} is {gating}",
            hint="Motet knows 1 (softmax) and 2 (sigmoid) for deepseek2",
        )
    groups = keys.integer("expert_group_count", 0, experts, 1) or 1
    # V2 takes the groups with the best expert (its §2.2.2), V3 those with the best two (its
    # §2.1.2); the file says which only by how experts are scored.
    routing = Routing(
        used,
        scores=_GATING[gating],
        groups=groups,
        groups_used=keys.integer("expert_group_used_count", 0, groups, 1) or 1,
        group_best=2 if groups > 1 and gating == 2 else 1,
        weights="normalised" if keys.flag("expert_weights_norm", False) else "scores",
        epsilon=_LEAST,
        scale=keys.positive("expert_weights_scale", 1.0, or_zero=True) or 1.0,
    )
    if not routing.fits(experts):
        raise keys.wrong(
            "expert_group_count", groups, f"groups of {experts} experts from which to take {used}"
        )
    return routing


def _converted_before(found: str) -> UnsupportedError:
    return UnsupportedError(
        f"{found}: a conversion that keeps keys and values of every head",
        hint="convert the model again, with a llama.cpp of April 2025 or later",
    )
