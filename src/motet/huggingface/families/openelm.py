"""OpenELM."""

from motet.errors import ModelFileError
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import UNUSED_BUFFERS, sizes
from motet.huggingface.families.sentence import vectors
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from motet.huggingface.tensors import part


def openelm(config: ConfigReader, files: Directory) -> Plan:
    """The ``openelm`` architecture, of which layers differ in their sizes."""
    keys = sizes(config)
    n_layers, head_dim = keys["block_count"], config.integer("head_dim")
    width, divisor = keys["embedding_length"], config.integer("ffn_dim_divisor")
    if not divisor:
        raise ModelFileError(f"{config.where}: ffn_dim_divisor is 0")
    multipliers = config.numbers("ffn_multipliers", n_layers)
    keys["feed_forward_length"] = [_rounded(factor * width, divisor) for factor in multipliers]
    keys["attention.head_count"] = config.integers("num_query_heads", n_layers)
    keys["attention.head_count_kv"] = config.integers("num_kv_heads", n_layers)
    keys["rope.freq_base"] = config.number("rope_freq_constant", default=10000.0)
    keys["rope.dimension_count"] = head_dim
    keys["attention.key_length"] = keys["attention.value_length"] = head_dim
    keys["attention.layer_norm_rms_epsilon"] = 1e-6  # in its code alone
    config.only("activation_fn_name", "swish", "another activation")
    config.only("ffn_with_glu", True, "feed-forward networks without a gate")
    config.only("normalization_layer_name", "rms_norm", "another norm")
    config.only("normalize_qk_projections", True, "no norms on queries and keys")
    config.only("share_input_output_layers", True, "an output head of its own")
    # What they lead to stands in the lists; the last is the size of a buffer.
    config.ignore("num_gqa_groups", "qkv_multipliers", "rope_max_length")
    return Plan(
        "openelm",
        n_layers,
        keys | vectors(config, files),
        unused=UNUSED_BUFFERS,
        renamed=((r"^transformer\.layers\.(\d+)\.ffn\.proj_1\.weight$", r"blk.\1.gate_up"),),
        splits={".gate_up": {".ffn_gate.weight": part(0, 2), ".ffn_up.weight": part(1, 2)}},
    )


def _rounded(width: float, divisor: int) -> int:
    """The multiple of ``divisor`` next to a width, or the next one where that is below 90 %."""
    multiple = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return multiple + divisor if multiple < 0.9 * width else multiple
