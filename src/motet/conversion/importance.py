"""Importance matrices: how much each column of each tensor matters, as llama.cpp's files have it.

The error of a quantised weight reaches the output multiplied by the weight's input. A column's
importance is the mean of the squares of its inputs over a text, by which its errors are weighed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motet.arrays import Float32, Int64, UInt8
from motet.conversion.legacy_importance import read_legacy
from motet.errors import ModelFileError, shown
from motet.weights.formats import TensorType
from motet.weights.gguf import GGUFFile
from motet.weights.gguf_writer import write
from motet.weights.open_file import OpenFile
from motet.weights.source import MetadataValue, ModelSource, TensorInfo

_SUMS, _COUNTS = ".in_sum2", ".counts"
_MOST_COUNTS = 1 << 53
_DATASETS, _CHUNKS, _CHUNK_SIZE = (
    f"imatrix.{name}" for name in ("datasets", "chunk_count", "chunk_size")
)
_MAGIC = b"GGUF"


@dataclass(frozen=True)
class Entry:
    """Of one tensor."""

    sums: Float32
    """``[counts, n]``: of squares, for each column."""
    counts: Int64
    """``[counts]``: of the inputs that were seen; one for each expert, else one alone."""

    @property
    def means(self) -> Float32:
        """``[counts, n]``: mean squares; ones for an expert that saw no input."""
        seen = self.counts > 0
        counts = np.where(seen, self.counts, 1).astype(np.float32)
        return np.where(seen[:, None], self.sums / counts[:, None], np.float32(1))


@dataclass(frozen=True)
class ImportanceMatrix:
    """``entries`` by tensor; ``datasets``: the texts that it was made of, in ``chunks`` of
    ``chunk_size`` tokens (0 where the file does not say); ``path``: where it was read."""

    entries: Mapping[str, Entry]
    datasets: tuple[str, ...]
    chunks: int
    chunk_size: int
    path: str = ""

    @classmethod
    def read(cls, path: str | Path) -> "ImportanceMatrix":
        """Read a file of ``motet imatrix`` or llama-imatrix, GGUF or its older ``.dat``.

        Raises ModelFileError for what is missing, damaged or something else.
        """
        file = OpenFile(str(path))
        try:
            begins = file.read(0, min(4, file.size)).tobytes()
            found = cls._read_gguf(str(path)) if begins == _MAGIC else cls._read_legacy(file)
        finally:
            file.close()
        for name, entry in found.entries.items():
            fine = np.isfinite(entry.sums) & (entry.sums >= 0)
            if not fine.all():
                value = entry.sums[~fine][0]
                raise ModelFileError(
                    f"{path}: the importance of {name} has the value {value}, and a sum of squares"
                    " is a finite number from 0 up",
                    hint="make it again",
                )
        return found

    @classmethod
    def _read_gguf(cls, path: str) -> "ImportanceMatrix":
        with GGUFFile.open(path) as file:
            names = [n.removesuffix(_SUMS) for n in file.tensors if n.endswith(_SUMS)]
            if not names:
                raise ModelFileError(f"{path}: is GGUF, but no importance matrix")
            entries = {name: _entry(file, name) for name in names}
            datasets = file.metadata.get(_DATASETS, [])
            sizes = [file.metadata.get(key, 0) for key in (_CHUNKS, _CHUNK_SIZE)]
        if not isinstance(datasets, list) or not all(isinstance(each, str) for each in datasets):
            raise ModelFileError(f"{path}: metadata key {_DATASETS!r} is {shown(datasets)}")
        chunks, chunk_size = (size if isinstance(size, int) else 0 for size in sizes)
        return cls(entries, tuple(datasets), chunks, chunk_size, path)

    @classmethod
    def _read_legacy(cls, file: OpenFile) -> "ImportanceMatrix":
        legacy = read_legacy(file)
        entries = {
            name: Entry(values[None], np.array([max(calls, 1)]))
            for name, (calls, values) in legacy.entries.items()
        }
        return cls(entries, legacy.datasets, legacy.chunks, 0, file.path)

    def write(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write it as GGUF, in the form of llama-imatrix. Raises as ``gguf_writer.write``."""
        write(_AsSource(self), path, overwrite=overwrite)

    def weights_for(self, source: ModelSource, names: Collection[str]) -> dict[str, Float32]:
        """What errors in the tensors ``names`` are weighed by: ``[matrices, columns]`` of each.

        Raises ModelFileError for a matrix of another model: one that has tensors which ``source``
        lacks, or other sizes.
        """
        weights: dict[str, Float32] = {}
        for name, entry in self.entries.items():
            info = source.tensors.get(name)
            hint = "make one of the model that is quantised"
            if info is None:
                raise ModelFileError(
                    f"{self.path}: has an importance of {name}, which {source.path} lacks",
                    hint=hint,
                )
            matrices = info.rows // info.shape[-2] if len(info.shape) > 2 else 1
            if entry.sums.size != matrices * info.columns:
                raise ModelFileError(
                    f"{self.path}: has {entry.sums.size} values for {name}, and in {source.path}"
                    f" it has {matrices * info.columns} columns",
                    hint=hint,
                )
            if name in names:
                weights[name] = entry.means.reshape(matrices, info.columns)
        return weights

    def keys(self) -> dict[str, MetadataValue]:
        """What a file that is made with it says of it."""
        keys: dict[str, MetadataValue] = {"quantize.imatrix.file": self.path}
        if self.datasets:
            keys["quantize.imatrix.dataset"] = self.datasets[0]
        keys["quantize.imatrix.entries_count"] = len(self.entries)
        if self.chunks:
            keys["quantize.imatrix.chunks_count"] = self.chunks
        return keys


