"""RWKV-6 (Finch), as its authors publish it for transformers (RWKV/v6-Finch-*-HF)."""

from functools import partial

from motet.errors import ModelFileError
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import layer_count
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from motet.huggingface.tensors import Change, Halved, rearranged

_CONTEXT = 1 << 20
"""Tokens: there is no bound; llama.cpp's converter writes this."""
_MIXED = "wkvrg"


def rwkv6(config: ConfigReader, files: Directory) -> Plan:
    """The ``rwkv6`` architecture."""
    layers, width = layer_count(config), config.integer("hidden_size")
    large = width == 4096  # as the authors' modeling_rwkv6.py has it
    rescale = config.integer("rescale_every", default=6)
    keys = {
        "context_length": _CONTEXT,
        "embedding_length": width,
        "block_count": layers,
        "attention.layer_norm_epsilon": config.number("layer_norm_epsilon", default=1e-5),
        "rescale_every_n_layers": rescale,
        "wkv.head_size": config.integer("head_size", default=64),
        "time_mix_extra_dim": config.integer("time_mix_extra_dim", default=64 if large else 32),
        "time_decay_extra_dim": config.integer(
            "time_decay_extra_dim", default=128 if large else 64
        ),
        "feed_forward_length": config.integer(
            "intermediate_size", default=int(width * 3.5) // 32 * 32
        ),
        "attention.head_count": 0,
    }
    _check_heads(config, width, keys["wkv.head_size"])
    config.only("head_size_divisor", 8, "another epsilon of the norm over heads")
    config.only("tie_word_embeddings", False, "a head that is the embedding")
    config.ignore("num_attention_heads", "model_version")  # the size of a head, in most files
    return Plan(
        "rwkv6",
        layers,
        keys,
        renamed=((r"(\.time_(?:maa|decay|faaaa)\w*)$", r"\1.weight"),),
        joins={"time_mix_lerp_fused.weight": [f"time_mix_lerp_{name}.weight" for name in _MIXED]},
        changes=_CHANGES | _rescaled(layers, rescale),
    )


def _check_heads(config: ConfigReader, width: int, head_size: int) -> None:
    heads_width = config.integer("attention_hidden_size", default=width)
    if heads_width != width or not head_size or width % head_size:
        raise ModelFileError(
            f"{config.where}: {width} channels, of which {heads_width} in time mixing, are not"
            f" heads of {head_size}"
        )


_TRANSPOSED = rearranged(lambda values: values.swapaxes(-1, -2))
_FLAT = rearranged(lambda values: values.reshape(values.shape[-1]))
_CHANGES: dict[str, Change] = {
    **{f"{name}.weight": _FLAT for name in ("time_mix_lerp_x", "time_mix_decay")},
    **{f"channel_mix_lerp_{name}.weight": _FLAT for name in "kr"},
    "time_mix_lerp_fused.weight": rearranged(
        lambda values: values.reshape(len(_MIXED), 1, 1, values.shape[-1])
    ),
    **{f"time_mix_{name}.weight": _TRANSPOSED for name in ("w1", "w2", "decay_w1", "decay_w2")},
}


def _rescaled(layers: int, every: int) -> dict[str, Change]:
    """What the authors' code does to weights before it runs: the residual is halved ever again."""
    return {
        f"blk.{i}.{name}.weight": partial(Halved, times=i // every)
        for i in range(every, layers if every else 0)
        for name in ("time_mix_output", "channel_mix_value")
    }
