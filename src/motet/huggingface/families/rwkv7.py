"""RWKV-7 (Goose), as flash-linear-attention holds it for transformers (fla-hub/rwkv7-*)."""

from motet.errors import ModelFileError, UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import layer_count, tied
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from motet.huggingface.tensors import rearranged

_CONTEXT = 1 << 20
"""Tokens: there is no bound; llama.cpp's converter writes this."""
_MIXED = "rwkvag"
_RANKS = {
    "decay_lora_rank": ("decay_low_rank_dim", 0.5, 1.8),
    "iclr_lora_rank": ("a_low_rank_dim", 0.5, 1.8),
    "value_residual_mix_lora_rank": ("v_low_rank_dim", 0.5, 1.3),
    "gate_lora_rank": ("gate_low_rank_dim", 0.8, 0.6),
}
"""By GGUF's key: the name, and of what is taken where it is not given: width^a · b, as a multiple
of 32."""


def rwkv7(config: ConfigReader, files: Directory) -> Plan:
    """The ``rwkv7`` architecture."""
    layers, width = layer_count(config), config.integer("hidden_size")
    head_size = config.integer("head_dim", default=64)
    if not head_size or width % head_size:
        raise ModelFileError(f"{config.where}: {width} channels are not heads of {head_size}")
    config.only("num_heads", width // head_size, "heads of another size")
    keys = {
        "context_length": _CONTEXT,
        "embedding_length": width,
        "block_count": layers,
        "attention.layer_norm_epsilon": config.number("norm_eps", default=1e-5),
        "wkv.head_size": head_size,
        "feed_forward_length": _inner(config, width),
        "attention.head_count": 0,
    }
    for key, (name, power, factor) in _RANKS.items():
        usual = max(1, round(width**power * factor / 32)) * 32
        keys[f"attention.{key}"] = config.integer(name, default=usual)
    _require_the_usual(config, layers, width)
    first = "model.layers.0.attention."
    return Plan(
        "rwkv7",
        layers,
        keys,
        renamed=(
            (r"^model\.layers\.0\.attn\.v_lora\.", "unused."),  # some have it
            (r"\.attn\.", ".attention."),
            (r"\.attn_norm\.", ".attention_norm."),
            (r"\.ffn\.", ".feed_forward."),
            (r"\.ffn_norm\.", ".ln2."),
            (r"\.g_norm\.", ".ln_x."),
            (r"_lora\.lora\.0\.weight$", "1.weight"),
            (r"_lora\.lora\.2\.weight$", "2.weight"),
            (r"_lora\.lora\.2\.bias$", "0.weight"),
            (r"\.(k_k|k_a|r_k)$", r".\1.weight"),
            (r"(\.feed_forward\.x_k)$", r"\1.weight"),
            (r"^model\.layers\.(\d+)\.attention\.x_(\w)$", r"blk.\1.time_mix_lerp_\2.weight"),
        ),
        # llama.cpp wants these in the first layer too, which has no use for them.
        same={f"{first}v{i}.weight": (f"{first}a{i}.weight",) for i in range(3)},
        unused=(r"unused\..*",),
        tied=tied(config, default=False),
        joins={"time_mix_lerp_fused.weight": [f"time_mix_lerp_{name}.weight" for name in _MIXED]},
        changes={
            "time_mix_lerp_fused.weight": rearranged(
                lambda values: values.reshape(len(_MIXED), 1, 1, -1)
            ),
            "time_mix_r_k.weight": rearranged(lambda values: values.reshape(-1)),
        },
    )


def _inner(config: ConfigReader, width: int) -> int:
    """Channels of the channel mix."""
    ratio = config.number("hidden_ratio", default=4.0)
    usual = 32 * -(-int(width * ratio) // 32)
    return config.integer("intermediate_size", default=usual)


def _require_the_usual(config: ConfigReader, layers: int, width: int) -> None:
    config.only("hidden_act", "sqrelu", "another activation")
    config.only("norm_first", True, "no norm after the embedding")
    config.only("norm_bias", True, "norms without a bias")
    config.only("attn", None, "layers of attention")
    config.only("tie_word_embeddings", False, "a head that is the embedding")
    values = config.value("value_dim", default=width)
    if values not in (width, [width] * layers):
        raise UnsupportedError(
            f"{config.where}: value_dim is {shown(values)}",
            hint=f"Motet runs such models where values are as wide as the model, {width}",
        )
    # How fast to compute, and how long the texts were that it was trained on.
    config.ignore("attn_mode", "fuse_norm", "fuse_cross_entropy", "fuse_linear_cross_entropy")
    config.ignore("use_l2warp", "max_position_embeddings")
