"""GPT-2."""

from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import HEADS, SCORE, UNUSED_BUFFERS, sizes, tied
from motet.huggingface.families.sentence import vectors
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from motet.huggingface.tensors import transposed

_MATRICES = "attn_qkv", "attn_output", "ffn_up", "ffn_down"


def gpt2(config: ConfigReader, files: Directory) -> Plan:
    """The ``gpt2`` architecture, whose matrices multiply from the other side."""
    config.assume(layer_norm_epsilon=1e-5, activation_function="gelu_new")
    keys = sizes(config)
    keys["feed_forward_length"] = config.integer("n_inner", default=4 * keys["embedding_length"])
    keys["attention.head_count"] = config.integer(*HEADS)
    keys["attention.layer_norm_epsilon"] = config.number("layer_norm_epsilon")
    config.only("activation_function", "gelu_new", "another activation")
    config.only("scale_attn_weights", True, "scores that are not scaled")
    config.only("scale_attn_by_inverse_layer_idx", False, "scores scaled by the layer")
    config.only("add_cross_attention", False, "attention to an encoder")
    config.ignore("reorder_and_upcast_attn", "n_ctx")  # more precision, the same arithmetic
    config.ignore("summary_type", "summary_use_proj", "summary_activation")
    config.ignore("summary_proj_to_labels")  # of a head for multiple choice
    return Plan(
        "gpt2",
        keys["block_count"],
        keys | vectors(config, files),
        renamed=((r"^(h|wte|wpe|ln_f)\.", r"transformer.\1."), SCORE),
        unused=UNUSED_BUFFERS,
        tied=tied(config, default=True),
        changes={f"{name}.weight": transposed for name in _MATRICES},
    )
