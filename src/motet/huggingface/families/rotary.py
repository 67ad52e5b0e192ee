"""Rotary embeddings: config.json's settings, in transformers 4's and 5's spelling, as GGUF's."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from motet.arrays import Float32
from motet.errors import ModelFileError, UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import CONTEXT, FULL, Keys, head_dim

_SCALED = "yarn", "llama3"


def rope_of(
    config: ConfigReader,
    kind: str = FULL,
    *,
    kinds: tuple[str, ...] = (FULL,),
    theta: tuple[str, ...] = ("rope_theta",),
) -> ConfigReader:
    """The rotary embedding's settings, under transformers 5's names, whichever way they stand.

    ``kind``: of layers, of the ``kinds`` that may have settings of their own. ``theta``: names of
    the base in transformers 4. Raises UnsupportedError for settings of another kind of layers,
    ModelFileError where the two spellings contradict each other.
    """
    now, before = config.part("rope_parameters"), config.part("rope_scaling")
    config.ignore(*theta, "original_max_position_embeddings")
    nested = any(isinstance(value, Mapping) for value in now.values.values())
    if nested:
        other = sorted(now.values.keys() - set(kinds))
        if other:
            raise UnsupportedError(
                f"{now.where}: {other[0]} is {shown(now.values[other[0]])}",
                hint=f"Motet knows settings of {' and '.join(kinds)}",
            )
        now = now.part(kind)
    if kind != FULL:
        # Where kinds of layers differ, transformers 4's scaling is of those that see everything.
        before = ConfigReader({}, before.where)
        now = now if nested else ConfigReader({}, now.where)
    values = _with_type(before.values)
    for name, value in _with_type(now.values).items():
        if values.setdefault(name, value) != value:
            raise ModelFileError(
                f"{now.where}: {name} is {shown(value)}, but rope_scaling says"
                f" {shown(values[name])}"
            )
    base = config.number(*theta, default=None)
    if base is not None:
        values.setdefault("rope_theta", base)
    if values.get("rope_type") in _SCALED:
        trained = config.integer("original_max_position_embeddings", *CONTEXT, default=None)
        values.setdefault("original_max_position_embeddings", trained)
    return ConfigReader(values, now.where)


def _with_type(values: Mapping[str, Any]) -> dict[str, Any]:
    named = {name: value for name, value in values.items() if value is not None}
    if "type" in named:
        named.setdefault("rope_type", named.pop("type"))
    return named


def rope(rope_config: ConfigReader, *, prefix: str = "rope") -> Keys:
    """A rotary embedding's keys. llama3's divisors are a tensor: see ``llama3_divisors``."""
    keys: Keys = {}
    theta = rope_config.number("rope_theta", default=None)
    if theta is not None:
        keys[f"{prefix}.freq_base"] = theta
    kind = rope_config.text("rope_type", default="default")
    if kind == "linear":
        keys[f"{prefix}.scaling.type"] = "linear"
        keys[f"{prefix}.scaling.factor"] = rope_config.number("factor")
    elif kind == "yarn":
        keys |= _yarn(rope_config, prefix)
    elif kind == "llama3":
        rope_config.ignore("factor", "low_freq_factor", "high_freq_factor")
        rope_config.ignore("original_max_position_embeddings")
    elif kind != "default":
        raise UnsupportedError(
            f"{rope_config.where}: rope_type is {shown(kind)}",
            hint="Motet knows default, linear, yarn and llama3",
        )
    rope_config.only("partial_rotary_factor", 1.0, "only a part of each head is rotated")
    rope_config.refuse_unread()
    return keys


def partial_rope(
    config: ConfigReader, rope_config: ConfigReader, keys: Keys, *, default: float
) -> Keys:
    """As ``rope``, of a model whose heads are rotated in part: ``default`` is which.

    ``keys``: those of its heads.
    """
    share = config.number("partial_rotary_factor", default=default)
    share = rope_config.number("partial_rotary_factor", default=share)
    rest = {k: v for k, v in rope_config.values.items() if k != "partial_rotary_factor"}
    dimension = int(head_dim(keys) * share)
    return rope(ConfigReader(rest, rope_config.where)) | {"rope.dimension_count": dimension}


def rope_base(rope_config: ConfigReader, key: str) -> Keys:
    """The base of layers whose embedding is not scaled, under a key of its own."""
    rope_config.number("rope_theta")  # which is not to be left out
    keys = rope(rope_config)
    base = keys.pop("rope.freq_base")
    if keys:
        raise UnsupportedError(f"{rope_config.where}: rope_type is not default, but other layers'")
    return {key: base}


def _yarn(rope_config: ConfigReader, prefix: str) -> Keys:
    rope_config.ignore("finetuned")  # whether the scaling was in place in training
    rope_config.only("truncate", True, "a ramp whose ends are not rounded to whole channels")
    keys: Keys = {
        f"{prefix}.scaling.type": "yarn",
        f"{prefix}.scaling.factor": rope_config.number("factor"),
        f"{prefix}.scaling.original_context_length": rope_config.integer(
            "original_max_position_embeddings"
        ),
    }
    for name, key in (
        ("extrapolation_factor", "yarn_ext_factor"),
        ("attention_factor", "yarn_attn_factor"),
        ("beta_fast", "yarn_beta_fast"),
        ("beta_slow", "yarn_beta_slow"),
    ):
        value = rope_config.number(name, default=None)
        if value is not None:
            keys[f"{prefix}.scaling.{key}"] = value
    return keys


def llama3_divisors(rope_config: ConfigReader, dimension: int) -> Float32 | None:
    """What llama3 scaling (Grattafiori et al. 2024, §3.4.1) divides frequencies by.

    float32 ``[dimension / 2]``; None for another scaling. Waves shorter than the trained context /
    high_freq_factor stay, those longer than it / low_freq_factor are stretched by the factor.
    """
    if rope_config.text("rope_type", default="default") != "llama3":
        return None
    base = rope_config.number("rope_theta", default=10000.0)
    factor = rope_config.number("factor", default=8.0)
    low = rope_config.number("low_freq_factor", default=1.0)
    high = rope_config.number("high_freq_factor", default=4.0)
    context = rope_config.integer("original_max_position_embeddings", default=8192)
    if not (factor > 0 and 0 < low < high and context and base > 1):
        raise ModelFileError(f"{rope_config.where}: llama3's factors make no sense")
    waves = 2 * np.pi * base ** (np.arange(0, dimension, 2) / dimension)
    smooth = np.clip((context / waves - low) / (high - low), 0.0, 1.0)
    divisors = 1 / ((1 - smooth) / factor + smooth)
    divisors[waves < context / high] = 1.0
    divisors[waves > context / low] = factor
    return divisors.astype(np.float32)
