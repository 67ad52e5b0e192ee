"""GLM 4, dense and with experts."""

from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import (
    BARE,
    EXPERTS_DOWN,
    EXPERTS_IN_ONE,
    UNUSED_BUFFERS,
    Keys,
    attention,
    tied,
)
from motet.huggingface.families.deepseek import SIGMOID, drafts_of, experts_of, groups_of
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


def glm4_moe(config: ConfigReader, files: Directory) -> Plan:
    """The ``glm4moe`` architecture. Layers that draft tokens are not run."""
    config.assume(num_key_value_heads=8)
    keys: Keys = attention(config) | {"expert_gating_func": SIGMOID}
    keys |= partial_rope(config, rope_of(config), keys, default=0.5)
    keys |= experts_of(config) | groups_of(config, grouped=True)
    keys["nextn_predict_layers"] = 0
    if config.flag("norm_topk_prob", default=True):
        keys["expert_weights_norm"] = True
    config.only("hidden_act", "silu", "another activation")
    config.ignore("attention_bias", "use_qk_norm")  # they show in the tensors
    return Plan(
        "glm4moe",
        keys["block_count"],
        keys,
        renamed=(
            BARE,
            EXPERTS_DOWN,
            (r"\.e_score_correction_bias$", ".e_score_correction.bias"),
        ),
        unused=(*UNUSED_BUFFERS, *drafts_of(config, keys["block_count"])),
        tied=tied(config, default=False),
        splits=EXPERTS_IN_ONE,
    )
