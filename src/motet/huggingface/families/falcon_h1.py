"""Falcon-H1, whose multipliers GGUF has in the weights."""

import numpy as np

from motet.errors import ModelFileError, UnsupportedError
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import UNUSED_BUFFERS, Keys, attention, tied
from motet.huggingface.families.mamba2 import SCAN_OF_HEADS, refuse_bounds
from motet.huggingface.families.rotary import rope, rope_of
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from motet.huggingface.tensors import Change, Weights, multiplied, reshaped

_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"


def falcon_h1(config: ConfigReader, files: Directory) -> Plan:
    """The ``falcon-h1`` architecture."""
    config.assume(num_key_value_heads=8)
    keys = attention(config) | rope(rope_of(config)) | _scan(config)
    keys["vocab_size"] = config.integer("vocab_size")
    config.only("hidden_act", "silu", "another activation")
    for name in ("attention_bias", "mlp_bias", "projectors_bias", "mamba_proj_bias"):
        config.only(name, False, "biases")
    if config.flag("mamba_rms_norm", default=False):
        config.assume(mamba_norm_before_gate=True)
        config.only("mamba_norm_before_gate", False, "a norm before the gate")
    config.only("mamba_use_mlp", True, "layers without a feed-forward network")
    config.only("attn_layer_indices", None, "attention in some layers only")
    config.ignore("mamba_norm_before_gate", "mamba_chunk_size", "num_logits_to_keep")
    config.ignore("mamba_use_mlp_bias")
    head = tied(config, default=False)
    return Plan(
        "falcon-h1",
        keys["block_count"],
        keys,
        renamed=((r"\.mamba\.dt_bias$", ".mamba.dt_proj.bias"),),
        # A head that is the embedding is multiplied by another number.
        same={_HEAD: (_EMBEDDING,)} if head else {},
        unused=UNUSED_BUFFERS,
        tied=None if head else head,
        changes=SCAN_OF_HEADS
        | {"ssm_norm.weight": reshaped(keys["ssm.group_count"], -1)}
        | _multipliers(config, keys),
    )


def _scan(config: ConfigReader) -> Keys:
    width = config.integer("hidden_size")
    inner = config.integer("mamba_d_ssm", default=1024)
    if "mamba_d_ssm" in config.values and not config.has("mamba_d_ssm"):
        inner = config.integer("mamba_expand", default=2) * width
    config.ignore("mamba_expand")
    heads = config.integer("mamba_n_heads", default=128)
    given = config.value("mamba_d_head", default="auto")
    if not heads or inner % heads or given not in ("auto", inner // heads):
        raise ModelFileError(f"{config.where}: {inner} channels are not {heads} heads of {given}")
    refuse_bounds(config, "time_step_limit")
    if not config.flag("mamba_conv_bias", default=True):
        raise UnsupportedError(f"{config.where}: mamba_conv_bias is false")
    return {
        "ssm.conv_kernel": config.integer("mamba_d_conv", default=4),
        "ssm.inner_size": inner,
        "ssm.state_size": config.integer("mamba_d_state", default=256),
        "ssm.time_step_rank": heads,
        "ssm.group_count": config.integer("mamba_n_groups", default=1),
    }


def _multipliers(config: ConfigReader, keys: Keys) -> dict[str, Change]:
    """By GGUF's name, in the order in which llama.cpp's converter multiplies."""

    def one(name: str) -> float:
        return config.number(f"{name}_multiplier", default=1.0)

    config.assume(mlp_multipliers=[1.0, 1.0], ssm_multipliers=[1.0] * 5)
    gate, down = config.numbers("mlp_multipliers", 2)
    attention_in = one("attention_in")
    grouped = keys["ssm.group_count"] * keys["ssm.state_size"]
    inner, heads = keys["ssm.inner_size"], keys["ssm.time_step_rank"]
    z_x_b_c_dt = inner, inner, grouped, grouped, heads
    of_parts = config.numbers("ssm_multipliers", 5)
    return {
        "token_embd.weight": multiplied(one("embedding")),
        "output.weight": multiplied(one("lm_head")),
        "attn_q.weight": multiplied(attention_in),
        "attn_k.weight": multiplied(one("key"), attention_in),
        "attn_v.weight": multiplied(attention_in),
        "attn_output.weight": multiplied(one("attention_out")),
        "ssm_in.weight": _parts_multiplied(one("ssm_in"), of_parts, z_x_b_c_dt),
        "ssm_out.weight": multiplied(one("ssm_out")),
        "ffn_gate.weight": multiplied(gate),
        "ffn_down.weight": multiplied(down),
    }


def _parts_multiplied(factor: float, of_parts: list[float], sizes: tuple[int, ...]) -> Change:
    """Rows times a number, and times that of their part; there are so many rows in each."""

    def change(weights: Weights) -> Weights:
        if weights.rows != sum(sizes):
            raise ValueError(f"it has not {sum(sizes)} rows")
        rows = np.repeat(np.array(of_parts, np.float32), sizes)
        return multiplied(factor, rows)(weights)

    return change
