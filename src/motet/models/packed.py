"""Tensors for a packed file, and out of one: what a ``TensorLoader`` gives, without its memory."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from motet.arrays import Float32
from motet.errors import UnsupportedError
from motet.kernels.interface import Kernels, Matrix
from motet.models.tensors import DeclaredMatrix, Progress, TensorLoader, TensorReader
from motet.packed import PackedFile
from motet.packed.header import PackedArray, PackedMatrices, PackedTensor, aligned
from motet.packed.writer import PackedWriter
from motet.weights.source import ModelSource


class TensorPacker(TensorLoader):
    """Writes what it loads, and lets go of matrices: it gives stand-ins, not to be computed with.

    A tensor is held at a time, whatever the model's size.
    """

    def __init__(
        self,
        file: ModelSource,
        kernels: Kernels,
        writer: PackedWriter,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(file, kernels, progress)
        self._writer = writer
        self._forms: dict[str, PackedArray | PackedMatrices] = {}

    def packed(self) -> dict[str, PackedTensor]:
        """Every tensor of the file, as it was written."""
        return {
            name: PackedTensor(info, self.digests.get(name, ""), self._forms.get(name))
            for name, info in self._tensors.items()
        }

    def _array(self, name: str, shape: tuple[int, ...], transposed: bool = False) -> Float32:
        values = super()._array(name, shape, transposed)
        self._forms[name] = PackedArray(values.shape, self._writer.weights(values))
        return values

    def _matrices(
        self,
        name: str,
        shape: tuple[int, ...],
        parts: Sequence[int],
        scales: Sequence[float],
        order: Sequence[int] | None = None,
    ) -> tuple[Matrix, ...]:
        matrices = super()._matrices(name, shape, parts, scales, order)
        piece = self._writer.weights(*map(self._kernels.packed_data, matrices))
        self._forms[name] = PackedMatrices(tuple(parts), shape[-1], piece)
        return tuple(DeclaredMatrix(m.rows, m.columns, m.nbytes) for m in matrices)


class TensorMapper(TensorReader):
    """Tensors of a packed file, where they lie in it. Nothing is copied."""

    def __init__(self, file: PackedFile, kernels: Kernels) -> None:
        """Raises UnsupportedError where the file was packed for other kernels."""
        file.require_layout(kernels.layout)
        super().__init__(file.tensors)
        self.nbytes: dict[str, int] = {}
        """What each tensor that was asked for takes, by its full name."""
        self.digests = {name: each.digest for name, each in file.table.tensors.items() if each.form}
        """Of the bytes of each tensor in the source: see ``weights/fingerprint.py``."""
        self._file = file
        self._kernels = kernels

    def _skip(self, beginnings: tuple[str, ...]) -> None:
        pass

    def ones(self, size: int) -> Float32:
        return np.ones(size, np.float32)

    def _array(self, name: str, shape: tuple[int, ...], transposed: bool = False) -> Float32:
        form = self._file.table.tensors[name].form
        wanted = shape[::-1] if transposed else shape
        if not isinstance(form, PackedArray) or form.shape != wanted:
            raise self._otherwise(name)
        values = self._file.array(wanted, form.piece)
        self.nbytes[name] = values.nbytes
        return values

    def _matrices(
        self,
        name: str,
        shape: tuple[int, ...],
        parts: Sequence[int],
        scales: Sequence[float],
        order: Sequence[int] | None = None,
    ) -> tuple[Matrix, ...]:
        tensor = self._file.table.tensors[name]
        form, type = tensor.form, tensor.info.type
        if not isinstance(form, PackedMatrices) or form.rows != tuple(parts):
            raise self._otherwise(name)
        sizes = [self._kernels.packed_bytes(type, rows, form.columns) for rows in parts]
        starts = [0, *accumulate(map(aligned, sizes))]
        if form.columns != shape[-1] or starts[-2] + sizes[-1] != form.piece.nbytes:
            raise self._otherwise(name)
        data = self._file.weights(form.piece)
        self.nbytes[name] = sum(sizes)
        return tuple(
            self._kernels.packed_matrix(data[start : start + size], type, rows, form.columns, scale)
            for start, size, rows, scale in zip(starts, sizes, parts, scales, strict=False)
        )

    def _otherwise(self, name: str) -> UnsupportedError:
        return UnsupportedError(
            f"{self._file.path}: is stale: tensor {name} is packed otherwise than it is used here",
            hint="pack the model again with motet pack",
        )
