"""Phi 3, 3.5 and 4."""

import math

import numpy as np

from motet.errors import ModelFileError
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import BARE, CONTEXT, UNUSED_BUFFERS, Keys, attention, tied
from motet.huggingface.families.rotary import partial_rope, rope_of
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from motet.huggingface.tensors import Weights, constant

_NAMES = "longrope", "su"
_LONG_ROPE = (
    *("rope_type", "long_factor", "short_factor", "attention_factor"),
    *("factor", "original_max_position_embeddings"),  # which follow from the lengths
)


def phi3(config: ConfigReader, files: Directory) -> Plan:
    """The ``phi3`` architecture."""
    config.assume(original_max_position_embeddings=4096)
    original = config.integer("original_max_position_embeddings")
    keys = attention(config)
    rotary, added = rope_of(config), {}
    if rotary.text("rope_type", default="default") in _NAMES:
        added = _factors(config, rotary, keys, original)
        rest = {name: v for name, v in rotary.values.items() if name not in _LONG_ROPE}
        rotary = ConfigReader(rest, rotary.where)
    keys |= partial_rope(config, rotary, keys, default=1.0)
    keys["rope.scaling.original_context_length"] = original
    keys["attention.sliding_window"] = config.integer("sliding_window", default=0)
    config.only("hidden_act", "silu", "another activation")
    config.ignore("embd_pdrop", "resid_pdrop")
    return Plan(
        "phi3",
        keys["block_count"],
        keys,
        renamed=(BARE,),
        unused=UNUSED_BUFFERS,
        tied=tied(config, default=False),
        added=added,
    )


def _factors(
    config: ConfigReader, rotary: ConfigReader, keys: Keys, original: int
) -> dict[str, Weights]:
    """LongRoPE's divisors as tensors; what cosines and sines are multiplied by goes to ``keys``."""
    added: dict[str, Weights] = {}
    for name in ("long", "short"):
        values = rotary.value(f"{name}_factor")
        if not isinstance(values, list):
            raise rotary.wrong((f"{name}_factor",), values, "a list of numbers")
        divisors = rotary.numbers(f"{name}_factor", len(values))
        added[f"rope_factors_{name}.weight"] = constant(np.array(divisors, np.float32))
    if original < 2:
        raise ModelFileError(f"{config.where}: original_max_position_embeddings is {original}")
    longer = config.integer(*CONTEXT) / original
    usual = math.sqrt(1 + math.log(longer) / math.log(original)) if longer > 1 else 1.0
    keys["rope.scaling.attn_factor"] = rotary.number("attention_factor", default=usual)
    return added
