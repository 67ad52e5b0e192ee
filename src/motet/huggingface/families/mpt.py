"""MPT."""

from motet.errors import UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import (
    HEADS,
    SCORE,
    UNUSED_BUFFERS,
    Keys,
    head_dim,
    sizes,
    tied,
)
from motet.huggingface.families.sentence import vectors
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan


def mpt(config: ConfigReader, files: Directory) -> Plan:
    """The ``mpt`` architecture."""
    keys = sizes(config)
    keys["feed_forward_length"] = 4 * keys["embedding_length"]
    keys["attention.head_count"] = config.integer(*HEADS)
    keys["attention.layer_norm_epsilon"] = config.number("layer_norm_epsilon", default=1e-5)
    keys |= _attention(config.part("attn_config"), head_dim(keys))
    config.only("expansion_ratio", 4, "another width of the feed-forward networks")
    config.only("logit_scale", None, "scaled logits")
    config.only("norm_type", "low_precision_layernorm", "another norm")
    # Biases show in the tensors; the embedding's fraction scales gradients; ALiBi takes the place
    # of learned positions.
    config.ignore("no_bias", "embedding_fraction", "learned_pos_emb")
    config.ignore("init_device", "init_config", "verbose", "tokenizer_name")
    return Plan(
        "mpt",
        keys["block_count"],
        keys | vectors(config, files),
        renamed=((r"^(blocks|wte|norm_f)\.", r"transformer.\1."), SCORE),
        unused=UNUSED_BUFFERS,
        tied=tied(config, default=True),
    )


def _attention(config: ConfigReader, head_dim: int) -> Keys:
    config.only("attn_type", "multihead_attention", "another attention")
    config.only("prefix_lm", False, "a prefix that sees both ways")
    config.only("qk_ln", False, "norms on queries and keys")
    config.only("attn_uses_sequence_id", False, "texts apart in one sequence")
    config.only("alibi", True, "learned positions")
    config.ignore("attn_impl", "is_encoder_decoder")
    scale = config.number("softmax_scale", default=head_dim**-0.5)
    if abs(scale - head_dim**-0.5) > 1e-9:
        raise UnsupportedError(f"{config.where}: softmax_scale is {shown(scale)}")
    keys: Keys = {"attention.max_alibi_bias": config.number("alibi_bias_max", default=8.0)}
    kv_heads = config.integer("kv_n_heads", default=None)
    if kv_heads is not None:
        keys["attention.head_count_kv"] = kv_heads
    clip = config.number("clip_qkv", default=0.0)
    if clip:
        keys["attention.clamp_kqv"] = clip
    config.refuse_unread()
    return keys
