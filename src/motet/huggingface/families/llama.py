"""Llama, Mistral and Mixtral."""

from motet.arrays import Float32
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import (
    BARE,
    EXPERTS_DOWN,
    EXPERTS_IN_ONE,
    SCORE,
    UNUSED_BUFFERS,
    Keys,
    all_full,
    attention,
    head_dim,
    tied,
)
from motet.huggingface.families.rotary import llama3_divisors, rope, rope_of
from motet.huggingface.families.sentence import vectors
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from motet.huggingface.tensors import constant, interleaved


def llama(config: ConfigReader, files: Directory) -> Plan:
    """The ``llama`` architecture, for model types llama, mistral and mixtral."""
    kind = config.text("model_type")
    if kind == "mistral":
        config.assume(sliding_window=4096, num_key_value_heads=8)
    elif kind == "mixtral":
        config.assume(num_key_value_heads=8, num_local_experts=8, num_experts_per_tok=2)
        config.assume(rope_theta=1e6)
    keys = attention(config)
    rotary = rope_of(config)
    divisors = llama3_divisors(rotary, head_dim(keys))
    keys |= rope(rotary)
    if kind == "mixtral":
        keys["expert_count"] = config.integer("num_local_experts", "num_experts")
        keys["expert_used_count"] = config.integer("num_experts_per_tok")
    if kind != "llama":
        window = config.integer("sliding_window", default=0)
        if window:
            keys["attention.sliding_window"] = window
    return interleaved_plan("llama", config, keys | vectors(config, files), divisors)


def of_all(config: ConfigReader, keys: Keys) -> Keys:
    """What converters write of every model of Llama's form. ``keys``: those of its heads."""
    return {"rope.dimension_count": head_dim(keys), "vocab_size": config.integer("vocab_size")}


def interleaved_plan(
    architecture: str, config: ConfigReader, keys: Keys, divisors: Float32 | None = None
) -> Plan:
    """A model of Llama's form, of whose queries and keys GGUF has the rotary pairs side by side.

    ``divisors``: of its frequencies, float32 ``[dimension / 2]``.
    """
    keys = keys | of_all(config, keys)
    config.only("hidden_act", "silu", "another activation")
    config.only("rope_interleaved", False, "pairs side by side")
    config.ignore("attention_bias", "mlp_bias")  # biases show in the tensors
    all_full(config, keys["block_count"])
    heads = keys["attention.head_count"]
    q, k = interleaved(heads), interleaved(keys["attention.head_count_kv"])
    return Plan(
        architecture,
        keys["block_count"],
        keys,
        renamed=(BARE, SCORE, EXPERTS_DOWN),
        unused=UNUSED_BUFFERS,
        tied=tied(config, default=False),
        splits=EXPERTS_IN_ONE,
        changes={
            f"attn_{name}.{part}": change
            for name, change in (("q", q), ("k", k))
            for part in ("weight", "bias")
        },
        added={} if divisors is None else {"rope_freqs.weight": constant(divisors)},
    )
