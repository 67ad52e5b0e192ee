"""What quantising is given, checked: the same for every implementation."""

import numpy as np

from motet.arrays import Float32
from motet.errors import NumericalError, OptionError, UnsupportedError
from motet.weights.formats import TensorType, row_bytes

FLOATS = frozenset({TensorType.F32, TensorType.F16, TensorType.BF16})
TERNARY = frozenset({TensorType.TQ1_0, TensorType.TQ2_0})
"""For weights that are −d, 0 or d, of one d in a block; of others little is left."""
ROUNDED = TERNARY | {
    TensorType.Q4_0,
    TensorType.Q4_1,
    TensorType.Q5_0,
    TensorType.Q5_1,
    TensorType.Q8_0,
    TensorType.MXFP4,
}
"""Blocks whose scale follows from the range of their values, where there is no importance."""
SUPER_BLOCKS = frozenset(
    {
        TensorType.Q2_K,
        TensorType.Q3_K,
        TensorType.Q4_K,
        TensorType.Q5_K,
        TensorType.Q6_K,
        TensorType.IQ4_XS,
    }
)
QUANTIZED_TYPES = FLOATS | ROUNDED | SUPER_BLOCKS | {TensorType.IQ4_NL}
"""Types that floats can be quantised to."""
UNSEARCHED = FLOATS | TERNARY | {TensorType.Q8_0, TensorType.MXFP4}
"""Types that leave nothing to choose, and so pass an importance over."""

_LEAST_WEIGHT = np.float32(2.0**-20)
"""Of the largest in a block. With none at all a value could become anything."""
_INFINITE, _ANY = 0x7F800000, 0x7FFFFFFF
_OVER_HALF, _OVER_BF16 = 0x477FF000, 0x7F7F8000
"""The least magnitudes, as bits, that float16 and bfloat16 round to infinity."""


def refused_bits(type: TensorType) -> tuple[int, int] | None:
    """The first and last magnitude, as bits of a float32, that ``type`` cannot hold.

    Float types hold infinities and what is no number as such; but no finite value becomes one.
    """
    match type:
        case TensorType.F32:
            return None
        case TensorType.F16:
            return _OVER_HALF, _INFINITE - 1
        case TensorType.BF16:
            return _OVER_BF16, _INFINITE - 1
        case TensorType.MXFP4:
            return _INFINITE, _ANY
        case _:
            return _OVER_HALF, _ANY


def refuse_value(values: Float32, at: int, type: TensorType) -> None:
    """NumericalError for the value at ``at``, counted through all rows."""
    row, column = divmod(at, values.shape[1])
    value = float(values[row, column])
    hint = "a model whose weights are not finite is damaged: get it again"
    if np.isfinite(value):
        hint = "use BF16 or F32"
    raise NumericalError(
        f"the value at row {row}, column {column} is {value:g}, which {type.name} cannot hold",
        hint=hint,
    )


def error_weights(importance: Float32 | None, type: TensorType) -> Float32 | None:
    """``importance`` by the largest of its block, ``[columns]``: only ratios matter in one."""
    if importance is None or type in UNSEARCHED:
        return None
    blocks: Float32 = importance.astype(np.float32).reshape(-1, type.block)
    most = blocks.max(axis=1, keepdims=True)
    weights = np.divide(blocks, np.where(most > 0, most, 1), dtype=np.float32)
    return np.where(most > 0, np.maximum(weights, _LEAST_WEIGHT), np.float32(1)).ravel()


def check_quantized(type: TensorType, columns: int, importance: Float32 | None) -> int:
    """Bytes of a row of ``columns`` values as ``type``.

    Raises UnsupportedError for a type that Motet does not write or no whole blocks, OptionError for
    an importance that is none.
    """
    if type not in QUANTIZED_TYPES:
        known = ", ".join(t.name for t in sorted(QUANTIZED_TYPES))
        raise UnsupportedError(f"Motet does not quantise to {type.name}", hint=f"use {known}")
    if importance is not None:
        if importance.shape != (columns,):
            raise OptionError(
                f"an importance of shape {importance.shape} for rows of {columns} values"
            )
        wrong = ~(np.isfinite(importance) & (importance >= 0))
        if wrong.any():
            at = int(np.argmax(wrong))
            raise OptionError(
                f"the importance of column {at} is {float(importance[at]):g}",
                hint="give finite numbers, none below 0",
            )
    return row_bytes(type, columns)
