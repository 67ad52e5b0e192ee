"""Nomic's BERT, with its own configuration and with transformers'."""

from motet.errors import UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.bert import RENAMED, UNUSED
from motet.huggingface.families.common import CONTEXT, encoder, head_dim
from motet.huggingface.families.rotary import rope, rope_of
from motet.huggingface.families.sentence import vectors
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan

_TRAINED = 2048
"""Tokens that it was trained for where its own configuration does not say."""
_SWIGLU = "swiglu", "silu"


def nomic_bert(config: ConfigReader, files: Directory) -> Plan:
    """The ``nomic-bert`` architecture. Mixtures of experts are refused."""
    config.assume(layer_norm_eps=config.values.get("layer_norm_epsilon", 1e-12))
    config.ignore("layer_norm_epsilon")
    keys = encoder(config)
    keys["context_length"] = _context(config)
    width = config.integer("head_dim", default=None)
    if width is not None:
        keys["attention.key_length"] = keys["attention.value_length"] = width
    config.assume(rotary_emb_base=1000.0)
    keys |= rope(rope_of(config, theta=("rotary_emb_base", "rope_theta")))
    activation = config.text("activation_function", "hidden_act", default="silu")
    if activation not in _SWIGLU:
        raise UnsupportedError(f"{config.where}: activation_function is {shown(activation)}")
    _refuse_others(config, head_dim(keys))
    return Plan(
        "nomic-bert",
        keys["block_count"],
        keys | vectors(config, files),
        renamed=RENAMED,
        unused=(*UNUSED, r"pooler\..*"),
    )


def _context(config: ConfigReader) -> int:
    """Tokens that it was trained for: up to these, no rotation is scaled."""
    config.ignore("rotary_scaling_factor")
    if config.has("max_position_embeddings"):
        config.ignore("n_positions", "max_trained_positions")
        return config.integer("max_position_embeddings")
    return min(config.integer(*CONTEXT), config.integer("max_trained_positions", default=_TRAINED))


def _refuse_others(config: ConfigReader, head_dim: int) -> None:
    config.only("causal", False, "attention in one direction")
    config.only("prenorm", False, "norms before each part")
    config.only("parallel_block", False, "attention and feed-forward side by side")
    config.only("use_rms_norm", False, "another norm")
    config.only("rotary_emb_fraction", 1.0, "a part of each head rotated")
    config.only("rotary_emb_interleaved", False, "pairs side by side")
    config.only("rotary_emb_scale_base", None, "xPos")
    config.only("scale_attn_weights", True, "scores that are not scaled")
    config.only("scale_attn_by_inverse_layer_idx", False, "scores scaled by the layer")
    for name in ("moe_every_n_layers", "num_experts"):
        config.only(name, 0, "a mixture of experts")
    config.ignore("moe_top_k", "moe_normalize_expert_weights", "expert_choice_router", "ffn_div")
    # Biases show in the tensors; the rest is how it was computed, or of heads for other tasks.
    config.ignore("qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias", "type_vocab_size")
    config.ignore("fused_bias_fc", "fused_dropout_add_ln", "use_xentropy", "dense_seq_output")
    config.ignore("pad_vocab_size_multiple", "parallel_block_tied_norm", "reorder_and_upcast_attn")
    config.ignore("summary_type", "summary_use_proj", "summary_activation")
    config.ignore("summary_proj_to_labels", "last_layer_subset", "activation_function")
