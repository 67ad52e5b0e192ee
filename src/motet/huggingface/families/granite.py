"""Granite: dense, and the hybrids with Mamba-2 layers."""

from motet.errors import ModelFileError, UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import (
    UNUSED_BUFFERS,
    Keys,
    attention,
    by_layer,
    tied,
)
from motet.huggingface.families.llama import interleaved_plan, of_all
from motet.huggingface.families.mamba import CONTEXT
from motet.huggingface.families.mamba2 import SCAN_OF_HEADS, refuse_bounds
from motet.huggingface.families.rotary import rope, rope_of
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from motet.huggingface.tensors import Change, interleaved, part, reshaped


def granite(config: ConfigReader, files: Directory) -> Plan:
    """The ``granite`` architecture."""
    keys = attention(config) | rope(rope_of(config)) | _scales(config)
    return interleaved_plan("granite", config, keys)


def granite_hybrid(config: ConfigReader, files: Directory) -> Plan:
    """The ``granitehybrid`` architecture."""
    keys = attention(config) | rope(rope_of(config)) | _scales(config)
    keys |= of_all(config, keys) | {"context_length": CONTEXT}
    keys["rope.scaling.finetuned"] = False
    config.only("position_embedding_type", "nope", "attention that knows positions")
    attends = by_layer(config, keys["block_count"], ("attention", "full_attention"))
    heads, kv_heads = keys["attention.head_count"], keys["attention.head_count_kv"]
    keys["attention.head_count_kv"] = [kv_heads if a else 0 for a in attends]
    keys |= _scan(config, keys["embedding_length"])
    shared = config.integer("shared_intermediate_size", default=0)
    experts = config.integer("num_local_experts", default=0)
    renamed = [(r"\.mamba\.dt_bias$", ".mamba.dt_proj.bias")]
    if experts:
        keys["expert_count"] = experts
        keys["expert_used_count"] = config.integer("num_experts_per_tok")
        keys["expert_shared_feed_forward_length"] = shared
        halves = _gate_and_up("shared_mlp", "mlp.shared_expert")
        halves |= _gate_and_up("block_sparse_moe", "mlp.experts")
    else:
        keys["feed_forward_length"] = shared
        config.ignore("num_experts_per_tok")
        halves = _gate_and_up("shared_mlp", "mlp")
        renamed.append((r"\.shared_mlp\.output_linear\.", ".mlp.down_proj."))
    config.only("hidden_act", "silu", "another activation")
    config.only("attention_bias", False, "biases of attention")
    config.ignore("normalization_function")
    return Plan(
        "granitehybrid",
        keys["block_count"],
        keys,
        renamed=renamed,
        unused=UNUSED_BUFFERS,
        tied=tied(config, default=True),
        splits=halves,
        changes=SCAN_OF_HEADS
        | {
            "ssm_norm.weight": reshaped(keys["ssm.group_count"], -1),
            "attn_q.weight": interleaved(heads),
            "attn_k.weight": interleaved(kv_heads),
        },
    )


def _gate_and_up(fused: str, apart: str) -> dict[str, dict[str, Change]]:
    """``Plan.splits`` of a network whose two first matrices stand in one."""
    return {
        f"{fused}.input_linear.weight": {
            f"{apart}.gate_proj.weight": part(0, 2),
            f"{apart}.up_proj.weight": part(1, 2),
        }
    }


def _scales(config: ConfigReader) -> Keys:
    """What is multiplied, and the logits are divided, by."""
    return {
        "attention.scale": config.number("attention_multiplier", default=1.0),
        "embedding_scale": config.number("embedding_multiplier", default=1.0),
        "residual_scale": config.number("residual_multiplier", default=1.0),
        "logit_scale": config.number("logits_scaling", default=1.0),
    }


def _scan(config: ConfigReader, width: int) -> Keys:
    inner = config.integer("mamba_expand", default=2) * width
    heads = config.integer("mamba_n_heads", default=128)
    given = config.value("mamba_d_head", default="auto")
    if not heads or inner % heads or given not in ("auto", inner // heads):
        raise ModelFileError(
            f"{config.where}: {inner} channels are not {heads} heads of {shown(given)}"
        )
    refuse_bounds(config, "time_step_limit")
    if not config.flag("mamba_conv_bias", default=True):
        raise UnsupportedError(f"{config.where}: mamba_conv_bias is false")
    config.only("mamba_proj_bias", False, "biases of scans")
    config.ignore("mamba_chunk_size", "time_step_min", "time_step_max", "time_step_floor")
    return {
        "ssm.conv_kernel": config.integer("mamba_d_conv", default=4),
        "ssm.inner_size": inner,
        "ssm.state_size": config.integer("mamba_d_state", default=256),
        "ssm.time_step_rank": heads,
        "ssm.group_count": config.integer("mamba_n_groups", default=1),
    }
