"""A file's tensors for a family: each is asked for by name and shape, used, or refused.

A family's constructor asks a reader for its tensors. It is run twice: on a ``TensorChecker``, which
finds out whether the file has all of them, in their shapes, and none beyond; then on a
``TensorLoader``, which reads the weights. So names and shapes stand once, where they are used.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from motet.arrays import Float32, UInt8
from motet.errors import ModelFileError, UnsupportedError
from motet.kernels.interface import Kernels, Matrix
from motet.weights.formats import TensorType, dequantize
from motet.weights.source import ModelSource, TensorInfo

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""

EMBEDDING = "token_embd.weight"
POSITIONS = "position_embd.weight"
OUTPUT = "output.weight"
"""Without it, the embedding is the output head."""

_LISTED = 4
"""Tensors that an error names before it counts the rest."""
_ONE = np.ones(1, np.float32)


class TensorReader(ABC):
    """What a family's constructor asks for its tensors, by their GGUF names.

    ``name`` is relative to the block that the reader was made for, if ``block`` made it. Shapes are
    in NumPy's order, outermost first.
    """

    def __init__(self, tensors: Mapping[str, TensorInfo]) -> None:
        self._tensors = tensors
        self._prefix = ""

    def block(self, index: int, half: str = "") -> "TensorReader":
        """The same, for the names within ``blk.index.``; ``half``: of "enc" or "dec" alone."""
        reader = copy(self)
        reader._prefix = f"{half}.blk.{index}." if half else f"blk.{index}."
        return reader

    def has(self, name: str) -> bool:
        """Whether the file has the tensor."""
        return self._prefix + name in self._tensors

    def rows(self, name: str) -> int:
        """How many rows a tensor has in the file; 1 if it is not there."""
        info = self._tensors.get(self._prefix + name)
        return info.rows if info else 1

    def array(self, name: str, *shape: int) -> Float32:
        """A vector or another small tensor, widened to float32."""
        return self._array(self._prefix + name, shape)

    def transposed(self, name: str, rows: int, columns: int) -> Float32:
        """Of an array ``[rows, columns]`` in the file: ``[columns, rows]``, contiguous."""
        return self._array(self._prefix + name, (rows, columns), transposed=True)

    def optional_array(self, name: str, *shape: int) -> Float32 | None:
        """``array``, or None if the file does not have it."""
        return self.array(name, *shape) if self.has(name) else None

    def matrix(self, name: str, rows: int, columns: int, *, scaled: bool = True) -> Matrix:
        """Weights that the kernels pack in a layout of their own.

        ``scaled``: whether a tensor "X.scale" beside "X.weight" is what they are multiplied by;
        not where a family has another use for it.
        """
        scales = self._scales(name, 1) if scaled else (1.0,)
        return self._matrices(self._prefix + name, (rows, columns), (rows,), scales)[0]

    def optional_matrix(self, name: str, rows: int, columns: int) -> Matrix | None:
        """``matrix``, or None if the file does not have it."""
        return self.matrix(name, rows, columns) if self.has(name) else None

    def stacked(
        self, name: str, rows: Sequence[int], columns: int, order: Sequence[int] | None = None
    ) -> tuple[Matrix, ...]:
        """Matrices of so many ``rows`` that stand one above the other in the tensor.

        They are packed apart, so that each product is an array of its own. ``order``: the tensor's
        rows, one after the other as the matrices have them.
        """
        scales = self._scales(name, 1) * len(rows)
        return self._matrices(self._prefix + name, (sum(rows), columns), rows, scales, order)

    def experts(
        self, name: str, count: int, rows: int, columns: int, *, scaled: bool = True
    ) -> tuple[Matrix, ...]:
        """The matrices of a tensor ``[count, rows, columns]``. ``scaled``: as for ``matrix``."""
        scales = self._scales(name, count) if scaled else (1.0,) * count
        return self._matrices(self._prefix + name, (count, rows, columns), (rows,) * count, scales)

    def expert_pairs(
        self, name: str, count: int, rows: int, columns: int
    ) -> tuple[tuple[Matrix, ...], tuple[Matrix, ...]]:
        """The first and the second ``rows`` of each matrix of ``[count, 2 · rows, columns]``."""
        shape = count, 2 * rows, columns
        parts, scales = (rows,) * (2 * count), (1.0,) * (2 * count)
        matrices = self._matrices(self._prefix + name, shape, parts, scales)
        return matrices[::2], matrices[1::2]

    def _scales(self, name: str, count: int) -> tuple[float, ...]:
        """What each of a tensor's matrices is multiplied by: 1 where the file does not say.

        As llama.cpp reads them (``load_tensors`` in src/llama-model.cpp). It has scales of inputs
        too, for those that are rounded to four bits; here inputs have scales of their own.
        """
        stem = name.removesuffix("weight")
        if self.has(stem + "input_scale"):
            self.skip(stem + "input_scale")
        scales = self.optional_array(stem + "scale", count)
        return (1.0,) * count if scales is None else tuple(map(float, scales))

    def skip_blocks(self, first: int, count: int) -> None:
        """The file may have the tensors of blocks that are not run."""
        self._skip(tuple(f"blk.{i}." for i in range(first, first + count)))

    def skip(self, *names: str) -> None:
        """The file may have these tensors, which are not run."""
        self._skip(tuple(self._prefix + name for name in names))

    @abstractmethod
    def _skip(self, beginnings: tuple[str, ...]) -> None:
        """The file may have tensors whose full names begin so."""

    @abstractmethod
    def ones(self, size: int) -> Float32:
        """The weight of a norm that has none."""

    @abstractmethod
    def _array(self, name: str, shape: tuple[int, ...], transposed: bool = False) -> Float32: ...

    @abstractmethod
    def _matrices(
        self,
        name: str,
        shape: tuple[int, ...],
        parts: Sequence[int],
        scales: Sequence[float],
        order: Sequence[int] | None = None,
    ) -> tuple[Matrix, ...]: ...


@dataclass(frozen=True)
class DeclaredMatrix:
    """What a checker gives for a matrix."""

    rows: int
    columns: int
    nbytes: int = 0


class TensorChecker(TensorReader):
    """Records what is asked for, and compares it with what there is. It reads no weights.

    What it gives for arrays and matrices takes no memory, and is not to be computed with.
    """

    def __init__(self, tensors: Mapping[str, TensorInfo]) -> None:
        super().__init__(tensors)
        self.declared: dict[str, tuple[int, ...]] = {}
        """Shapes by full name, in the order in which they were asked for."""
        self._skipped: set[str] = set()
        """Beginnings of names."""

    def _skip(self, beginnings: tuple[str, ...]) -> None:
        self._skipped.update(beginnings)

    def ones(self, size: int) -> Float32:
        return _stand_in((size,))

    def check(self, architecture: str) -> None:
        """Raise unless the file has every tensor asked for, in its shape, and none beyond."""
        missing = [name for name in self.declared if name not in self._tensors]
        known = {
            name: info
            for name, info in self._tensors.items()
            if not name.startswith(tuple(self._skipped))
        }
        unknown = [name for name in known if name not in self.declared]
        others = f"tensors that Motet does not know for {architecture}: {_listed(unknown)}"
        if missing:
            raise ModelFileError(
                f"the file lacks {_listed(missing)}" + (f"; it has {others}" if unknown else ""),
                hint="it is incomplete, or of another architecture than it says",
            )
        if unknown:
            raise UnsupportedError(
                f"the file has {others}",
                hint="they may change the arithmetic, so the model is not run without them",
            )
        for name, info in known.items():
            if _without_ones(info.shape) != _without_ones(self.declared[name]):
                raise ModelFileError(
                    f"tensor {name} has the shape {list(info.shape)}, "
                    f"but the file's keys make it {list(self.declared[name])}"
                )

    def _array(self, name: str, shape: tuple[int, ...], transposed: bool = False) -> Float32:
        self.declared[name] = shape
        return _stand_in(shape[::-1] if transposed else shape)

    def _matrices(
        self,
        name: str,
        shape: tuple[int, ...],
        parts: Sequence[int],
        scales: Sequence[float],
        order: Sequence[int] | None = None,
    ) -> tuple[Matrix, ...]:
        self.declared[name] = shape
        matrices = {rows: DeclaredMatrix(rows, shape[-1]) for rows in set(parts)}
        return tuple(map(matrices.__getitem__, parts))


class TensorLoader(TensorReader):
    """Packs matrices, and widens the rest to float32 arrays, as they are asked for.

    What is packed is digested as it is read, so that the digests are those of the weights in
    memory, whatever becomes of the file.
    """

    def __init__(
        self, file: ModelSource, kernels: Kernels, progress: Progress | None = None
    ) -> None:
        super().__init__(file.tensors)
        self.nbytes: dict[str, int] = {}
        """What each loaded tensor takes, by its full name."""
        self.digests: dict[str, str] = {}
        """Of the bytes of each loaded tensor: see ``weights/fingerprint.py``."""
        self._file = file
        self._kernels = kernels
        self._progress = progress
        self._total = sum(info.nbytes for info in file.tensors.values())
        self._done = [0]
        """Bytes of the tensors read so far, shared by the readers of all blocks."""
        self._buffer = [np.empty(0, np.uint8)]
        """What is read next goes into the same memory, which stays in the processor's cache."""

    def _skip(self, beginnings: tuple[str, ...]) -> None:
        named = (info for name, info in self._tensors.items() if name.startswith(beginnings))
        self._done[0] += sum(info.nbytes for info in named)
        if beginnings and self._progress is not None:
            self._progress(self._done[0], self._total)

    def ones(self, size: int) -> Float32:
        return np.ones(size, np.float32)

    def _array(self, name: str, shape: tuple[int, ...], transposed: bool = False) -> Float32:
        with self._reading(name) as (info, rows):
            values = dequantize(rows[0 : info.rows], info.type).reshape(shape)
        self.nbytes[name] = values.nbytes
        return np.ascontiguousarray(np.transpose(values)) if transposed else values

    def _matrices(
        self,
        name: str,
        shape: tuple[int, ...],
        parts: Sequence[int],
        scales: Sequence[float],
        order: Sequence[int] | None = None,
    ) -> tuple[Matrix, ...]:
        with self._reading(name) as (info, rows):
            if order is not None:
                taken = rows[0 : info.rows][list(order)]
                rows = _FileRows(lambda first, last: taken[first:last])
            matrices = tuple(
                self._kernels.pack(rows.after(start), info.type, part, info.columns, scale)
                for start, part, scale in zip(
                    accumulate(parts, initial=0), parts, scales, strict=False
                )
            )
        self.nbytes[name] = sum(matrix.nbytes for matrix in matrices)
        return matrices

    def _buffer_of(self, size: int) -> UInt8:
        if len(self._buffer[0]) < size:
            self._buffer[0] = np.empty(size, np.uint8)
        return self._buffer[0]

    @contextmanager
    def _reading(self, name: str) -> Generator[tuple[TensorInfo, "_FileRows"], None, None]:
        """A tensor, and its rows, all of which are to be read in order."""
        from xxhash import xxh3_128

        info, digest, done = self._tensors[name], xxh3_128(), [0]

        def read(first: int, last: int) -> UInt8:
            assert first == done[0], "rows are digested in order"
            buffer = self._buffer_of((last - first) * info.row_bytes)
            raw = self._file.read_rows(name, first, last, buffer)
            digest.update(raw.data)
            done[0] = last
            if self._progress is not None:
                self._progress(self._done[0] + last * info.row_bytes, self._total)
            return raw

        try:
            yield info, _FileRows(read)
        except UnsupportedError as error:
            raise UnsupportedError(f"tensor {name}: {error.message}", hint=error.hint) from error
        assert done[0] == info.rows
        self.digests[name] = digest.hexdigest()
        self._done[0] += info.nbytes


