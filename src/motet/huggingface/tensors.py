"""Tensors of a checkpoint, seen as GGUF has them: in other orders of rows, stacked, computed.

What is large is read row by row, in its own type; what is small may be computed whole.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

import numpy as np

from motet.arrays import Float32, Int64, UInt8
from motet.errors import ModelFileError, UnsupportedError, shown
from motet.huggingface.safetensors import Stored
from motet.weights.formats import TensorType, dequantize, row_bytes

_TYPES = {
    "F32": TensorType.F32,
    "F16": TensorType.F16,
    "BF16": TensorType.BF16,
    "F64": TensorType.F64,
}
_MAX_ROWS = 1 << 25
"""The experts of a layer together have a million."""
_MOST_COMPUTED = 1 << 24
"""Values of a tensor that is made at once."""
WORDS = {TensorType.F32: np.uint32, TensorType.F16: np.uint16, TensorType.BF16: np.uint16}
"""Of types whose values can be moved as they are."""


class Weights(ABC):
    """A tensor that can be read. ``shape`` is in NumPy order."""

    def __init__(self, shape: Sequence[int], type: TensorType) -> None:
        self.shape = tuple(shape)
        self.type = type

    @property
    def rows(self) -> int:
        return prod(self.shape[:-1])

    @property
    def columns(self) -> int:
        return self.shape[-1] if self.shape else 1

    @abstractmethod
    def read(self, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        """Rows ``first`` to ``last`` - 1: uint8 [rows, row_bytes], in ``buffer`` if one is given.

        The buffer may be used or not.
        """

    def floats(self) -> Float32:
        """All of it, as float32 ``[*shape]``."""
        return dequantize(self.read(0, self.rows), self.type).reshape(self.shape)


Change = Callable[[Weights], Weights]
"""What GGUF has in place of a checkpoint's tensor."""