class _AsSource(ModelSource):
    """An importance matrix as a model to be written: two tensors for each entry."""

    format = "importance matrix"
    files = 0

    def __init__(self, matrix: ImportanceMatrix) -> None:
        self.path = matrix.path
        self.metadata = {
            "general.type": "imatrix",
            _DATASETS: list(matrix.datasets),
            _CHUNKS: matrix.chunks,
            _CHUNK_SIZE: matrix.chunk_size,
        }
        self.metadata_types = {}
        self._arrays: dict[str, Float32] = {}
        for name, entry in sorted(matrix.entries.items()):
            self._arrays[name + _SUMS] = entry.sums
            self._arrays[name + _COUNTS] = entry.counts[:, None].astype(np.float32)
        self.tensors = {
            name: TensorInfo(name, array.shape, TensorType.F32)
            for name, array in self._arrays.items()
        }
        self.nbytes = sum(info.nbytes for info in self.tensors.values())

    @property
    def architecture(self) -> str:
        """It belongs to no architecture's names."""
        return ""

    def read_rows(self, name: str, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        return np.ascontiguousarray(self._arrays[name][first:last]).view(np.uint8)

    def require_unchanged(self) -> None:
        """Nothing else has it."""

    def close(self) -> None:
        """There is nothing to let go of."""


def _entry(file: GGUFFile, name: str) -> Entry:
    counts = file.tensors.get(name + _COUNTS)
    sums = file.tensors[name + _SUMS]
    if counts is None:
        raise ModelFileError(f"{file.path}: has {sums.name}, but no {name}{_COUNTS}")
    size = counts.rows * counts.columns
    for info in (sums, counts):
        if info.type is not TensorType.F32:
            raise ModelFileError(f"{file.path}: {info.name} is {info.type.name}, must be F32")
    if sums.rows * sums.columns % size:
        raise ModelFileError(
            f"{file.path}: {sums.name} has {sums.rows * sums.columns} values for {size} counts"
        )
    seen = file.raw(counts.name).view(np.float32).reshape(-1)
    if not ((seen >= 0) & (seen <= _MOST_COUNTS) & (seen == np.round(seen))).all():
        raise ModelFileError(f"{file.path}: {counts.name} has something else than counts")
    return Entry(file.raw(sums.name).view(np.float32).reshape(size, -1), seen.astype(np.int64))
