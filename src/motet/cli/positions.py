"""How a model file's attention knows positions, and what Self-Extend would make of them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from motet.errors import MotetError

if TYPE_CHECKING:
    from motet.models.config import Config
    from motet.weights.gguf import GGUFFile

TIMES = (2, 4, 8, 16)
"""Contexts that are shown, in trained lengths."""


def positions(file: "GGUFFile") -> dict[str, Any]:
    """Facts for ``motet show``: ``encoding``, and either ``auto`` or ``no_self_extend``.

    ``auto``: group and window that Self-Extend would choose at some lengths; ``no_self_extend``:
    why it means nothing to the model, or could not be told.
    """
    from motet.models.registry import FAMILIES, declared
    from motet.self_extend import AutoExtend, check_reach, require_positions

    if file.metadata.get("general.architecture") not in FAMILIES:
        encoding, no_self_extend = _told_by_the_file(file)
        return {"encoding": encoding, "no_self_extend": no_self_extend}
    try:
        family = declared(file, strict=False)
    except MotetError as error:
        return {"encoding": None, "no_self_extend": str(error)}
    config = family.config
    facts: dict[str, Any] = {"encoding": _named(config)}
    auto, trained = AutoExtend(), config.context_length
    try:
        require_positions(family.caches, config.positional)
        check_reach(auto, trained, trained)
    except MotetError as error:
        return facts | {"no_self_extend": str(error)}
    lengths = trained * np.array(TIMES, np.int64)
    groups = auto.groups_at(lengths - 1, trained)
    window = auto.window_of(trained)
    return facts | {
        "auto": [
            {"tokens": int(tokens), "group": int(group), "window": window}
            for tokens, group in zip(lengths, groups, strict=True)
        ]
    }


def _named(config: "Config") -> str:
    from motet.models.config import AttentionConfig

    if not isinstance(config, AttentionConfig):
        return config.positional
    rope, local = config.rope, config.sliding_rope
    text = f"{config.positional}, base {rope.base:.10g}"
    if rope.dimension < config.head_dim:
        text += f", {rope.dimension} of {config.head_dim} channels"
    if rope.scaling != "none":
        text += f", {rope.scaling} scaling by {rope.factor:.10g}"
    if local is not None:
        text += f"; in sliding layers base {local.base:.10g}"
    return text


def _told_by_the_file(file: "GGUFFile") -> tuple[str | None, str]:
    """Encoding, and why not to extend it, of architectures that Motet has no family for."""

    def own(name: str) -> Any:
        return file.metadata.get(f"{file.metadata.get('general.architecture')}.{name}")

    if "position_embd.weight" in file.tensors:
        return "learned, absolute", "each position is learned by itself: there are no distances"
    if own("attention.relative_buckets_count"):
        return "bias by distance in buckets", "the last bucket holds all far keys already"
    unknown = "Motet does not run this architecture"
    if own("attention.max_alibi_bias"):
        return "ALiBi, a bias by distance", unknown
    if own("rope.dimension_count") or own("rope.freq_base"):
        return "rotary", unknown
    return None, unknown
