"""OLMo 2 and 3."""

from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import (
    BARE,
    FULL,
    SLIDING,
    UNUSED_BUFFERS,
    Keys,
    all_full,
    attention,
    sliding_layers,
    tied,
)
from motet.huggingface.families.rotary import rope, rope_base, rope_of
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan

_KINDS = FULL, SLIDING
_PERIOD = 4
"""Of so many layers the last one sees everything, where the file does not say."""


def olmo2(config: ConfigReader, files: Directory) -> Plan:
    """The ``olmo2`` architecture."""
    keys = attention(config) | rope(rope_of(config))
    all_full(config, keys["block_count"])
    return _plan(config, keys)


def olmo3(config: ConfigReader, files: Directory) -> Plan:
    """The same with layers that slide, which have a rotary embedding of their own."""
    keys = attention(config) | rope(rope_of(config, FULL, kinds=_KINDS))
    keys |= rope_base(rope_of(config, SLIDING, kinds=_KINDS), "rope.freq_base_swa")
    n_layers = keys["block_count"]
    slides = sliding_layers(config, n_layers)
    if slides is None:
        slides = [(i + 1) % _PERIOD != 0 for i in range(n_layers)]
    if any(slides):
        keys["attention.sliding_window"] = config.integer("sliding_window", default=4096)
        keys["attention.sliding_window_pattern"] = slides
    config.ignore("sliding_window")
    return _plan(config, keys)


def _plan(config: ConfigReader, keys: Keys) -> Plan:
    config.only("hidden_act", "silu", "another activation")
    config.only("attention_bias", False, "biases of attention")
    config.only("clip_qkv", None, "clamped queries, keys and values")
    return Plan(
        "olmo2",
        keys["block_count"],
        keys,
        renamed=(BARE,),
        unused=UNUSED_BUFFERS,
        tied=tied(config, default=False),
    )
