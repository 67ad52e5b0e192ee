"""StarCoder 2."""

from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import (
    BARE,
    SCORE,
    UNUSED_BUFFERS,
    attention,
    tied,
)
from motet.huggingface.families.rotary import rope, rope_of
from motet.huggingface.families.sentence import vectors
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan


def starcoder2(config: ConfigReader, files: Directory) -> Plan:
    """The ``starcoder2`` architecture."""
    config.assume(norm_epsilon=1e-5, num_key_value_heads=2)
    keys = attention(config, eps=("norm_epsilon",))
    keys["attention.layer_norm_epsilon"] = keys.pop("attention.layer_norm_rms_epsilon")
    keys |= rope(rope_of(config))
    window = config.integer("sliding_window", default=0)
    if window:
        keys["attention.sliding_window"] = window
    config.only("hidden_act", "gelu_pytorch_tanh", "another activation")
    config.only("mlp_type", "default", "another feed-forward network")
    config.only("norm_type", "layer_norm", "another norm")
    config.ignore("use_bias")  # biases show in the tensors
    return Plan(
        "starcoder2",
        keys["block_count"],
        keys | vectors(config, files),
        renamed=(BARE, SCORE),
        unused=UNUSED_BUFFERS,
        tied=tied(config, default=True),
    )
