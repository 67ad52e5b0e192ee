"""Llama, Mistral and Mixtral."""

from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import (
    UNUSED_BUFFERS,
    attention,
    head_dim,
    llama3_divisors,
    rope,
    rope_of,
)
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from motet.huggingface.tensors import constant, interleaved


def llama(config: ConfigReader, files: Directory) -> Plan:
    """The ``llama`` architecture, for model types llama, mistral and mixtral."""
    keys = attention(config)
    dimension = head_dim(keys)
    rotary = rope_of(config)
    divisors = llama3_divisors(rotary, dimension)
    keys |= rope(rotary)
    keys["rope.dimension_count"] = dimension
    keys["vocab_size"] = config.integer("vocab_size")
    experts = config.integer("num_local_experts", default=0)
    if experts:
        keys["expert_count"] = experts
        keys["expert_used_count"] = config.integer("num_experts_per_tok")
    window = config.integer("sliding_window", default=0)
    if window:
        keys["attention.sliding_window"] = window
    config.only("hidden_act", "silu", "another activation")
    config.ignore("attention_bias", "mlp_bias")  # biases show in the tensors
    heads = keys["attention.head_count"]
    q, k = interleaved(heads), interleaved(keys["attention.head_count_kv"])
    return Plan(
        "llama",
        keys["block_count"],
        keys,
        unused=UNUSED_BUFFERS,
        changes={
            f"attn_{name}.{part}": change
            for name, change in (("q", q), ("k", k))
            for part in ("weight", "bias")
        },
        added={} if divisors is None else {"rope_freqs.weight": constant(divisors)},
    )
