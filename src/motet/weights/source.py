"""A model as named tensors and metadata under GGUF's names, whatever files it stands in."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

from motet.arrays import UInt8
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


class ModelSource(Protocol):
    """An open model: a GGUF file, a Hugging Face directory, or one of these in other types.

    ``metadata``: GGUF's keys, each with an int, float (rounded to float32), bool, str or list.
    ``tensors``: by GGUF's names. ``path``: what was opened. ``files``: how many files the weights
    stand in; ``nbytes``: their size together.

    Tensors are read when they are asked for, so the files must stay as they are while it is open.
    """

    @property
    def path(self) -> str: ...
    @property
    def format(self) -> str:
        """What it stands in, for people: "GGUF version 3"."""
        ...

    @property
    def metadata(self) -> Mapping[str, MetadataValue]: ...
    @property
    def metadata_types(self) -> Mapping[str, ValueType]:
        """As which type a key is stored, where the files say so; else its value is all there is."""
        ...

    @property
    def tensors(self) -> Mapping[str, TensorInfo]: ...
    @property
    def files(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def architecture(self) -> str:
        """The value of ``general.architecture``."""
        ...

    def raw(self, name: str) -> UInt8:
        """The bytes of a tensor, uint8 [rows, row_bytes]. Raises as ``read_rows`` does."""
        ...

    def read_rows(self, name: str, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        """Rows ``first`` to ``last`` - 1 of a tensor, in the beginning of ``buffer`` if given.

        Raises ModelFileError if there is no such tensor, or if a file has been closed or cut short.
        """
        ...

    def require_unchanged(self) -> None:
        """Raise ModelFileError if a file was written to since it was opened."""
        ...

    def close(self) -> None:
        """Let go of the files: metadata and the list of tensors stay."""
        ...

    def __enter__(self) -> "ModelSource": ...
    def __exit__(self, *error: object) -> None: ...
