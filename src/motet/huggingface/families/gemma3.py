"""Gemma 3: its text models, the text part of those that see, and EmbeddingGemma."""

from dataclasses import replace

from motet.errors import UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import (
    FULL,
    SLIDING,
    Keys,
    attention,
    pattern,
    sliding_layers,
)
from motet.huggingface.families.gemma import GELU, check_scale, plan
from motet.huggingface.families.rotary import rope, rope_base, rope_of
from motet.huggingface.families.sentence import dense_folders, pooling, vectors
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan

_KINDS = FULL, SLIDING
_IDENTITY = "torch.nn.modules.linear.Identity"
_TENSORS = "model.safetensors"


def gemma3(config: ConfigReader, files: Directory) -> Plan:
    """The text part of a Gemma 3 that sees pictures: its vision tower is left aside."""
    text = config.part("text_config")
    text.assume(architectures=config.value("architectures", default=None))
    text.assume(tie_word_embeddings=config.flag("tie_word_embeddings", default=True))
    text_plan = gemma3_text(text, files)
    text.refuse_unread()
    config.ignore("vision_config", "mm_tokens_per_image", "image_token_index")
    config.ignore("boi_token_index", "eoi_token_index", "image_token_id")
    config.ignore("boi_token_id", "eoi_token_id")
    return replace(
        text_plan,
        renamed=(
            (r"^(model\.)?language_model\.lm_head\.", "lm_head."),
            (r"^(model\.)?language_model\.(model\.)?", "model."),
            (r"^model\.(vision_tower|multi_modal_projector)\.", r"\1."),
            *text_plan.renamed,
        ),
        unused=(*text_plan.unused, r"(vision_tower|multi_modal_projector)\..*"),
    )


def gemma3_text(config: ConfigReader, files: Directory) -> Plan:
    """The ``gemma3`` architecture, or ``gemma-embedding`` where tokens see both ways."""
    config.assume(num_attention_heads=8, num_key_value_heads=4, head_dim=256, rms_norm_eps=1e-6)
    config.assume(query_pre_attn_scalar=256, max_position_embeddings=131072, sliding_window=4096)
    config.assume(rope_theta=1e6, rope_local_base_freq=1e4)
    keys = attention(config)
    keys |= rope(rope_of(config, FULL, kinds=_KINDS))
    local = rope_of(config, SLIDING, kinds=_KINDS, theta=("rope_local_base_freq",))
    keys |= rope_base(local, "rope.freq_base_swa")
    n_layers = keys["block_count"]
    both_ways = config.flag("use_bidirectional_attention", default=False)
    check_scale(config, keys, None if both_ways else 62)
    period = config.integer("sliding_window_pattern", default=6)
    slides = sliding_layers(config, n_layers)
    if slides is None:
        slides = [period > 0 and (i + 1) % period != 0 for i in range(n_layers)]
    if any(slides):
        keys["attention.sliding_window"] = config.integer("sliding_window")
        keys |= pattern(slides, 6)
    config.ignore("sliding_window")
    softcap = config.number("final_logit_softcapping", default=0.0)
    if softcap:
        keys["final_logit_softcapping"] = softcap
    config.only("attn_logit_softcapping", None, "capped scores")
    config.only("hidden_activation", GELU, "another activation")
    config.ignore("attention_bias", "cache_implementation")
    if both_ways:
        return _embedding(config, files, keys)
    return plan("gemma3", config, keys | vectors(config, files))


def _embedding(config: ConfigReader, files: Directory, keys: Keys) -> Plan:
    """A mean of the states goes through two dense modules, where they are there."""
    if "attention.sliding_window" not in keys:
        raise UnsupportedError(f"{config.where}: no layer slides, which GGUF cannot say of it")
    dense = dense_folders(files)
    if dense:
        if len(dense) != 2:
            raise UnsupportedError(
                f"{files.path}: has {len(dense)} dense modules, {shown(dense)}",
                hint="Motet runs such models with two of them, or none",
            )
        (into, inner), (again, out) = (_dense(files, path) for path in dense)
        width = keys["embedding_length"]
        if (into, out) != (width, width) or inner != again:
            raise UnsupportedError(
                f"{files.path}: its dense modules lead from {into} to {inner} and from {again} to"
                f" {out}",
                hint=f"Motet runs such models where they lead from {width} back to it",
            )
        keys |= {"dense_2_feat_in": into, "dense_2_feat_out": inner}
        keys |= {"dense_3_feat_in": again, "dense_3_feat_out": out}
    common = plan("gemma-embedding", config, keys | pooling(files, "Dense"))
    return replace(
        common,
        tied=None,
        renamed=(*common.renamed, (r"^(dense_[23])\.linear\.", r"\1.")),
        parts={f"{path}/{_TENSORS}": f"dense_{i}." for i, path in enumerate(dense, 2)},
    )


def _dense(files: Directory, path: str) -> tuple[int, int]:
    """Channels that go into a dense module, and those that come out."""
    name = f"{path}/config.json"
    config = ConfigReader(files.json(name), files.located(name))
    config.only("bias", False, "a dense module with a bias")
    config.only("activation_function", _IDENTITY, "a dense module with an activation")
    sizes = config.integer("in_features"), config.integer("out_features")
    config.refuse_unread()
    return sizes