class Plain(Weights):
    """As it stands in the file."""

    def __init__(self, stored: Stored) -> None:
        """Raises UnsupportedError for a type that holds no weights, or weights without scales."""
        if stored.dtype not in _TYPES:
            raise UnsupportedError(
                f"tensor {shown(stored.name)} is of type {stored.dtype}, which holds no weights"
                " alone",
                hint="Motet reads F32, F16, BF16 and, with their scales, FP8, MXFP4 and NVFP4",
            )
        super().__init__(stored.shape, _TYPES[stored.dtype])
        self._stored = stored

    def read(self, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        return self._stored.read(first, last, buffer)


class Scaled(Weights):
    """FP8 (Micikevicius et al. 2022, arXiv 2209.05433, E4M3) times a scale a tile of each matrix.

    ``scales``: float32, one for each tile of ``block`` rows and columns, one for each matrix or one
    for all.
    """

    def __init__(self, stored: Stored, scales: Stored, block: tuple[int, int] | None) -> None:
        """``block`` None: a matrix is one tile. Raises ModelFileError where scales don't fit."""
        if len(stored.shape) < 2:
            raise UnsupportedError(
                f"tensor {shown(stored.name)} is {stored.dtype} {list(stored.shape)}"
            )
        super().__init__(stored.shape, TensorType.F32)
        *matrices, rows, columns = stored.shape
        given = prod(scales.shape)
        block = block if given > prod(matrices) and block else (rows, columns)
        tiles = tuple(-(-n // b) for n, b in zip((rows, columns), block, strict=True))
        if given not in (1, prod(matrices) * prod(tiles)):
            raise ModelFileError(
                f"tensor {shown(stored.name)} has scales {list(scales.shape)}, not"
                f" {[*matrices, *tiles]}"
            )
        values = Plain(scales).floats()
        self._stored = stored
        self._scales = np.broadcast_to(values.ravel(), (prod(matrices) * prod(tiles),)).reshape(
            prod(matrices), *tiles
        )
        self._block = block

    def read(self, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        values = e4m3()[self._stored.read(first, last)]
        matrix, row = np.divmod(np.arange(first, last), self.shape[-2])
        scales = self._scales[matrix, row // self._block[0]].repeat(self._block[1], axis=1)
        return (values * scales[:, : values.shape[1]]).view(np.uint8)


class Reordered(Weights):
    """Its rows in another order, or some of them: row i is row ``order[i]`` of ``weights``."""

    def __init__(self, weights: Weights, order: Int64, shape: Sequence[int] | None = None) -> None:
        super().__init__(shape or (len(order), *weights.shape[1:]), weights.type)
        self._weights = weights
        self._order = order

    def read(self, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        order = self._order[first:last]
        if not len(order):
            return self._weights.read(0, 0)
        least, most = int(order.min()), int(order.max()) + 1
        if (np.diff(order) == 1).all():
            return self._weights.read(least, most, buffer)
        span = self._weights.read(least, most)
        return span[order - least]


class OfEach(Weights):
    """``count`` rows of each matrix of ``[…, rows, columns]``, from row ``first`` on."""

    def __init__(self, weights: Weights, first: int, count: int) -> None:
        *matrices, rows, columns = weights.shape
        super().__init__((*matrices, count, columns), weights.type)
        self._weights = weights
        self._first, self._count, self._all = first, count, rows

    def read(self, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        out = np.empty((last - first, row_bytes(self.type, self.columns)), np.uint8)
        at = first
        while at < last:
            matrix, row = divmod(at, self._count)
            start, count = matrix * self._all + self._first + row, min(self._count - row, last - at)
            out[at - first : at - first + count] = self._weights.read(start, start + count)
            at += count
        return out


class Halved(Weights):
    """Divided by two so many ``times``, in its own type."""

    def __init__(self, weights: Weights, times: int) -> None:
        super().__init__(weights.shape, weights.type if weights.type in WORDS else TensorType.F32)
        self._weights = weights
        self._factor = np.float32(0.5**times)

    def read(self, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        values = dequantize(self._weights.read(first, last), self._weights.type) * self._factor
        match self.type:
            case TensorType.F16:
                return values.astype(np.float16).view(np.uint8)
            case TensorType.BF16:  # nothing is lost but of what is below 2^-126
                return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
            case _:
                return values.view(np.uint8)


class Multiplied(Weights):
    """float32 values times one of ``factors`` after the other, each product rounded.

    A factor is a number for each row.
    """

    def __init__(self, weights: Weights, factors: Sequence[Float32]) -> None:
        """Raises ValueError where there are not as many numbers as rows."""
        super().__init__(weights.shape, TensorType.F32)
        self._weights = weights
        self._factors = [np.broadcast_to(factor, (weights.rows,)) for factor in factors]

    def read(self, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        values = dequantize(self._weights.read(first, last), self._weights.type)
        for factor in self._factors:
            values = values * factor[first:last, None]
        return values.view(np.uint8)


class Stacked(Weights):
    """Tensors of one shape, one above the other: ``[count, *shape]``, or joined along axis 0."""

    def __init__(self, parts: Sequence[Weights], *, joined: bool = False) -> None:
        """Raises ModelFileError where their types or shapes differ."""
        one = parts[0]
        for part in parts:
            if part.type != one.type or part.shape[joined:] != one.shape[joined:]:
                raise ModelFileError(
                    f"tensors that belong together are {part.type.name} {list(part.shape)} and"
                    f" {one.type.name} {list(one.shape)}"
                )
        axes = (sum(p.shape[0] for p in parts), *one.shape[1:]) if joined else ()
        super().__init__(axes or (len(parts), *one.shape), one.type)
        self._parts = parts
        self._starts = np.cumsum([0, *(part.rows for part in parts)]).tolist()

    def read(self, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        out = np.empty((last - first, row_bytes(self.type, self.columns)), np.uint8)
        for part, (start, end) in zip(self._parts, pairwise(self._starts), strict=True):
            low, high = max(first, start), min(last, end)
            if low < high:
                out[low - first : high - first] = part.read(low - start, high - start)
        return out


class Whole(Weights):
    """Made at once of all of ``weights``, when its first row is read, and let go with its last."""

    def __init__(
        self, shape: Sequence[int], type: TensorType, make: Callable[[], np.ndarray]
    ) -> None:
        """``make``: an array ``[*shape]`` whose bytes are those of the ``type``."""
        super().__init__(shape, type)
        self._make = make
        self._made: UInt8 | None = None

    def read(self, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        if self._made is None:
            made = np.ascontiguousarray(self._make())
            assert made.shape == self.shape, f"{made.shape} is not {self.shape}"
            self._made = made.reshape(self.rows, -1).view(np.uint8)
        rows = self._made[first:last]
        if last == self.rows:
            self._made = None
        return rows


def constant(values: Float32) -> Weights:
    """Numbers that follow from config.json."""
    return Whole(values.shape, TensorType.F32, lambda: values)


def computed(make: Callable[[Float32], Float32]) -> Change:
    """float32 values made of a small tensor's values; the shape may change."""

    def change(weights: Weights) -> Weights:
        if prod(weights.shape) > _MOST_COMPUTED:
            raise ValueError(f"more than {_MOST_COMPUTED} values")
        shape = make(np.zeros(weights.shape, np.float32)).shape
        return Whole(shape, TensorType.F32, lambda: make(weights.floats()).astype(np.float32))

    return change


def pointwise(make: Callable[[Float32], Float32]) -> Change:
    """float32 values, each made of one value of a small tensor."""
    return lambda weights: Whole(
        weights.shape, TensorType.F32, lambda: make(weights.floats()).astype(np.float32)
    )


def rearranged(make: Callable[[np.ndarray], np.ndarray]) -> Change:
    """The same values elsewhere, in the same type: a transposition, a part of each head."""

    def change(weights: Weights) -> Weights:
        if weights.type not in WORDS:
            return computed(make)(weights)
        shape = make(np.broadcast_to(np.uint8(0), weights.shape)).shape
        word = WORDS[weights.type]

        def values() -> np.ndarray:
            raw = np.ascontiguousarray(weights.read(0, weights.rows))
            return make(raw.view(word).reshape(weights.shape))

        return Whole(shape, weights.type, values)

    return change


def widened(weights: Weights) -> Weights:
    """Its values as float32."""
    if weights.type == TensorType.F32:
        return weights
    return Whole(weights.shape, TensorType.F32, weights.floats)


def reshaped(*shape: int) -> Change:
    """The same rows under another shape, of which one length may be -1."""

    def change(weights: Weights) -> Weights:
        lengths = np.broadcast_to(np.uint8(0), weights.shape).reshape(shape).shape
        if not lengths or lengths[-1] != weights.columns:
            return rearranged(lambda values: values.reshape(lengths))(weights)
        return Reordered(weights, _rows(weights), lengths)

    return change


def interleaved(heads: int) -> Change:
    """Rows of q or k: of each head, halves that rotate together, as GGUF's pairs side by side."""

    def change(weights: Weights) -> Weights:
        rows = weights.shape[0]
        if not heads or rows % (2 * heads):
            raise ModelFileError(f"{rows} rows of q or k are not {heads} heads of pairs")
        order = _numbers(rows).reshape(heads, 2, -1).swapaxes(1, 2).ravel()
        if len(weights.shape) == 1:
            return computed(lambda values: values[order])(weights)
        return Reordered(weights, order)

    return change


def multiplied(*factors: float | Float32) -> Change:
    """Values times one number after the other, or one for each row; by ones: as they are."""
    rounded = [np.asarray(factor, np.float32) for factor in factors]
    rounded = [factor for factor in rounded if (factor != 1).any()]
    return lambda weights: Multiplied(weights, rounded) if rounded else weights


def picked(*rows: int) -> Change:
    """Some rows of a matrix."""

    def change(weights: Weights) -> Weights:
        if max(rows) >= weights.rows:
            raise ValueError(f"row {max(rows)} is not one of them")
        return Reordered(weights, np.array(rows))

    return change


def then(first: Change, second: Change) -> Change:
    """One change after another."""
    return lambda weights: second(first(weights))


def same(weights: Weights) -> Weights:
    """No change."""
    return weights


transposed = rearranged(lambda values: values.T)
"""Columns for rows: of layers that multiply from the other side."""
one_more = pointwise(lambda values: values + np.float32(1))
"""Of norms whose weights are stored less 1."""


def cut(first: int, last: int) -> Change:
    """Rows ``first`` to ``last`` - 1 of the first axis, of a matrix or a vector."""

    def change(weights: Weights) -> Weights:
        if last > weights.shape[0]:
            raise ValueError(f"rows {first} to {last} are not all there")
        if len(weights.shape) == 1:
            return computed(lambda values: values[first:last])(weights)
        per = prod(weights.shape[1:-1])
        shape = (last - first, *weights.shape[1:])
        return Reordered(weights, _rows(weights)[first * per : last * per], shape)

    return change


def part(index: int, count: int) -> Change:
    """One of ``count`` equal parts of each matrix's rows: gate or up, of both in one."""

    def change(weights: Weights) -> Weights:
        rows = weights.shape[-2]
        if rows % count:
            raise ValueError(f"{rows} rows are not {count} equal parts")
        return OfEach(weights, rows // count * index, rows // count)

    return change


def _rows(weights: Weights) -> Int64:
    """The numbers of its rows."""
    return _numbers(weights.rows)


def _numbers(count: int) -> Int64:
    if count > _MAX_ROWS:
        raise ValueError(f"more than {_MAX_ROWS} rows")
    return np.arange(count)


def e4m3() -> Float32:
    """What the 256 bytes of FP8's E4M3 stand for: no infinities, and S.1111.111 is no number."""
    byte = np.arange(256)
    sign = np.where(byte & 128, -1.0, 1.0)
    exponent, mantissa = byte >> 3 & 15, byte & 7
    small = mantissa / 8 * 2.0**-6
    values = sign * np.where(exponent, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0), small)
    values[[0x7F, 0xFF]] = np.nan
    return values.astype(np.float32)
