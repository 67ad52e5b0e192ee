"""Granite, dense."""

from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import Keys, attention, head_dim
from motet.huggingface.families.llama import interleaved_plan
from motet.huggingface.families.rotary import rope, rope_of
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan


def granite(config: ConfigReader, files: Directory) -> Plan:
    """The ``granite`` architecture."""
    keys = attention(config) | rope(rope_of(config)) | scales(config)
    keys["rope.dimension_count"] = head_dim(keys)
    keys["vocab_size"] = config.integer("vocab_size")
    return interleaved_plan("granite", config, keys)


def scales(config: ConfigReader) -> Keys:
    """What is multiplied, and the logits are divided, by."""
    return {
        "attention.scale": config.number("attention_multiplier", default=1.0),
        "embedding_scale": config.number("embedding_multiplier", default=1.0),
        "residual_scale": config.number("residual_multiplier", default=1.0),
        "logit_scale": config.number("logits_scaling", default=1.0),
    }
