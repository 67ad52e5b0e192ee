"""Ministral 3."""

from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import attention
from motet.huggingface.families.llama import interleaved_plan
from motet.huggingface.families.rotary import rope, rope_of
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan


def ministral3(config: ConfigReader, files: Directory) -> Plan:
    """The ``mistral3`` architecture."""
    keys = attention(config)
    rotary = rope_of(config)
    temperature = rotary.number("llama_4_scaling_beta", default=0.0)
    if temperature:
        keys["attention.temperature_scale"] = temperature
    rotary.only("mscale", 1.0, "a magnitude of YaRN that GGUF can't say")
    multiplier = rotary.number("mscale_all_dim", default=0.0)
    if multiplier:
        keys["rope.scaling.yarn_log_multiplier"] = multiplier
    keys |= rope(rotary)
    config.only("sliding_window", None, "layers that slide")
    return interleaved_plan("mistral3", config, keys)
