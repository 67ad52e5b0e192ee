"""Gemma 4: its text models, and the text part of those that see and hear."""

from dataclasses import replace
from typing import Any

import numpy as np

from motet.arrays import Float32
from motet.errors import UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import (
    BARE,
    EXPERTS_DOWN,
    FULL,
    SLIDING,
    UNUSED_BUFFERS,
    Keys,
    attention,
    sliding_layers,
    tied,
)
from motet.huggingface.families.gemma import GELU
from motet.huggingface.families.rotary import rope_base, rope_of
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from motet.huggingface.tensors import constant

_KINDS = FULL, SLIDING
_HEAD_DIM, _KV_HEADS = "head_dim", "num_key_value_heads"
_PARTS = r"(vision_tower|audio_tower|embed_vision|embed_audio)"
"""Of a checkpoint: what pictures and sounds go through."""
_NEVER = 1e30
"""What frequencies of channels that are not rotated are divided by, in llama.cpp's files."""
_DEFAULTS: dict[str, Any] = {
    "num_hidden_layers": 30,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_attention_heads": 8,
    _KV_HEADS: 4,
    _HEAD_DIM: 256,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {
        FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
        SLIDING: {"rope_type": "default", "rope_theta": 1e4},
    },
}
"""What keys mean that transformers leaves out of a file, as their values are these."""


def gemma4(config: ConfigReader, files: Directory) -> Plan:
    """The text part of a Gemma 4 that sees and hears: its towers are left aside."""
    return _text_part(config, gemma4_text, files)


def gemma4_unified(config: ConfigReader, files: Directory) -> Plan:
    """The same of one that has no towers, but for what leads into the text part."""
    return _text_part(config, gemma4_unified_text, files)


def gemma4_text(config: ConfigReader, files: Directory) -> Plan:
    """The ``gemma4`` architecture."""
    config.assume(max_position_embeddings=131072, sliding_window=512)
    config.assume(hidden_size_per_layer_input=256, vocab_size_per_layer_input=262144)
    return _plan(config)


def gemma4_unified_text(config: ConfigReader, files: Directory) -> Plan:
    """The same, without per-layer embeddings and experts."""
    config.assume(max_position_embeddings=262144, sliding_window=1024)
    return _plan(config)


def _text_part(config: ConfigReader, family: Any, files: Directory) -> Plan:
    text = config.part("text_config")
    text.assume(architectures=config.value("architectures", default=None))
    text.assume(tie_word_embeddings=config.flag("tie_word_embeddings", default=True))
    plan = family(text, files)
    text.refuse_unread()
    config.ignore("vision_config", "audio_config", "vision_soft_tokens_per_image")
    for kind in ("image", "video", "audio", "boi", "eoi", "boa", "eoa"):
        config.ignore(f"{kind}_token_id", f"{kind}_token_index")
    return replace(
        plan,
        renamed=(
            (r"^(model\.)?language_model\.(model\.)?", "model."),
            (rf"^model\.{_PARTS}\.", r"\1."),
            *plan.renamed,
        ),
        unused=(*plan.unused, rf"{_PARTS}\..*"),
    )


def _plan(config: ConfigReader) -> Plan:
    config.assume(**_DEFAULTS, vocab_size=262144)
    keys = attention(config)
    n_layers = keys["block_count"]
    slides = sliding_layers(config, n_layers) or [(i + 1) % 6 != 0 for i in range(n_layers)]
    slides[-1] = False  # as transformers has it, whatever the file says
    keys |= _heads(config, keys, slides) | _shared(config, keys) | _experts(config)
    keys["attention.sliding_window"] = config.integer("sliding_window")
    keys["attention.sliding_window_pattern"] = slides
    softcap = config.number("final_logit_softcapping", default=0.0)
    if softcap:
        keys["final_logit_softcapping"] = softcap
    config.only("hidden_activation", GELU, "another activation")
    config.only("attention_bias", False, "biases of attention")
    # "vision": of a picture's tokens, which do not come up here.
    config.only("use_bidirectional_attention", "vision", "attention in both directions")
    full = rope_of(config, FULL, kinds=_KINDS)
    divisors = _divisors(full, keys["attention.key_length"])
    keys["rope.freq_base"] = full.number("rope_theta")
    full.refuse_unread()
    keys |= rope_base(rope_of(config, SLIDING, kinds=_KINDS), "rope.freq_base_swa")
    unused: list[str] = [*UNUSED_BUFFERS]
    if config.flag("attention_k_eq_v", default=False):
        both = "|".join(str(i) for i, each in enumerate(slides) if not each)
        unused.append(rf"model\.layers\.({both})\.self_attn\.v_proj\..*")
    return Plan(
        "gemma4",
        n_layers,
        keys,
        renamed=(
            BARE,
            EXPERTS_DOWN,
            (r"(\.experts\.gate_up_proj|\.layer_scalar)$", r"\1.weight"),
            (r"\.router\.scale$", ".router.proj.scale"),
            (r"\.router\.per_expert_scale$", ".experts.down_proj.scale"),
        ),
        unused=unused,
        tied=tied(config, default=True),
        added={"rope_freqs.weight": constant(divisors)},
    )


