"""GLM 4, dense."""

from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import BARE, UNUSED_BUFFERS, attention, tied
from motet.huggingface.families.rotary import partial_rope, rope_of
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan


def glm4(config: ConfigReader, files: Directory) -> Plan:
    """The ``glm4`` architecture."""
    config.assume(head_dim=128, num_key_value_heads=2)
    keys = attention(config)
    keys |= partial_rope(config, rope_of(config), keys, default=0.5)
    config.only("hidden_act", "silu", "another activation")
    config.ignore("attention_bias")  # biases show in the tensors
    return Plan(
        "glm4",
        keys["block_count"],
        keys,
        renamed=(BARE,),
        unused=UNUSED_BUFFERS,
        tied=tied(config, default=False),
    )
