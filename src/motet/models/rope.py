"""Rotary frequencies from a model's settings."""

import math

import numpy as np

from motet.errors import ModelFileError
from motet.kernels.rope import Rope
from motet.models.config import RopeConfig


def make_rope(config: RopeConfig, pairing: str, divisors: np.ndarray | None = None) -> Rope:
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


def _yarn_kept(config: RopeConfig) -> np.ndarray:
    """How far each frequency is kept, 1 to 0: "NTK-by-parts" (arXiv 2309.00071, §3.2).

    float64 ``[dimension / 2]``. The ends of the ramp are rounded outwards to whole channels, as
    transformers and llama.cpp have it.
    """

    def channel(rotations: float) -> float:
        turns = config.original_context / (rotations * 2 * math.pi)
        return config.dimension * math.log(turns) / (2 * math.log(config.base))

    low = max(math.floor(channel(config.beta_fast)), 0)
    high = min(math.ceil(channel(config.beta_slow)), config.dimension - 1)
    ramp = (np.arange(config.dimension // 2) - low) / max(high - low, 0.001)
    return 1 - np.clip(ramp, 0, 1)
