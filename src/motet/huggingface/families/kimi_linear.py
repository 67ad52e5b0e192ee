"""Kimi Linear."""

from motet.errors import UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import (
    EXPERTS_DOWN,
    EXPERTS_IN_ONE,
    FULL,
    HEADS,
    UNUSED_BUFFERS,
    Keys,
    by_layer,
    sizes,
    tied,
)
from motet.huggingface.families.deepseek import SIGMOID, absorbed
from motet.huggingface.families.mamba import negative_exp
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from motet.huggingface.tensors import cut, pointwise, reshaped, then

_RENAMED = (
    (r"\.forget_gate\.", "."),  # transformers 5's
    (r"\.self_attn\.dt_bias$", ".self_attn.dt_proj.bias"),
    (r"\.e_score_correction_bias$", ".e_score_correction.bias"),
    (r"\.block_sparse_moe\.(gate_proj|up_proj|down_proj)\.", r".mlp.\1."),  # a dense layer's
    EXPERTS_DOWN,
)


def kimi_linear(config: ConfigReader, files: Directory) -> Plan:
    """The ``kimi-linear`` architecture."""
    keys = sizes(config)
    heads = config.integer(*HEADS)
    latent, plain = config.integer("kv_lora_rank"), config.integer("qk_nope_head_dim")
    rotary, values = config.integer("qk_rope_head_dim"), config.integer("v_head_dim")
    keys |= {
        "feed_forward_length": config.integer("intermediate_size"),
        "attention.head_count": heads,
        "attention.layer_norm_rms_epsilon": config.number("rms_norm_eps", default=1e-5),
        "attention.kv_lora_rank": latent,
        "attention.key_length": latent + rotary,
        "attention.value_length": config.integer("head_dim", default=values),
        "attention.key_length_mla": plain + rotary,
        "attention.value_length_mla": values,
        "rope.dimension_count": rotary,
        "vocab_size": config.integer("vocab_size"),
    }
    q_rank = config.integer("q_lora_rank", default=0)
    if q_rank:
        keys["attention.q_lora_rank"] = q_rank
    keys |= _linear(config, heads, keys["block_count"]) | _experts(config, keys["block_count"])
    config.only("num_key_value_heads", heads, "heads that share keys and values")
    config.only("mla_use_nope", True, "attention that knows positions")
    config.only("hidden_act", "silu", "another activation")
    config.only("attention_bias", False, "biases")
    config.only("num_nextn_predict_layers", 0, "layers that draft tokens")
    config.ignore("qk_head_dim", "rope_theta", "rope_scaling", "rope_parameters")
    width = heads * keys["kda.head_dim"]
    kernels = reshaped(1, -1, 1, keys["ssm.conv_kernel"])
    stacked = {f"self_attn.{x}_conv1d.weight": i * width for i, x in enumerate("qkv")}
    return Plan(
        "kimi-linear",
        keys["block_count"],
        keys,
        renamed=_RENAMED,
        unused=UNUSED_BUFFERS,
        tied=tied(config, default=False),
        splits=EXPERTS_IN_ONE
        | absorbed(heads, plain, values)
        | {"self_attn.conv1d.weight": {n: cut(i, i + width) for n, i in stacked.items()}},
        changes={f"ssm_conv1d_{x}.weight": kernels for x in "qkv"}
        | {"ssm_a": then(pointwise(negative_exp), reshaped(1, 1, -1, 1))},
    )


def _linear(config: ConfigReader, heads: int, layers: int) -> Keys:
    """The keys of layers by the delta rule, and which layers attend, in either spelling."""
    before = config.part("linear_attn_config")
    if before.values:
        attends = _numbered(before, "full_attn_layers", layers)
        if [not a for a in attends] != _numbered(before, "kda_layers", layers):
            raise before.wrong(("kda_layers",), before.value("kda_layers"), "the other layers")
        before.only("num_heads", heads, "heads of two numbers")
        keys: Keys = {
            "ssm.conv_kernel": before.integer("short_conv_kernel_size"),
            "kda.head_dim": before.integer("head_dim"),
        }
        before.refuse_unread()
        config.ignore("layer_types", "linear_head_dim", "linear_num_heads")
        config.ignore("linear_conv_kernel_dim")
    else:
        attends = by_layer(config, layers, (FULL,))
        config.only("linear_num_heads", heads, "heads of two numbers")
        keys = {
            "ssm.conv_kernel": config.integer("linear_conv_kernel_dim", default=4),
            "kda.head_dim": config.integer("linear_head_dim", default=128),
        }
    return keys | {"attention.head_count_kv": [int(a) for a in attends]}


def _numbered(config: ConfigReader, name: str, layers: int) -> list[bool]:
    """Which layers a list has, that counts them from 1."""
    listed = config.value(name)
    if not isinstance(listed, list) or any(type(i) is not int for i in listed):
        raise config.wrong((name,), listed, "numbers of layers")
    return [i + 1 in listed for i in range(layers)]


def _experts(config: ConfigReader, layers: int) -> Keys:
    kinds = config.texts("mlp_layer_types", default=None)
    dense = config.integer("first_k_dense_replace", default=1)
    if kinds is not None:
        dense = kinds.count("dense")
        if kinds != ["dense"] * dense + ["sparse"] * (layers - dense):
            raise UnsupportedError(f"{config.where}: mlp_layer_types is {shown(kinds)}")
    groups = config.integer("num_expert_group", "n_group", default=1)
    config.only("moe_layer_freq", 1, "experts in some layers only")
    config.only("moe_renormalize", True, "weights of experts that are not shares of 1")
    config.only("norm_topk_prob", True, "weights of experts that are not shares of 1")
    config.only("moe_router_activation_func", "sigmoid", "another kind of scores")
    config.ignore("use_grouped_topk")  # by the number of groups
    return {
        "leading_dense_block_count": dense,
        "expert_count": config.integer("num_experts", "num_local_experts", "n_routed_experts"),
        "expert_used_count": config.integer("num_experts_per_token", "num_experts_per_tok"),
        "expert_feed_forward_length": config.integer("moe_intermediate_size"),
        "expert_shared_count": config.integer("num_shared_experts", "n_shared_experts"),
        "expert_weights_scale": config.number("routed_scaling_factor"),
        "expert_gating_func": SIGMOID,
        "expert_group_used_count": config.integer("topk_group", default=1),
    } | ({"expert_group_count": groups} if groups > 1 else {})
