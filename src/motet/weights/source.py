"""A model as named tensors and metadata under GGUF's names, whatever files it stands in."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

from motet.arrays import UInt8
from motet.errors import ModelFileError, shown
from motet.weights.formats import TensorType, row_bytes

MetadataValue = int | float | bool | str | list[Any]
ValueType = tuple[int, ...]
"""GGUF's number for the type of a value; of an array, the array's and that of its elements."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor. ``shape`` is in NumPy order, slowest axis first."""

    name: str
    shape: tuple[int, ...]
    type: TensorType

    @property
    def columns(self) -> int:
        """Length of the last axis, along which values are stored in blocks."""
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> int:
        """Product of all the other axes."""
        return prod(self.shape[:-1])

    @property
    def row_bytes(self) -> int:
        return row_bytes(self.type, self.columns)

    @property
    def nbytes(self) -> int:
        return self.rows * self.row_bytes


Source = TypeVar("Source", bound="ModelSource")


class ModelSource(ABC):
    """An open model: a GGUF file, a Hugging Face directory, or one of these in other types.

    Tensors are read when they are asked for, so the files must stay as they are while it is open.
    """

    path: str
    """What was opened."""
    format: str
    """What it stands in, for people: "GGUF version 3"."""
    metadata: Mapping[str, MetadataValue]
    """GGUF's keys, each with an int, float (rounded to float32), bool, str or list."""
    metadata_types: Mapping[str, ValueType]
    """As which type a key is stored, where the files say so; else its value is all there is."""
    tensors: Mapping[str, TensorInfo]
    """By GGUF's names."""
    files: int
    """How many files the weights stand in."""
    nbytes: int
    """Their size together."""

    @property
    def architecture(self) -> str:
        """``general.architecture``. Raises ModelFileError where it is missing or no name."""
        value = self.metadata.get("general.architecture")
        if not isinstance(value, str) or not value:
            raise ModelFileError(
                f"{self.path}: metadata key 'general.architecture' is "
                + ("missing" if value is None else f"{shown(value)}, must be a name"),
                hint="the file does not say which model it holds",
            )
        return value

    def raw(self, name: str) -> UInt8:
        """The bytes of a tensor, uint8 [rows, row_bytes]. Raises as ``read_rows`` does."""
        return self.read_rows(name, 0, self.tensors[name].rows if name in self.tensors else 0)

    @abstractmethod
    def read_rows(self, name: str, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        """Rows ``first`` to ``last`` - 1 of a tensor, in the beginning of ``buffer`` if given.

        Raises ModelFileError if there is no such tensor, or if a file has been closed or cut short.
        """

    @abstractmethod
    def require_unchanged(self) -> None:
        """Raise ModelFileError if a file was written to since it was opened."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the files: metadata and the list of tensors stay. Twice does no harm."""

    def __enter__(self: "Source") -> "Source":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def described(self) -> dict[str, MetadataValue]:
        """Keys that no model needs to run, for a file that is written of it: licence, size, …"""
        return {}

    def missing(self, name: str) -> ModelFileError:
        """The error for a tensor that there is not."""
        return ModelFileError(f"{self.path}: there is no tensor {name!r}")


class ChangedSource(ModelSource):
    """Another source seen with changes; what is not changed is the other's. It closes the other."""

    def __init__(self, source: ModelSource) -> None:
        self.path = source.path
        self.format = source.format
        self.metadata = source.metadata
        self.metadata_types = source.metadata_types
        self.tensors = source.tensors
        self.files = source.files
        self.nbytes = source.nbytes
        self._source = source

    def read_rows(self, name: str, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        return self._source.read_rows(name, first, last, buffer)

    def require_unchanged(self) -> None:
        self._source.require_unchanged()

    def close(self) -> None:
        self._source.close()
