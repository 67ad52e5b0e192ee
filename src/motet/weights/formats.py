"""GGML's tensor types: how many values a block holds, how many bytes it takes, and what it means.

Numbers and block sizes are those of ``ggml.h`` and ``ggml-common.h``.
"""

from enum import IntEnum

import numpy as np

from motet.arrays import Float32, UInt8
from motet.errors import UnsupportedError


class TensorType(IntEnum):
    """A tensor's storage type. The value is GGML's type number; a row is a whole number of blocks.

    ``block``: values in one block. ``block_bytes``: bytes that one block takes.
    """

    block: int
    block_bytes: int

    def __new__(cls, number: int, block: int, block_bytes: int) -> "TensorType":
        member = int.__new__(cls, number)
        member._value_ = number
        member.block = block
        member.block_bytes = block_bytes
        return member

    @property
    def is_integer(self) -> bool:
        """Whether it holds indices and not weights."""
        return self in (TensorType.I8, TensorType.I16, TensorType.I32, TensorType.I64)

    F32 = 0, 1, 4
    F16 = 1, 1, 2
    Q4_0 = 2, 32, 18
    Q4_1 = 3, 32, 20
    Q5_0 = 6, 32, 22
    Q5_1 = 7, 32, 24
    Q8_0 = 8, 32, 34
    Q2_K = 10, 256, 84
    Q3_K = 11, 256, 110
    Q4_K = 12, 256, 144
    Q5_K = 13, 256, 176
    Q6_K = 14, 256, 210
    IQ2_XXS = 16, 256, 66
    IQ2_XS = 17, 256, 74
    IQ3_XXS = 18, 256, 98
    IQ1_S = 19, 256, 50
    IQ4_NL = 20, 32, 18
    IQ3_S = 21, 256, 110
    IQ2_S = 22, 256, 82
    IQ4_XS = 23, 256, 136
    I8 = 24, 1, 1
    I16 = 25, 1, 2
    I32 = 26, 1, 4
    I64 = 27, 1, 8
    F64 = 28, 1, 8
    IQ1_M = 29, 256, 56
    BF16 = 30, 1, 2
    TQ1_0 = 34, 256, 54
    TQ2_0 = 35, 256, 66
    MXFP4 = 39, 32, 17
    NVFP4 = 40, 64, 36


REFUSED_TYPES = {
    4: "Q4_2, removed from GGML",
    5: "Q4_3, removed from GGML",
    9: "Q8_1, an intermediate that files do not hold",
    15: "Q8_K, an intermediate that files do not hold",
    31: "Q4_0_4_4, removed from GGML",
    32: "Q4_0_4_8, removed from GGML",
    33: "Q4_0_8_8, removed from GGML",
    36: "IQ4_NL_4_4, removed from GGML",
    37: "IQ4_NL_4_8, removed from GGML",
    38: "IQ4_NL_8_8, removed from GGML",
    41: "Q1_0",
}
"""Type numbers that GGML gives or gave a meaning to and that Motet does not read."""


def row_bytes(type: TensorType, columns: int) -> int:
    """Bytes of one row of ``columns`` values. ``columns`` is a multiple of the type's block."""
    if columns % type.block:
        raise UnsupportedError(
            f"a row of {columns} values is not a whole number of {type.name} blocks of {type.block}"
        )
    return columns // type.block * type.block_bytes


def dequantize(raw: UInt8, type: TensorType) -> Float32:
    """The values that ``raw`` (uint8 [rows, row_bytes]) stands for: float32 [rows, columns].

    F64 is rounded to float32; every other type's value is given as GGML's reference defines it.
    Raises UnsupportedError for integer tensors, which hold indices and not weights.
    """
    # A damaged value may be infinite or none; what comes of it is for the reader to judge.
    with np.errstate(over="ignore", invalid="ignore"):
        return _dequantize(raw, type)


def _dequantize(raw: UInt8, type: TensorType) -> Float32:
    match type:
        case TensorType.F32:
            return _words(raw, np.float32).astype(np.float32)
        case TensorType.F16:
            return _words(raw, np.float16).astype(np.float32)
        case TensorType.F64:
            return _words(raw, np.float64).astype(np.float32)
        case TensorType.BF16:
            return (_words(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
        case _ if type.is_integer:
            raise UnsupportedError(f"a tensor of type {type.name} holds integers, not weights")
    from gguf import GGMLQuantizationType, quants  # 0.1 s, and only rare types need it

    return quants.dequantize(np.ascontiguousarray(raw), GGMLQuantizationType(type.value))


def _words(raw: np.ndarray, word: type) -> np.ndarray:
    return np.ascontiguousarray(raw).view(word)
