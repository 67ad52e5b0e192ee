"""Quantising in NumPy: the definition, byte for byte, of what the native kernels do.

Every operation is a float32 one, rounded by itself, and sums go value by value: so the bytes are
the same on every instruction set and here. Arrays are ``[values of a block, blocks]``.
"""

import numpy as np

from motet.arrays import Array, Bool, Float32, Int32, Int64, UInt8
from motet.kernels.quantizing import (
    FLOATS,
    ROUNDED,
    SUPER_BLOCKS,
    TERNARY,
    check_quantized,
    error_weights,
    refuse_value,
    refused_bits,
)
from motet.kernels.reference_blocks import (
    block_bytes,
    halves,
    joined,
    nibbles,
    super_bytes,
    ternary_bytes,
)
from motet.kernels.reference_search import (
    VANISHING,
    Ends,
    Groups,
    Ranges,
    Table,
    Whole,
    as_half,
    fit_line,
    fit_scale,
    fit_super_line,
    fit_super_scale,
    inverse_or_zero,
)
from motet.weights.formats import TensorType


class QuantizeReference:
    """``Kernels.quantize``."""

    def quantize(
        self, values: Float32, type: TensorType, importance: Float32 | None = None
    ) -> UInt8:
        width = check_quantized(type, values.shape[1], importance)
        values = np.ascontiguousarray(values)
        refused = refused_bits(type)
        if refused is not None:
            bits = values.view(np.int32) & 0x7FFFFFFF
            wrong = (bits >= refused[0]) & (bits <= refused[1])
            if wrong.any():
                refuse_value(values, int(np.argmax(wrong)), type)
        weights = error_weights(importance, type)
        with np.errstate(all="ignore"):
            if not values.size:
                raw = np.empty(0, np.uint8)
            elif type in FLOATS:
                raw = _words(values, type)
            elif weights is None and type in ROUNDED:
                raw = _rounded(_by_value(values, type.block), type)
            else:
                raw = _searched(values, type, weights)
        return raw.reshape(len(values), width)


def _words(values: Float32, type: TensorType) -> UInt8:
    if type == TensorType.F32:
        return values.view(np.uint8)
    if type == TensorType.BF16:
        return rounded_to_bf16(values).view(np.uint8)
    half = values.astype(np.float16).view(np.uint16)
    half = np.where(np.isnan(values), half & 0x8000 | 0x7E00, half)
    return half.astype(np.uint16).view(np.uint8)


def rounded_to_bf16(x: Float32) -> Array:
    """The nearest BF16 of each number, ties to even, as its bits. NaN stays NaN."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    rounded = np.where(np.isnan(x), bits | 0x400000, bits + 0x7FFF + ((bits >> 16) & 1))
    return (rounded >> 16).astype(np.uint16)


def _by_value(values: Float32, block: int) -> Float32:
    blocks: Float32 = values.reshape(-1, block)
    return np.ascontiguousarray(np.transpose(blocks))


def _rounded(x: Float32, type: TensorType) -> UInt8:
    """As GGML's reference rounds blocks whose scale follows from their range."""
    if type == TensorType.Q8_0:
        q, d = _bytes(x)
        return joined(halves(d), q)
    if type == TensorType.MXFP4:
        q, e = _fp4(x)
        return joined(e[None], nibbles(q))
    if type in TERNARY:
        return ternary_bytes(type, *_ternary(x))
    if type in (TensorType.Q4_0, TensorType.Q5_0):
        q, d = _symmetric(x, 4 if type == TensorType.Q4_0 else 5)
        return block_bytes(type, q, d)
    return block_bytes(type, *_affine(x, 4 if type == TensorType.Q4_1 else 5))


_GRIDS = {
    TensorType.Q4_0: Whole(-8, 7),
    TensorType.Q5_0: Whole(-16, 15),
    TensorType.Q3_K: Whole(-4, 3),
    TensorType.Q6_K: Whole(-32, 31),
    TensorType.IQ4_NL: Table(),
    TensorType.IQ4_XS: Table(),
    TensorType.Q4_1: Whole(0, 15),
    TensorType.Q5_1: Whole(0, 31),
    TensorType.Q2_K: Whole(0, 3),
    TensorType.Q4_K: Whole(0, 15),
    TensorType.Q5_K: Whole(0, 31),
}
_SCALES = {
    TensorType.Q3_K: Whole(-32, 31),
    TensorType.Q6_K: Whole(-128, 127),
    TensorType.IQ4_XS: Whole(-32, 31),
    TensorType.Q2_K: Whole(0, 15),
    TensorType.Q4_K: Whole(0, 63),
    TensorType.Q5_K: Whole(0, 63),
}
_ENDS = {
    TensorType.Q4_0: Ends(-9.5, -6.5, 6.5, 8.5, 0.25),
    TensorType.Q5_0: Ends(-17.5, -14, 14, 16.5, 0.25),
    TensorType.Q3_K: Ends(-5.25, -2.75, 2.5, 4.25, 0.25),
    TensorType.Q6_K: Ends(-34, -29.5, 29.5, 33, 0.25),
    TensorType.IQ4_NL: Ends(-158, -102, 84, 132, 4),
    TensorType.IQ4_XS: Ends(-158, -102, 84, 132, 4),
}
_RANGES = Ranges(-2, 1.5, 0.5, 0.375, 0.375)
_Q2_RANGES = Ranges(-1, 1.5, 0.5, 0.5625, 0.375)


