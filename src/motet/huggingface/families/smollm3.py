"""SmolLM3."""

from motet.errors import UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import attention
from motet.huggingface.families.llama import interleaved_plan
from motet.huggingface.families.rotary import rope, rope_of
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan

_PERIOD = 4


def smollm3(config: ConfigReader, files: Directory) -> Plan:
    """The ``smollm3`` architecture. Every fourth layer is not rotated; GGUF can say no other."""
    config.assume(rope_theta=2e6, num_key_value_heads=4)
    keys = attention(config) | rope(rope_of(config))
    n_layers = keys["block_count"]
    period = config.integer("no_rope_layer_interval", default=_PERIOD)
    usual = [int((i + 1) % _PERIOD != 0) for i in range(n_layers)]
    given = config.value("no_rope_layers", default=None)
    if given is None:
        given = [int((i + 1) % period != 0) for i in range(n_layers)] if period else []
    if given != usual:
        raise UnsupportedError(
            f"{config.where}: no_rope_layers is {shown(given)}",
            hint="Motet runs such models where every fourth layer is not rotated",
        )
    config.only("use_sliding_window", False, "layers that slide")
    config.ignore("sliding_window")
    return interleaved_plan("smollm3", config, keys)
