"""The bytes of GGML's blocks, from quants and scales."""

import numpy as np

from motet.arrays import Array, Float32, UInt8
from motet.weights.formats import TensorType


def joined(*parts: Array) -> UInt8:
    """Blocks one after another, from their parts ``[bytes, blocks]``."""
    return np.transpose(np.concatenate(parts, axis=0)).astype(np.uint8, "C")


def halves(*scales: Float32) -> UInt8:
    """Float16 scales ``[blocks]``, as bytes."""
    return np.transpose(np.stack(scales, axis=1).astype(np.float16).view(np.uint8))


def block_bytes(type: TensorType, q: UInt8, *scales: Float32) -> UInt8:
    """Blocks of 32: quants ``[32, blocks]`` of 4 or 5 bits."""
    parts = [halves(*scales)]
    if type in (TensorType.Q5_0, TensorType.Q5_1):
        parts.append(np.packbits(q >> 4 & 1, axis=0, bitorder="little"))
    return joined(*parts, nibbles(q))


def super_bytes(
    type: TensorType, q: UInt8, d: Float32, m: Float32 | None, s: Float32, t: Float32 | None
) -> UInt8:
    """Super-blocks: quants ``[values, groups]``, and their scales ``[groups]``."""
    groups = type.block // len(q)
    v = np.transpose(q).reshape(-1, type.block)
    v = np.ascontiguousarray(np.transpose(v)).astype(np.uint8)
    scale = _of_groups(s, groups)
    heads = halves(*(x.reshape(-1, groups)[:, 0] for x in (d, m) if x is not None))
    minimum = scale if t is None else _of_groups(t, groups)
    match type:
        case TensorType.Q2_K:
            return joined(scale | minimum << 4, _pairs(v, 0), heads)
        case TensorType.Q3_K:
            return joined(_bits(v, 2), _pairs(v, 0), _q3_scales(scale + 32), heads)
        case TensorType.Q4_K:
            return joined(heads, _scales_and_minima(scale, minimum), _nibble_rows(v))
        case TensorType.Q5_K:
            scales = _scales_and_minima(scale, minimum)
            return joined(heads, scales, _bits(v, 4), _nibble_rows(v))
        case TensorType.Q6_K:
            low = np.concatenate([nibbles(half) for half in np.split(v, 2)])
            return joined(low, _pairs(v, 4), scale & 255, heads)
        case _:
            low = np.concatenate([nibbles(group) for group in np.split(v, 8)])
            return joined(heads, _xs_scales(scale + 32), low)


def ternary_bytes(type: TensorType, q: UInt8, d: Float32) -> UInt8:
    """Super-blocks of quants ``[256, blocks]`` of 0, 1 and 2, with a scale each."""
    if type == TensorType.TQ2_0:
        return joined(_pairs(q, 0), halves(d))
    parts = _fives(q[:160], 5), _fives(q[160:240], 5), _fives(q[240:], 4)
    return joined(*parts, halves(d))


def _of_groups(s: Float32, groups: int) -> Array:
    return np.transpose(s.astype(np.int32).reshape(-1, groups))


def nibbles(q: Array) -> Array:
    """Of values ``[2 · half, blocks]`` i and i + half in one byte."""
    half = len(q) // 2
    return q[:half] & 15 | (q[half:] & 15) << 4


def _nibble_rows(v: Array) -> Array:
    return np.concatenate([nibbles(part) for part in np.split(v, 4)])


def _fives(q: Array, count: int) -> Array:
    """``count`` numbers in base 3 a byte, the first one highest of five, as parts of 256."""
    digits: Array = q.astype(np.int32).reshape(count, -1, q.shape[1])
    number = np.zeros_like(digits[0])
    for n, digit in enumerate(digits):
        number += digit * 3 ** (4 - n)
    return (number * 256 + 242) // 243


def _bits(v: Array, shift: int) -> Array:
    """One bit of each: of values i, i + 32, … in byte i."""
    bits: Array = (v >> shift & 1).reshape(8, 32, -1)
    return np.packbits(bits, axis=0, bitorder="little")[0]


def _pairs(v: Array, shift: int) -> Array:
    """Two bits of each: of 128, values i, i + 32, i + 64 and i + 96 in a byte."""
    two = (v >> shift & 3).reshape(2, 4, 32, -1)
    return (two[:, 0] | two[:, 1] << 2 | two[:, 2] << 4 | two[:, 3] << 6).reshape(64, -1)


def _scales_and_minima(s: Array, t: Array) -> Array:
    """Six bits each, of Q4_K and Q5_K."""
    return np.concatenate(
        [s[:4] | s[4:] >> 4 << 6, t[:4] | t[4:] >> 4 << 6, s[4:] & 15 | (t[4:] & 15) << 4]
    )


def _q3_scales(s: Array) -> Array:
    high = (s >> 4).reshape(4, 4, -1)
    return np.concatenate(
        [s[:8] & 15 | (s[8:] & 15) << 4, high[0] | high[1] << 2 | high[2] << 4 | high[3] << 6]
    )


def _xs_scales(s: Array) -> Array:
    high = sum((s[b] >> 4) << (2 * b) for b in range(8))
    return np.concatenate([np.stack([high & 255, high >> 8]), s[0::2] & 15 | (s[1::2] & 15) << 4])
