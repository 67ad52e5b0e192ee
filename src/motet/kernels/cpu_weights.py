"""Weights for the native kernels: packed from a file's blocks, or found packed in memory."""

from typing import Any

import numpy as np

from motet.arrays import UInt8
from motet.cached import cached_property
from motet.errors import UnsupportedError
from motet.kernels.interface import Rows
from motet.weights.formats import TensorType, dequantize, row_bytes

PACKED_BITS = {
    TensorType.F32: 32.0,
    TensorType.F16: 16.0,
    TensorType.BF16: 16.0,
    TensorType.Q4_0: 4.5,
    TensorType.Q4_1: 5.0,
    TensorType.Q5_0: 5.5,
    TensorType.Q5_1: 6.0,
    TensorType.Q8_0: 8.5,
    TensorType.Q2_K: 5.125,
    TensorType.Q3_K: 4.5625,
    TensorType.Q4_K: 4.625,
    TensorType.Q5_K: 5.625,
    TensorType.Q6_K: 6.5625,
    TensorType.IQ1_S: 1.96875,
    TensorType.IQ1_M: 2.1875,
    TensorType.IQ2_XXS: 2.1875,
    TensorType.IQ2_XS: 2.4375,
    TensorType.IQ2_S: 2.5625,
    TensorType.IQ3_XXS: 3.1875,
    TensorType.IQ3_S: 3.4375,
    TensorType.IQ4_NL: 4.5,
    TensorType.IQ4_XS: 4.3125,
    TensorType.TQ1_0: 2.0625,
    TensorType.TQ2_0: 2.0625,
    TensorType.MXFP4: 4.25,
    TensorType.NVFP4: 4.5,
}
"""Types that have a packed layout of their own (``native/layouts.hpp``, ``native/codes.hpp``), and
what a weight takes in it, scales included; the others are widened to F32 at load."""

_STRIP, _LINE = 16, 64
"""Rows that are packed together, and the bytes that what they take as floats is a multiple of."""
_PACK_BYTES = 2 << 20
"""Bytes of a file that are read, and packed while they are in a core's cache."""
_SAMPLE_COLUMNS = 256
"""A whole block of every type."""


class CPUWeights:
    """The part of ``CPU`` that makes matrices."""

    _native: Any
    _pool: Any
    _arena: Any

    def pack(self, raw: Rows, type: TensorType, rows: int, columns: int, scale: float = 1.0) -> Any:
        packed = packed_type(type)
        matrix = self._native.Matrix(self._arena, int(packed), rows, columns, scale)
        step = max(1, _PACK_BYTES // row_bytes(type, columns) // _STRIP) * _STRIP
        for first in range(0, rows, step):
            chunk = raw[first : min(rows, first + step)]
            if type is not packed:
                chunk = _widened(chunk, type)
            self._native.pack(self._pool, matrix, chunk, first)
        return matrix

    def packed_bytes(self, type: TensorType, rows: int, columns: int) -> int:
        strip = int(_STRIP * columns * PACKED_BITS.get(type, 32.0)) // 8
        if type.block == 1:
            strip = -(-strip // _LINE) * _LINE
        return -(-rows // _STRIP) * strip

    def packed_data(self, matrix: Any) -> UInt8:
        return matrix.packed

    def packed_matrix(
        self, data: UInt8, type: TensorType, rows: int, columns: int, scale: float = 1.0
    ) -> Any:
        return self._native.Matrix(data, int(packed_type(type)), rows, columns, scale)

    @cached_property
    def packs_as(self) -> str:
        """A digest of what ``pack`` makes of a block of every type: it changes when that does."""
        from xxhash import xxh3_64

        digest = xxh3_64()
        for type in PACKED_BITS:
            size = row_bytes(type, _SAMPLE_COLUMNS)
            sample = np.arange(size * _STRIP, dtype=np.uint32) * 2654435761 >> 24
            raw = sample.astype(np.uint8).reshape(_STRIP, size)
            matrix = self.pack(raw, type, _STRIP, _SAMPLE_COLUMNS)
            digest.update(self.packed_data(matrix).data)
        return digest.hexdigest()


def packed_type(type: TensorType) -> TensorType:
    """What weights of a type are packed as."""
    return type if type in PACKED_BITS else TensorType.F32


def _widened(raw: UInt8, type: TensorType) -> UInt8:
    """The same weights as F32."""
    try:
        return dequantize(raw, type).view(np.uint8)
    except NotImplementedError as error:
        raise UnsupportedError(f"weights of type {type.name} can't be read") from error
