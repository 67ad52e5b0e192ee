"""gpt-oss."""

from motet.errors import UnsupportedError
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import (
    UNUSED_BUFFERS,
    Keys,
    attention,
    pattern,
    sliding_layers,
    tied,
)
from motet.huggingface.families.rotary import rope, rope_of
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from motet.huggingface.tensors import Change, Weights, computed
from motet.huggingface.turned import every, turned
from motet.weights.formats import TensorType

_PERIOD = 2
"""Of two layers the second sees everything."""


def gpt_oss(config: ConfigReader, files: Directory) -> Plan:
    """The ``gpt-oss`` architecture."""
    keys = attention(config) | _rope(config)
    keys["expert_count"] = config.integer("num_local_experts", "num_experts")
    keys["expert_used_count"] = config.integer("num_experts_per_tok", "experts_per_token")
    keys["expert_feed_forward_length"] = keys["feed_forward_length"]
    keys["attention.sliding_window"] = config.integer("sliding_window", default=128)
    slides = sliding_layers(config, keys["block_count"])
    if slides is not None:
        keys |= pattern(slides, _PERIOD)
    config.only("hidden_act", "silu", "another activation")
    config.only("swiglu_limit", 7.0, "another limit of what experts compute")
    config.only("swiglu_alpha", 1.702, "another activation")
    config.ignore("attention_bias")  # biases show in the tensors
    config.ignore("initial_context_length")  # the rotary embedding's settings have it too
    return Plan(
        "gpt-oss",
        keys["block_count"],
        keys,
        renamed=(
            (r"\.self_attn\.sinks$", ".self_attn.sinks.weight"),
            (r"\.experts\.down_proj_bias$", ".experts.down_proj.bias"),
        ),
        splits={
            "experts.gate_up_proj": {
                "experts.gate_proj.weight": _rows(0, 2),
                "experts.up_proj.weight": _rows(1, 2),
            },
            "experts.gate_up_proj_bias": {
                "experts.gate_proj.bias": computed(lambda values: values[:, 0::2]),
                "experts.up_proj.bias": computed(lambda values: values[:, 1::2]),
            },
            "experts.down_proj": {"experts.down_proj.weight": _rows(0, 1)},
        },
        unused=UNUSED_BUFFERS,
        tied=tied(config, default=False),
    )


def _rope(config: ConfigReader) -> Keys:
    """YaRN's ramp has to end between channels: that GGUF's key is the architecture's name."""
    config.value("rope_parameters", "rope_scaling")
    given = rope_of(config)
    rest = {name: value for name, value in given.values.items() if name != "truncate"}
    if rest.get("rope_type") == "yarn" and given.flag("truncate", default=True):
        raise UnsupportedError(
            f"{given.where}: truncate is not false: a ramp whose ends are rounded",
            hint="GGUF can't say that of such a model; its makers' have it false",
        )
    return rope(ConfigReader(rest, given.where))


def _rows(first: int, step: int) -> Change:
    """Some rows of each expert's matrix; of floats, which stand the other way round, columns."""

    def change(weights: Weights) -> Weights:
        part = every if weights.type is TensorType.MXFP4 else turned
        return part(first, step)(weights)

    return change
