"""The position biases of model families, by distance (key − query)."""

import math

import numpy as np

from motet.arrays import Float32, Int64
from motet.kernels.bias import PositionBias


def alibi(heads: int, most: float = 8.0) -> PositionBias:
    """−slope · distance, in both directions (Press et al. 2021, arXiv 2108.12409, §3).

    Slopes are 2^(−most · i / n), i from 1, for n = ``heads`` a power of 2. Otherwise those of the
    power of 2 below, then every other one of the power above, as the paper's code has it.
    """
    below = 1 << (heads.bit_length() - 1)
    slopes = [2 ** (-most * (i + 1) / below) for i in range(below)]
    slopes += [2 ** (-most * (2 * i + 1) / (2 * below)) for i in range(heads - below)]
    column = np.array(slopes, np.float32)[:, None]

    def of(distances: Int64) -> Float32:
        return column * -np.abs(distances).astype(np.float32)

    return PositionBias(heads, of)


def relative_buckets(weight: Float32, *, both: bool, furthest: int = 128) -> PositionBias:
    """T5's bias (Raffel et al. 2020, arXiv 1910.10683, §2.1): a learned number a bucket and head.

    ``weight`` ``[buckets, heads]``. Distances up to half the buckets have one each, farther ones
    share them logarithmically up to ``furthest``, beyond which all are one. ``both``: half of the
    buckets are for keys after the query; else these, which are never seen, count as distance 0.
    """
    buckets, heads = weight.shape
    assert buckets // (4 if both else 2) < furthest, "no buckets are shared"

    def of(distances: Int64) -> Float32:
        offset: Int64 = np.zeros_like(distances)
        away, count = -distances, buckets
        if both:
            count //= 2
            offset = np.where(distances > 0, count, 0)
            away = np.abs(distances)
        away = np.maximum(away, 0)
        exact = count // 2
        # In float32, as the models were trained: a distance at a bucket's edge may fall elsewhere.
        far = np.maximum(away, 1).astype(np.float32) / np.float32(exact)
        steps = np.log(far) / np.float32(math.log(furthest / exact)) * np.float32(count - exact)
        logarithmic = np.minimum(exact + steps.astype(np.int64), count - 1)
        bucket: Int64 = np.where(away < exact, away, logarithmic)
        return np.ascontiguousarray(np.transpose(weight[offset + bucket]))

    return PositionBias(heads, of)
