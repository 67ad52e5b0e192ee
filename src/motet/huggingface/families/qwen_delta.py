"""Qwen 3 Next and Qwen 3.5, alone or as the text part of models that see."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from motet.errors import ModelFileError
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
from motet.huggingface.families.mamba import CONV, negative_exp
from motet.huggingface.families.rotary import partial_rope, rope_of
from motet.huggingface.files import Directory
from motet.huggingface.orders import columns_taken, taken
from motet.huggingface.plan import Plan
from motet.huggingface.tensors import Change, one_more, pointwise, then

_MTP = r"(model\.)?mtp\..*"
"""Layers that draft tokens."""
_RENAMED = ((r"\.linear_attn\.dt_bias$", ".linear_attn.dt_proj.bias"), EXPERTS_DOWN)
_SECTIONS = [11, 11, 10]
"""Channels that turn with time, height and width, where the file does not say."""
_MOST_ROWS = 1 << 20
"""Of queries, keys and values together: a hundred times what any model has."""


def qwen3_next(config: ConfigReader, files: Directory) -> Plan:
    """The ``qwen3next`` architecture."""
    config.assume(num_key_value_heads=2)
    keys = _keys(config) | _experts(config)
    config.only("decoder_sparse_step", 1, "layers without experts")
    config.only("mlp_only_layers", [], "layers without experts")
    groups, n = keys["ssm.group_count"], keys["ssm.state_size"]
    values = keys["ssm.inner_size"] // groups
    # A checkpoint's rows are each key head's q, k, v and z.
    rows = np.arange(groups * 2 * (n + values)).reshape(groups, -1)
    q, k, v, z = np.split(rows, [n, 2 * n, 2 * n + values], axis=1)
    qkv = np.concatenate([q.ravel(), k.ravel(), v.ravel()])
    splits = {
        "linear_attn.in_proj_qkvz.weight": {
            "linear_attn.in_proj_qkv.weight": taken(qkv, rows.size),
            "linear_attn.in_proj_z.weight": taken(z.ravel(), rows.size),
        }
    }
    return _plan("qwen3next", config, keys, EXPERTS_IN_ONE | splits, {})


def qwen3_5(config: ConfigReader, files: Directory) -> Plan:
    """The ``qwen35`` architecture, of a model that sees: its vision tower is left aside."""
    return _seeing(config, files, qwen3_5_text)


def qwen3_5_moe(config: ConfigReader, files: Directory) -> Plan:
    """The ``qwen35moe`` architecture, of a model that sees."""
    return _seeing(config, files, qwen3_5_moe_text)


def qwen3_5_text(config: ConfigReader, files: Directory) -> Plan:
    """The ``qwen35`` architecture."""
    config.assume(num_key_value_heads=4)
    keys = _keys(config)
    config.only("mlp_only_layers", [], "layers with experts")
    return _plan("qwen35", config, keys, {}, _tiled(keys))


def qwen3_5_moe_text(config: ConfigReader, files: Directory) -> Plan:
    """The ``qwen35moe`` architecture."""
    config.assume(num_key_value_heads=2)
    keys = _keys(config) | _experts(config)
    config.only("mlp_only_layers", [], "layers without experts")
    return _plan("qwen35moe", config, keys, EXPERTS_IN_ONE, _tiled(keys))


def _seeing(
    config: ConfigReader, files: Directory, text_plan: Callable[[ConfigReader, Directory], Plan]
) -> Plan:
    text = config.part("text_config")
    text.assume(architectures=config.value("architectures", default=None))
    text.assume(tie_word_embeddings=config.flag("tie_word_embeddings", default=False))
    plan = text_plan(text, files)
    text.refuse_unread()
    config.ignore("vision_config", "image_token_id", "video_token_id", "language_model_only")
    config.ignore("vision_start_token_id", "vision_end_token_id")
    return replace(
        plan,
        renamed=(
            (r"^model\.language_model\.", "model."),
            (r"^model\.visual\.", "visual."),
            *plan.renamed,
        ),
        unused=(*plan.unused, r"visual\..*"),
    )


def _keys(config: ConfigReader) -> Keys:
    config.assume(head_dim=256, intermediate_size=0)
    keys = attention(config)
    if not keys["feed_forward_length"]:
        del keys["feed_forward_length"]
    rotary = rope_of(config)
    if config.text("model_type") != "qwen3_next":
        given = rotary.integers("mrope_section", 3) if rotary.has("mrope_section") else _SECTIONS
        keys["rope.dimension_sections"] = [*given, 0]
    # How pictures' positions are told apart; a text's are all the same.
    plain = {name: v for name, v in rotary.values.items() if not name.startswith("mrope_")}
    keys |= partial_rope(config, ConfigReader(plain, rotary.where), keys, default=0.25)
    heads = config.integer("linear_num_value_heads", default=32)
    keys |= {
        "ssm.conv_kernel": config.integer("linear_conv_kernel_dim", default=4),
        "ssm.state_size": config.integer("linear_key_head_dim", default=128),
        "ssm.group_count": config.integer("linear_num_key_heads", default=16),
        "ssm.time_step_rank": heads,
        "ssm.inner_size": config.integer("linear_value_head_dim", default=128) * heads,
        "full_attention_interval": config.integer("full_attention_interval", default=4),
    }
    groups, n, inner = (keys[f"ssm.{of}"] for of in ("group_count", "state_size", "inner_size"))
    if not groups or not heads or 2 * groups * n + inner > _MOST_ROWS:
        raise ModelFileError(
            f"{config.where}: {groups} key heads of {n} and {heads} value heads, {inner} channels"
            " together, make no layer"
        )
    if config.has("layer_types"):
        attends = by_layer(config, keys["block_count"], (FULL,))
        keys["attention.recurrent_layers"] = [not a for a in attends]
    config.only("hidden_act", "silu", "another activation")
    config.only("attn_output_gate", True, "attention without a gate")
    config.only("output_gate_type", "swish", "another gate")
    config.only("attention_bias", False, "biases")
    config.ignore("mamba_ssm_dtype")  # states are float32
    config.ignore("mtp_num_hidden_layers", "mtp_use_dedicated_embeddings")
    return keys


def _experts(config: ConfigReader) -> Keys:
    config.only("norm_topk_prob", True, "weights of experts that are not shares of 1")
    return {
        "expert_count": config.integer("num_experts", "num_local_experts"),
        "expert_used_count": config.integer("num_experts_per_tok"),
        "expert_feed_forward_length": config.integer("moe_intermediate_size"),
        "expert_shared_feed_forward_length": config.integer("shared_expert_intermediate_size"),
    }


def _tiled(keys: Keys) -> Mapping[str, Change]:
    """GGUF's value heads take turns with key heads; a checkpoint has a key head's side by side."""
    heads, groups = keys["ssm.time_step_rank"], keys["ssm.group_count"]
    if heads % groups:
        raise ModelFileError(f"{heads} value heads are not so many for each of {groups} key heads")
    order = np.arange(heads).reshape(groups, -1).T.ravel()
    width = keys["ssm.inner_size"] // heads
    values = (order[:, None] * width + np.arange(width)).ravel()
    first = 2 * groups * keys["ssm.state_size"]
    qkv = np.concatenate([np.arange(first), first + values])
    of_heads = taken(order, heads)
    return {
        "attn_qkv.weight": taken(qkv, len(qkv)),
        "attn_gate.weight": taken(values, len(values)),
        "ssm_alpha.weight": of_heads,
        "ssm_beta.weight": of_heads,
        "ssm_a": then(pointwise(negative_exp), of_heads),
        "ssm_dt.bias": of_heads,
        "ssm_conv1d.weight": then(CONV, taken(qkv, len(qkv))),
        "ssm_out.weight": columns_taken(values),
    }


def _plan(
    architecture: str,
    config: ConfigReader,
    keys: Keys,
    splits: Mapping[str, Mapping[str, Change]],
    changes: Mapping[str, Change],
) -> Plan:
    norms = "attn_norm", "post_attention_norm", "attn_q_norm", "attn_k_norm", "output_norm"
    plain = {"ssm_conv1d.weight": CONV, "ssm_a": pointwise(negative_exp)}
    return Plan(
        architecture,
        keys["block_count"],
        keys,
        renamed=_RENAMED,
        unused=(*UNUSED_BUFFERS, _MTP),
        tied=tied(config, default=False),
        splits=splits,
        changes={f"{name}.weight": one_more for name in norms} | plain | dict(changes),
    )