class _FileRows:
    """Rows of a tensor from row ``start`` on, read where they are sliced."""

    def __init__(self, read: Callable[[int, int], UInt8], start: int = 0) -> None:
        self._read = read
        self._start = start

    def __getitem__(self, rows: slice) -> UInt8:
        return self._read(self._start + rows.start, self._start + rows.stop)

    def after(self, start: int) -> "_FileRows":
        return _FileRows(self._read, self._start + start)


def packed_bytes(file: ModelSource, kernels: Kernels) -> int:
    """What the weights of a file will take in memory.

    A tensor of one row counts as an array, any other as a matrix: families know better, but what
    that makes is small.
    """
    return sum(
        kernels.packed_bytes(info.type, info.rows, info.columns)
        if info.rows > 1
        else 4 * info.columns
        for info in file.tensors.values()
    )


def only_f32(file: ModelSource) -> bool:
    """Whether every matrix of the file is F32."""
    return all(i.type == TensorType.F32 for i in file.tensors.values() if len(i.shape) >= 2)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without outermost axes of one, which some files give and others leave out."""
    ones = next((i for i, length in enumerate(shape) if length != 1), len(shape))
    return shape[ones:]


def _stand_in(shape: tuple[int, ...]) -> Float32:
    return np.broadcast_to(_ONE, shape)


def _listed(names: list[str]) -> str:
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
