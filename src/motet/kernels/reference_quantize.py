"""Quantising in NumPy: the definition, byte for byte, of what the native kernels do.

Every operation is a float32 one, rounded by itself, and sums go value by value: so the bytes are
the same on every instruction set and here. Arrays are ``[values of a block, blocks]``.
"""

import numpy as np

from motet.arrays import Array, Bool, Float32, Int32, Int64, UInt8
from motet.kernels.quantizing import check_quantized, refuse_value, refused_bits
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
        with np.errstate(all="ignore"):
            return _blocks(values, type).reshape(len(values), width)


def _blocks(values: Float32, type: TensorType) -> UInt8:
    match type:
        case TensorType.F32:
            return values.view(np.uint8)
        case TensorType.F16:
            half = values.astype(np.float16).view(np.uint16)
            half = np.where(np.isnan(values), half & 0x8000 | 0x7E00, half)
            return half.astype(np.uint16).view(np.uint8)
        case TensorType.BF16:
            bits = values.view(np.uint32)
            rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
            word = np.where(np.isnan(values), bits >> 16 | 64, rounded)
            return word.astype(np.uint16).view(np.uint8)
        case _:
            return _rounded(_by_value(values, 32), type)


def _by_value(values: Float32, block: int) -> Float32:
    blocks: Float32 = values.reshape(-1, block)
    return np.ascontiguousarray(np.transpose(blocks))


def _rounded(x: Float32, type: TensorType) -> UInt8:
    """As GGML's reference rounds blocks of 32."""
    match type:
        case TensorType.Q4_0:
            q, d = _symmetric(x, 4)
            return _joined(_scales(d), _nibbles(q))
        case TensorType.Q5_0:
            q, d = _symmetric(x, 5)
            return _joined(_scales(d), _fifth_bits(q), _nibbles(q))
        case TensorType.Q4_1:
            q, d, m = _affine(x, 4)
            return _joined(_scales(d, m), _nibbles(q))
        case TensorType.Q5_1:
            q, d, m = _affine(x, 5)
            return _joined(_scales(d, m), _fifth_bits(q), _nibbles(q))
        case _:
            q, d = _bytes(x)
            return _joined(_scales(d), q)


def _truncated(x: Float32) -> Int32:
    """Towards zero; what is no int32 gives the least one, as x86 converts."""
    fits: Bool = np.abs(x) < 2.0**31
    return np.where(fits, x, np.float32(-(2**31))).astype(np.int32)


def _inverse_or_zero(d: Float32) -> Float32:
    inverse: Float32 = np.float32(1) / d
    return np.where(d == 0, np.float32(0), inverse)


def _taken(x: Float32, at: Int64) -> Float32:
    """The value of each block at its own place."""
    return x[at, np.arange(x.shape[1])]


def _symmetric(x: Float32, bits: int) -> tuple[UInt8, Float32]:
    """d = (what is largest in magnitude) / −2^(bits − 1); q = its multiple + 2^(bits − 1)."""
    half = 1 << (bits - 1)
    extreme = _taken(x, np.argmax(np.abs(x), axis=0))
    extreme = np.where(extreme == 0, np.float32(0), extreme)  # not −0
    d = np.divide(extreme, -half, dtype=np.float32)
    q = _truncated(x * _inverse_or_zero(d) + np.float32(half + 0.5))
    return np.minimum(q, 2 * half - 1).astype(np.uint8), d


def _affine(x: Float32, bits: int) -> tuple[UInt8, Float32, Float32]:
    """m = minimum, d = (maximum − m) / (2^bits − 1)."""
    most = (1 << bits) - 1
    # The first of equals, which tells 0 from −0.
    low, high = _taken(x, np.argmin(x, axis=0)), _taken(x, np.argmax(x, axis=0))
    d = np.divide(high - low, most, dtype=np.float32)
    q = _truncated((x - low) * _inverse_or_zero(d) + np.float32(0.5))
    return np.minimum(q, most).astype(np.uint8), d, low


def _bytes(x: Float32) -> tuple[UInt8, Float32]:
    """d = (largest magnitude) / 127; ties are rounded away from zero."""
    d = np.divide(np.abs(x).max(axis=0), 127, dtype=np.float32)
    q = x * _inverse_or_zero(d)
    whole = _truncated(q)
    rest: Float32 = q - whole.astype(np.float32)
    return (whole + _truncated(rest + rest)).astype(np.uint8), d


# Bytes of blocks, ``[bytes, blocks]``.


def _joined(*parts: Array) -> UInt8:
    return np.transpose(np.concatenate(parts, axis=0)).astype(np.uint8, "C")


def _scales(*scales: Float32) -> UInt8:
    halves = np.stack(scales, axis=1).astype(np.float16)
    return np.transpose(halves.view(np.uint8))


def _nibbles(q: UInt8) -> UInt8:
    """Values i and i + half in one byte."""
    half = len(q) // 2
    return (q[:half] & 15 | q[half:] << 4).astype(np.uint8)


def _fifth_bits(q: UInt8) -> UInt8:
    return np.packbits(q >> 4 & 1, axis=0, bitorder="little")
