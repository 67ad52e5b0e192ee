"""Gemma 1 and 2, and what Gemma 3 has of them."""

from motet.errors import UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import (
    BARE,
    SCORE,
    UNUSED_BUFFERS,
    Keys,
    attention,
    pattern,
    sliding_layers,
    tied,
)
from motet.huggingface.families.rotary import rope, rope_of
from motet.huggingface.families.sentence import vectors
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from motet.huggingface.tensors import Change, one_more

GELU = "gelu_pytorch_tanh"
_ROPE_BASE = 10000.0

NORMS: dict[str, Change] = {
    f"{name}.weight": one_more
    for name in (
        *("attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm"),
        *("attn_q_norm", "attn_k_norm", "output_norm"),
    )
}
"""Their weights are added to 1."""


def gemma(config: ConfigReader, files: Directory) -> Plan:
    """The ``gemma`` architecture."""
    config.assume(head_dim=256, num_key_value_heads=16)
    keys = attention(config) | _rope(config)
    activation = config.text("hidden_activation", "hidden_act", default=GELU)
    if activation not in (GELU, "gelu"):  # which stands for the same in old files
        raise UnsupportedError(f"{config.where}: hidden_activation is {shown(activation)}")
    config.only("use_bidirectional_attention", False, "attention in both directions")
    config.ignore("attention_bias", "hidden_act")
    return plan("gemma", config, keys | vectors(config, files))


def gemma2(config: ConfigReader, files: Directory) -> Plan:
    """The ``gemma2`` architecture."""
    config.assume(head_dim=256, num_key_value_heads=4, query_pre_attn_scalar=256)
    config.assume(attn_logit_softcapping=50.0, final_logit_softcapping=30.0, sliding_window=4096)
    keys = attention(config) | _rope(config)
    check_scale(config, keys, 46)
    keys["attn_logit_softcapping"] = config.number("attn_logit_softcapping")
    keys["final_logit_softcapping"] = config.number("final_logit_softcapping")
    keys["attention.sliding_window"] = config.integer("sliding_window")
    slides = sliding_layers(config, keys["block_count"])
    keys |= {} if slides is None else pattern(slides, 2)
    config.only("hidden_activation", GELU, "another activation")
    config.only("use_bidirectional_attention", False, "attention in both directions")
    # hidden_act is not used by any version; sliding_window_size is an old name beside the new one.
    config.ignore("attention_bias", "hidden_act", "cache_implementation", "sliding_window_size")
    return plan("gemma2", config, keys | vectors(config, files))


def check_scale(config: ConfigReader, keys: Keys, layers_of_27b: int | None) -> None:
    """Refuse a scale of the scores that GGUF cannot say: it follows from the number of layers,
    of which the 27B model has ``layers_of_27b``.

    See ``models.gemma.scaled_as_27b``.
    """
    expected = keys["attention.key_length"]
    if keys["block_count"] == layers_of_27b:
        expected = keys["embedding_length"] // max(keys["attention.head_count"], 1)
    scalar = config.number("query_pre_attn_scalar")
    if scalar != expected:
        raise UnsupportedError(
            f"{config.where}: query_pre_attn_scalar is {shown(scalar)}, which GGUF cannot say of a"
            f" model of {keys['block_count']} layers",
            hint=f"Motet runs such models where it is {expected}",
        )


def plan(architecture: str, config: ConfigReader, keys: Keys) -> Plan:
    """What all of them have in common."""
    return Plan(
        architecture,
        keys["block_count"],
        keys,
        renamed=(BARE, SCORE),
        unused=UNUSED_BUFFERS,
        tied=tied(config, default=True),
        changes=NORMS,
    )


def _rope(config: ConfigReader) -> Keys:
    """Without the base that all published ones have, which llama.cpp's converter leaves out."""
    keys = rope(rope_of(config))
    if keys.get("rope.freq_base") == _ROPE_BASE:
        del keys["rope.freq_base"]
    return keys
