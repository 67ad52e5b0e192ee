"""LFM2, with and without experts."""

from motet.errors import UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import (
    EXPERTS_DOWN,
    EXPERTS_IN_ONE,
    FULL,
    UNUSED_BUFFERS,
    Keys,
    attention,
    by_layer,
    tied,
)
from motet.huggingface.families.deepseek import SIGMOID
from motet.huggingface.families.mamba import CONV
from motet.huggingface.families.rotary import rope, rope_of
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan

_WS = tuple(
    (rf"\.mlp\.experts\.(\d+)\.{w}\.", rf".mlp.experts.\1.{name}_proj.")
    for w, name in (("w1", "gate"), ("w2", "down"), ("w3", "up"))
)


def lfm2(config: ConfigReader, files: Directory) -> Plan:
    """The ``lfm2`` architecture."""
    keys = _keys(config)
    if config.flag("block_auto_adjust_ff_dim", default=True):
        width = int(2 * keys["feed_forward_length"] / 3)
        multiplier = config.number("block_ffn_dim_multiplier", default=1.0)
        multiple = config.integer("block_multiple_of", default=256)
        width = int(multiplier * width)
        keys["feed_forward_length"] = multiple * -(-width // max(multiple, 1))
    config.ignore("block_ffn_dim_multiplier", "block_multiple_of", "block_ff_dim", "block_dim")
    config.ignore("block_mlp_init_scale", "block_out_init_scale", "block_norm_eps")
    config.ignore("block_use_swiglu", "block_use_xavier_init", "conv_dim", "conv_dim_out")
    config.ignore("conv_use_xavier_init", "use_pos_enc")
    return _plan("lfm2", config, keys)


def lfm2_moe(config: ConfigReader, files: Directory) -> Plan:
    """The ``lfm2moe`` architecture."""
    keys = _keys(config)
    keys["expert_count"] = config.integer("num_experts")
    keys["expert_used_count"] = config.integer("num_experts_per_tok")
    keys["expert_feed_forward_length"] = config.integer("moe_intermediate_size")
    keys["leading_dense_block_count"] = config.integer("num_dense_layers")
    keys["expert_gating_func"] = SIGMOID
    config.only("norm_topk_prob", True, "weights of experts that are not shares of 1")
    config.only("routed_scaling_factor", 1.0, "scaled weights of experts")
    config.ignore("use_expert_bias")  # the bias shows in the tensors
    return _plan("lfm2moe", config, keys)


def _keys(config: ConfigReader) -> Keys:
    keys = attention(config, eps=("norm_eps", "rms_norm_eps", "block_norm_eps"))
    keys |= rope(rope_of(config, theta=("rope_theta", "theta")))
    attends = by_layer(config, keys["block_count"], (FULL,))
    config.ignore("full_attn_idxs")
    kv_heads = keys["attention.head_count_kv"]
    keys["attention.head_count_kv"] = [kv_heads if a else 0 for a in attends]
    keys["shortconv.l_cache"] = config.integer("conv_L_cache", default=3)
    keys["vocab_size"] = config.integer("vocab_size")
    if config.flag("conv_bias", default=False):
        raise UnsupportedError(f"{config.where}: conv_bias is {shown(True)}")
    return keys


def _plan(architecture: str, config: ConfigReader, keys: Keys) -> Plan:
    return Plan(
        architecture,
        keys["block_count"],
        keys,
        renamed=(
            (r"\.feed_forward\.expert_bias$", ".feed_forward.expert_bias.bias"),
            EXPERTS_DOWN,
            (r"\.feed_forward\.experts\.", ".mlp.experts."),
            *_WS,
        ),
        splits=EXPERTS_IN_ONE,
        unused=UNUSED_BUFFERS,
        tied=tied(config, default=True),
        changes={"shortconv.conv.weight": CONV},
    )
