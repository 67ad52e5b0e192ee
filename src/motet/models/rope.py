"""Rotary embedding: its settings, from the file's keys, and its frequencies, from the settings."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from motet.arrays import Float32, Int32
from motet.errors import ModelFileError, UnsupportedError, shown
from motet.kernels.rope import Rope
from motet.models.keys import LEAST, MAX_CONTEXT, MOST, Keys


@dataclass(frozen=True)
class RopeConfig:
    """Rotary embedding of some layers: base, rotated channels, and how they are stretched."""

    base: float
    dimension: int
    """Channels of a head that are rotated."""
    scaling: str = "none"
    """"none", "linear" (Chen et al. 2023, arXiv 2306.15595) or "yarn" (Peng et al. 2023,
    arXiv 2309.00071). llama3 scaling comes as a tensor of divisors, ``rope_freqs.weight``."""
    factor: float = 1.0
    """By how much the trained length is stretched."""
    original_context: int = 0
    """Trained length before stretching, in tokens (yarn)."""
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    """Rotations over the original context above which a channel keeps its frequency, and below
    which it is wholly interpolated (yarn)."""
    magnitude: float = 1.0
    """Cosine and sine are multiplied by this (yarn's attention factor)."""
    whole_channels: bool = True
    """Whether the ends of yarn's ramp are rounded outwards to whole channels."""


def read_rope(keys: Keys, head_dim: int, default_base: float | None) -> RopeConfig:
    """The ``rope.*`` keys. An absent type with a factor means linear, as in llama.cpp."""
    dimension = keys.integer("rope.dimension_count", 2, head_dim + head_dim % 2, head_dim)
    if dimension % 2 or dimension > head_dim:
        raise keys.wrong("rope.dimension_count", dimension, f"an even number up to {head_dim}")
    base = keys.positive("rope.freq_base", default_base)
    if base <= 1.0:
        raise keys.wrong("rope.freq_base", base, "a number above 1")
    # The name that files of 2023 have for the factor.
    factor_key = "rope.scaling.factor" if keys.has("rope.scaling.factor") else "rope.scale_linear"
    factor = keys.positive(factor_key, 0.0, or_zero=True) or 1.0  # 0 is llama.cpp's "not scaled"
    # Whether the scaling was in place in training: a record that changes nothing here.
    keys.take("rope.scaling.finetuned", False)
    scaling = keys.text("rope.scaling.type", "linear" if factor != 1.0 else "none")
    extra = keys.positive("rope.scaling.attn_factor", 1.0)
    if scaling == "none" or (scaling == "linear" and factor == 1.0):
        # Of no scaling; a factor is ignored too, as llama.cpp does.
        keys.take("rope.scaling.original_context_length", 0)
        return RopeConfig(base, dimension, magnitude=extra)
    if scaling == "linear":
        keys.take("rope.scaling.original_context_length", 0)  # linear scaling does not use it
        return RopeConfig(base, dimension, "linear", factor, magnitude=extra)
    if scaling == "yarn":
        return _read_yarn(keys, base, dimension, factor, extra)
    raise UnsupportedError(
        f"{keys.key('rope.scaling.type')} is {shown(scaling)}",
        hint="Motet knows none, linear and yarn",
    )


def _read_yarn(keys: Keys, base: float, dimension: int, factor: float, extra: float) -> RopeConfig:
    original = keys.integer("rope.scaling.original_context_length", 1, MAX_CONTEXT)
    beta_fast = keys.positive("rope.scaling.yarn_beta_fast", 32.0)
    beta_slow = keys.positive("rope.scaling.yarn_beta_slow", 1.0)
    if beta_fast <= beta_slow:
        raise keys.wrong(
            "rope.scaling.yarn_beta_fast",
            beta_fast,
            f"a number above yarn_beta_slow, {beta_slow:g}",
        )
    keys.only("rope.scaling.yarn_ext_factor", 1.0, "interpolation that YaRN does not describe")
    # 0 or absent: the paper's magnitude; 1: none. llama.cpp and transformers agree on the ratio.
    log_multiplier = keys.positive("rope.scaling.yarn_log_multiplier", 0.0, or_zero=True)
    magnitude = _yarn_magnitude(factor, 1.0) / _yarn_magnitude(factor, log_multiplier)
    if keys.has("rope.scaling.yarn_attn_factor"):
        # The converter writes the whole magnitude here and llama.cpp its multiplier: which of them
        # it is cannot be seen, and makes no difference only where both come to the same.
        given = keys.positive("rope.scaling.yarn_attn_factor")
        if not math.isclose(given, magnitude, rel_tol=1e-5):
            raise UnsupportedError(
                f"{keys.key('rope.scaling.yarn_attn_factor')} is {given:g}, and programs disagree "
                "on what it multiplies",
                hint=f"without the key the magnitude is {magnitude:g}",
            )
    magnitude *= extra
    if not LEAST <= magnitude <= MOST:
        raise ModelFileError(
            f"{keys.key('rope.scaling')} makes yarn's magnitude {magnitude:g}, beyond float32"
        )
    return RopeConfig(base, dimension, "yarn", factor, original, beta_fast, beta_slow, magnitude)


def _yarn_magnitude(factor: float, multiplier: float) -> float:
    """YaRN's attention factor, 0.1 · ln(factor) + 1 (arXiv 2309.00071, eq. 22)."""
    return 0.1 * multiplier * math.log(factor) + 1.0 if factor > 1.0 else 1.0


def make_rope(config: RopeConfig, pairing: str, divisors: Float32 | None = None) -> Rope:
    """The rotation that ``config`` describes.

    ``divisors``: ``rope_freqs.weight``, float32 ``[dimension / 2]``, by which frequencies are
    divided; this is how GGUF carries llama3 scaling. Raises ModelFileError if one is not positive.
    """
    half = config.dimension // 2
    inv_freq = config.base ** (-np.arange(half, dtype=np.float64) / half)
    if divisors is not None:
        if not (np.isfinite(divisors).all() and (divisors > 0).all()):
            raise ModelFileError("rope_freqs.weight has a divisor that is not a positive number")
        inv_freq /= divisors
    if config.scaling == "linear":
        inv_freq /= config.factor
    elif config.scaling == "yarn":
        kept = _yarn_kept(config)
        inv_freq *= kept + (1 - kept) / config.factor
    return Rope(inv_freq, pairing, config.magnitude)


def rising(scale: float, length: int) -> Callable[[Int32], Float32]:
    """From positions ``[T]`` to 1 + ``scale`` · ln(1 + ⌊position ÷ ``length``⌋), float32 alike."""

    def at(positions: Int32) -> Float32:
        lengths = np.floor_divide(positions, length).astype(np.float64)
        return (1 + scale * np.log1p(lengths)).astype(np.float32)

    return at


def _yarn_kept(config: RopeConfig) -> npt.NDArray[np.float64]:
    """How far each frequency is kept, 1 to 0: "NTK-by-parts" (arXiv 2309.00071, §3.2).

    float64 ``[dimension / 2]``. The ends of the ramp are rounded outwards to whole channels, as
    transformers and llama.cpp have it, unless the architecture's are not.
    """

    def channel(rotations: float) -> float:
        turns = config.original_context / (rotations * 2 * math.pi)
        return config.dimension * math.log(turns) / (2 * math.log(config.base))

    low, high = channel(config.beta_fast), channel(config.beta_slow)
    if config.whole_channels:
        low, high = math.floor(low), math.ceil(high)
    low, high = min(max(low, 0), config.dimension), min(high, config.dimension - 1)
    ramp = (np.arange(config.dimension // 2, dtype=np.float64) - low) / max(high - low, 0.001)
    return 1 - np.clip(ramp, 0, 1)
