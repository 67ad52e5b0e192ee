"""Jamba: Mamba and attention layers, experts in some."""

from motet.errors import ModelFileError
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import (
    EXPERTS_DOWN,
    EXPERTS_IN_ONE,
    Keys,
    attention,
    tied,
)
from motet.huggingface.families.mamba import SCAN, time_step_rank
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan


def jamba(config: ConfigReader, files: Directory) -> Plan:
    """The ``jamba`` architecture."""
    keys = attention(config)
    keys |= _scan(config, keys["embedding_length"])
    layers = keys["block_count"]
    every, first = _period(config, "attn_layer", 8, 4)
    kv_heads = keys["attention.head_count_kv"]
    keys["attention.head_count_kv"] = [kv_heads if i % every == first else 0 for i in range(layers)]
    experts = config.integer("num_experts", "num_local_experts", default=16)
    keys["expert_count"] = experts
    keys["expert_used_count"] = config.integer("num_experts_per_tok", default=2)
    every, first = _period(config, "expert_layer", 2, 1)
    alone = [i for i in range(layers) if experts < 2 or i % every != first]
    config.only("hidden_act", "silu", "another activation")
    config.only("mamba_inner_layernorms", True, "no norms within Mamba layers")
    config.only("sliding_window", None, "a sliding window")
    config.ignore("mamba_conv_bias", "mamba_proj_bias")  # biases show in the tensors
    config.ignore("use_mamba_kernels", "use_mambapy", "use_associative_scan")
    config.ignore("num_logits_to_keep", "calc_logits_for_entire_prompt")
    return Plan(
        "jamba",
        layers,
        keys,
        renamed=(
            (r"\.moe\.", ".feed_forward."),  # the first Mini-Jamba
            *_only_experts(alone),
            EXPERTS_DOWN,
            (r"\.feed_forward\.experts\.", ".mlp.experts."),
        ),
        splits=EXPERTS_IN_ONE,
        tied=tied(config, False),
        changes=SCAN,
    )


def _scan(config: ConfigReader, width: int) -> Keys:
    return {
        "ssm.conv_kernel": config.integer("mamba_d_conv", default=4),
        "ssm.inner_size": config.integer("mamba_expand", default=2) * width,
        "ssm.state_size": config.integer("mamba_d_state", default=16),
        "ssm.time_step_rank": time_step_rank(config, "mamba_dt_rank", width),
    }


def _period(config: ConfigReader, name: str, every: int, first: int) -> tuple[int, int]:
    every = config.integer(f"{name}_period", default=every)
    first = config.integer(f"{name}_offset", default=first)
    if first >= every:
        raise ModelFileError(f"{config.where}: {name}_offset {first} is not below {every}")
    return every, first


def _only_experts(layers: list[int]) -> tuple[tuple[str, str], ...]:
    """The first Mini-Jamba: a network alone is called a mixture's only expert."""
    numbers = "|".join(map(str, layers))
    return ((rf"(\.layers\.(?:{numbers})\.feed_forward)\.experts\.0\.", r"\1."),) * bool(layers)
