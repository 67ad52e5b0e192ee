"""Keys of config.json that families share, as GGUF's keys."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from motet.arrays import Float32
from motet.errors import ModelFileError, UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.tensors import part

Keys = dict[str, Any]

LAYERS = "num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_transformer_layers"
CONTEXT = "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_context_length"
WIDTH = "hidden_size", "n_embd", "d_model", "model_dim"
HEADS = "num_attention_heads", "n_head", "n_heads", "num_heads"
UNUSED_BUFFERS = (
    r".*\.rotary_emb\.inv_freq",
    r".*\.attention\.(masked_)?bias",
    r".*\.attn\.(masked_)?bias",
    r".*position_ids",
)
"""Buffers that old checkpoints hold: what they say follows from config.json."""


EXPERTS_IN_ONE = {
    "experts.gate_up_proj": {
        "experts.gate_proj.weight": part(0, 2),
        "experts.up_proj.weight": part(1, 2),
    }
}
"""``Plan.splits`` of experts as transformers 5 holds them: [experts, gate's and up's rows, d]."""
EXPERTS_DOWN = (r"(\.experts\.down_proj)$", r"\1.weight")
"""Of ``Plan.renamed``: their other matrix."""


def sizes(config: ConfigReader) -> Keys:
    """Layers, context, width."""
    return {
        "block_count": config.integer(*LAYERS),
        "context_length": config.integer(*CONTEXT),
        "embedding_length": config.integer(*WIDTH),
    }


def attention(config: ConfigReader, *, eps: tuple[str, ...] = ("rms_norm_eps",)) -> Keys:
    """A decoder of attention and feed-forward layers with RMSNorm, without its rotary embedding."""
    keys = sizes(config)
    keys["feed_forward_length"] = config.integer("intermediate_size", "n_inner", "ffn_dim")
    heads = config.integer(*HEADS)
    keys["attention.head_count"] = heads
    keys["attention.head_count_kv"] = config.integer("num_key_value_heads", default=heads)
    keys["attention.layer_norm_rms_epsilon"] = config.number(*eps)
    head_dim = config.integer("head_dim", default=None)
    if head_dim is not None:
        keys["attention.key_length"] = keys["attention.value_length"] = head_dim
    return keys


def head_dim(keys: Keys) -> int:
    """Channels of a head."""
    heads = keys["attention.head_count"]
    width = keys["embedding_length"]
    if not heads or (width % heads and "attention.key_length" not in keys):
        raise ModelFileError(f"{width} channels are not {heads} heads")
    return keys.get("attention.key_length", width // heads)


def rope_of(config: ConfigReader, kind: str = "full_attention") -> ConfigReader:
    """The rotary embedding's settings, under transformers 5's names, whichever way they stand.

    ``kind``: of layers, where kinds of layers have settings of their own.
    """
    part = config.part("rope_parameters" if config.has("rope_parameters") else "rope_scaling")
    nested = part.value(kind, default=None)
    values: dict[str, Any] = dict(nested if isinstance(nested, Mapping) else part.values)
    if "type" in values:
        values.setdefault("rope_type", values.pop("type"))
    if config.has("rope_theta"):
        values.setdefault("rope_theta", config.number("rope_theta"))
    # Both spellings stand in configurations that were written for two versions of transformers.
    config.ignore("rope_theta", "rope_scaling")
    return ConfigReader(values, part.where)


def rope(rope_config: ConfigReader, *, prefix: str = "rope") -> Keys:
    """A rotary embedding's keys. llama3's divisors are a tensor: see ``llama3_divisors``."""
    keys: Keys = {}
    theta = rope_config.number("rope_theta", default=None)
    if theta is not None:
        keys[f"{prefix}.freq_base"] = theta
    kind = rope_config.text("rope_type", default="default")
    if kind == "linear":
        keys[f"{prefix}.scaling.type"] = "linear"
        keys[f"{prefix}.scaling.factor"] = rope_config.number("factor")
    elif kind == "yarn":
        keys |= _yarn(rope_config, prefix)
    elif kind == "llama3":
        rope_config.ignore("factor", "low_freq_factor", "high_freq_factor")
        rope_config.ignore("original_max_position_embeddings")
    elif kind != "default":
        raise UnsupportedError(
            f"{rope_config.where}: rope_type is {shown(kind)}",
            hint="Motet knows default, linear, yarn and llama3",
        )
    rope_config.refuse_unread()
    return keys


def _yarn(rope_config: ConfigReader, prefix: str) -> Keys:
    keys: Keys = {
        f"{prefix}.scaling.type": "yarn",
        f"{prefix}.scaling.factor": rope_config.number("factor"),
        f"{prefix}.scaling.original_context_length": rope_config.integer(
            "original_max_position_embeddings"
        ),
    }
    for name, key in (
        ("extrapolation_factor", "yarn_ext_factor"),
        ("attention_factor", "yarn_attn_factor"),
        ("beta_fast", "yarn_beta_fast"),
        ("beta_slow", "yarn_beta_slow"),
    ):
        value = rope_config.number(name, default=None)
        if value is not None:
            keys[f"{prefix}.scaling.{key}"] = value
    return keys


def llama3_divisors(rope_config: ConfigReader, dimension: int) -> Float32 | None:
    """What llama3 scaling (Grattafiori et al. 2024, §3.4.1) divides frequencies by.

    float32 ``[dimension / 2]``; None for another scaling. Waves shorter than the trained context /
    high_freq_factor stay, those longer than it / low_freq_factor are stretched by the factor.
    """
    if rope_config.text("rope_type", default="default") != "llama3":
        return None
    base = rope_config.number("rope_theta", default=10000.0)
    factor = rope_config.number("factor", default=8.0)
    low = rope_config.number("low_freq_factor", default=1.0)
    high = rope_config.number("high_freq_factor", default=4.0)
    context = rope_config.integer("original_max_position_embeddings", default=8192)
    if not (factor > 0 and 0 < low < high and context and base > 1):
        raise ModelFileError(f"{rope_config.where}: llama3's factors make no sense")
    exponents = np.arange(0, dimension, 2, dtype=np.float32) / np.float32(dimension)
    waves = 2 * math.pi * (np.float32(base) ** exponents).astype(np.float64)
    smooth = np.clip((context / waves - low) / (high - low), 0.0, 1.0)
    divisors = 1 / ((1 - smooth) / factor + smooth)
    divisors[waves < context / high] = 1.0
    divisors[waves > context / low] = factor
    return divisors.astype(np.float32)


def tied_head(config: ConfigReader, *, default: bool) -> tuple[str, ...]:
    """Of ``Plan.unused``: the head's tensor, where config.json says that it is the embedding."""
    tied = config.flag("tie_word_embeddings", "tie_embeddings", default=default)
    return (r"lm_head\.weight",) if tied else ()