def _heads(config: ConfigReader, keys: Keys, slides: list[bool]) -> Keys:
    """Of both kinds of layers."""
    full, swa = _full_layers(config, slides), config.integer("head_dim")
    size = full.get(_HEAD_DIM, swa)
    heads: Keys = {
        "attention.key_length": size,
        "attention.value_length": size,
        "attention.key_length_swa": swa,
        "attention.value_length_swa": swa,
        "rope.dimension_count": size,
        "rope.dimension_count_swa": swa,
    }
    if _KV_HEADS in full:
        counts = full[_KV_HEADS], keys["attention.head_count_kv"]
        heads["attention.head_count_kv"] = [counts[each] for each in slides]
    return heads


def _full_layers(config: ConfigReader, slides: list[bool]) -> dict[str, int]:
    """What layers that see everything have otherwise than those that slide."""
    config.ignore("global_head_dim", "num_global_key_value_heads")
    by_layer = config.value("per_layer_config", default=None)
    if by_layer is None:
        found = {_HEAD_DIM: config.integer("global_head_dim", default=512)}
        kv_heads = config.integer("num_global_key_value_heads", default=None)
        if kv_heads is not None and config.flag("attention_k_eq_v", default=False):
            found[_KV_HEADS] = kv_heads
        return found
    of_layers = config.part("per_layer_config")
    full = [str(i) for i, each in enumerate(slides) if not each]
    parts = [of_layers.part(layer) for layer in full]
    one = parts[0].values
    if of_layers.values.keys() != set(full) or any(part.values != one for part in parts):
        raise UnsupportedError(
            f"{config.where}: per_layer_config is {shown(by_layer)}",
            hint="Motet knows settings that all layers have which see everything, and no others",
        )
    found = {name: parts[0].integer(name) for name in (_HEAD_DIM, _KV_HEADS) if name in one}
    parts[0].refuse_unread()
    return found


def _shared(config: ConfigReader, keys: Keys) -> Keys:
    """Layers that read others' keys and values, and what layers are given of each token."""
    n_layers, width = keys["block_count"], keys["feed_forward_length"]
    sharing = config.integer("num_kv_shared_layers", default=0)
    given = config.integer("hidden_size_per_layer_input", default=0)
    shared: Keys = {
        "attention.shared_kv_layers": sharing,
        "embedding_length_per_layer_input": given,
    }
    if config.flag("use_double_wide_mlp", default=False):
        own = n_layers - sharing
        shared["feed_forward_length"] = [width * (1 + (i >= own)) for i in range(n_layers)]
    rows, vocabulary = (
        config.value("vocab_size_per_layer_input", default=None),
        config.integer("vocab_size"),
    )
    if given and rows != vocabulary:
        raise UnsupportedError(
            f"{config.where}: vocab_size_per_layer_input is {shown(rows)}",
            hint=f"Motet runs such models where it is vocab_size, {vocabulary}",
        )
    return shared


def _experts(config: ConfigReader) -> Keys:
    width = "moe_intermediate_size", "expert_intermediate_size"
    config.ignore("num_experts", "top_k_experts", *width)
    if not config.flag("enable_moe_block", default=False):
        return {}
    return {
        "expert_count": config.integer("num_experts"),
        "expert_used_count": config.integer("top_k_experts"),
        "expert_feed_forward_length": config.integer(*width),
    }


def _divisors(rope_config: ConfigReader, head_dim: int) -> Float32:
    """Of each pair of channels; those beyond a share of the head are not rotated."""
    rope_config.only("rope_type", "proportional", "another rotary embedding")
    rope_config.only("factor", 1.0, "a stretched context")
    share = rope_config.number("partial_rotary_factor", default=1.0)
    if not 0 <= share <= 1:
        raise rope_config.wrong(("partial_rotary_factor",), share, "a share")
    divisors = np.full(head_dim // 2, _NEVER, np.float32)
    divisors[: int(share * head_dim // 2)] = 1.0
    return divisors