def _searched(values: Float32, type: TensorType, weights: Float32 | None) -> UInt8:
    """What is tried stands in ``native/quantize_search.hpp`` too."""
    size = 16 if type in (TensorType.Q2_K, TensorType.Q3_K, TensorType.Q6_K) else 32
    x = _by_value(values, size)
    x = np.where(np.abs(x) < VANISHING, 0.0, x)
    weight = np.ones_like(x)
    if weights is not None:
        weight = np.tile(_by_value(weights, size), (1, len(values)))
    group = Groups(x, weight, type.block // size)
    grid = _GRIDS[type]
    ends = _ENDS.get(type)
    if ends is not None:
        a = fit_scale(group, grid, ends)
        if type not in SUPER_BLOCKS:
            d = as_half(a)
            return block_bytes(type, grid.code(x * inverse_or_zero(d)), d)
        fitted = fit_super_scale(group, grid, _SCALES[type], a)
        q = grid.code(x * inverse_or_zero(fitted.d * fitted.s))
        return super_bytes(type, q, fitted.d, None, fitted.s, None)
    assert isinstance(grid, Whole)
    ranges = _Q2_RANGES if type == TensorType.Q2_K else _RANGES
    line = fit_line(group, grid, ranges, type in SUPER_BLOCKS)
    if type not in SUPER_BLOCKS:
        d, m = as_half(line.a), as_half(line.c)
        return block_bytes(type, grid.code((x - m) * inverse_or_zero(d)), d, m)
    shorter = 2 if type == TensorType.Q2_K else 0
    fit = fit_super_line(group, grid, _SCALES[type], line, shorter)
    q = grid.code((x - fit.line.c) * inverse_or_zero(fit.line.a))
    return super_bytes(type, q, fit.d, fit.m, fit.s, fit.t)


def _truncated(x: Float32) -> Int32:
    """Towards zero; what is no int32 gives the least one, as x86 converts."""
    fits: Bool = np.abs(x) < 2.0**31
    return np.where(fits, x, np.float32(-(2**31))).astype(np.int32)


def _taken(x: Float32, at: Int64) -> Float32:
    """The value of each block at its own place."""
    return x[at, np.arange(x.shape[1])]


def _symmetric(x: Float32, bits: int) -> tuple[UInt8, Float32]:
    """d = (what is largest in magnitude) / −2^(bits − 1); q = its multiple + 2^(bits − 1)."""
    half = 1 << (bits - 1)
    extreme = _taken(x, np.argmax(np.abs(x), axis=0))
    extreme = np.where(extreme == 0, np.float32(0), extreme)  # not −0
    d = np.divide(extreme, -half, dtype=np.float32)
    q = _truncated(x * inverse_or_zero(d) + np.float32(half + 0.5))
    return np.minimum(q, 2 * half - 1).astype(np.uint8), d


def _affine(x: Float32, bits: int) -> tuple[UInt8, Float32, Float32]:
    """m = minimum, d = (maximum − m) / (2^bits − 1)."""
    most = (1 << bits) - 1
    # The first of equals, which tells 0 from −0.
    low, high = _taken(x, np.argmin(x, axis=0)), _taken(x, np.argmax(x, axis=0))
    d = np.divide(high - low, most, dtype=np.float32)
    q = _truncated((x - low) * inverse_or_zero(d) + np.float32(0.5))
    return np.minimum(q, most).astype(np.uint8), d, low


def _fp4(x: Float32) -> tuple[UInt8, UInt8]:
    """d = 2^(e − 128), e − 127 two less than the logarithm, as a float32, of the largest magnitude.

    Of two values as near the smaller one is taken.
    """
    most = np.abs(x).max(axis=0)
    logarithm = np.log2(np.where(most > 0, most, 1), dtype=np.float64)
    e = np.where(most > 0, np.floor(logarithm.astype(np.float32)) + 125, 0)
    e = np.maximum(e, 0).astype(np.uint8)
    d = np.ldexp(np.float32(1), e.astype(np.int32) - 128)
    middles = np.array([0.5, 1.5, 2.5, 3.5, 5, 7, 10], np.float32)
    code = sum((np.abs(x) > d * middle).astype(np.uint8) for middle in middles)
    return np.where((x < 0) & (code > 0), code + 8, code).astype(np.uint8), e


def _ternary(x: Float32) -> tuple[UInt8, Float32]:
    """d = (largest magnitude); q = its multiple, ties rounded away from zero, + 1."""
    d = np.abs(x).max(axis=0)
    q = x * inverse_or_zero(d)
    return np.where(np.abs(q) < 0.5, 1, np.where(q < 0, 0, 2)).astype(np.uint8), d


def _bytes(x: Float32) -> tuple[UInt8, Float32]:
    """d = (largest magnitude) / 127; ties are rounded away from zero."""
    d = np.divide(np.abs(x).max(axis=0), 127, dtype=np.float32)
    q = x * inverse_or_zero(d)
    whole = _truncated(q)
    rest: Float32 = q - whole.astype(np.float32)
    return (whole + _truncated(rest + rest)).astype(np.uint8), d
