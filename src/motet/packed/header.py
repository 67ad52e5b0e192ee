"""What stands in a packed file: its first bytes, and the table at its end.

A file is 64 bytes that say where the rest is; weights, each at a multiple of 64 bytes; long lists
of the metadata; the table, JSON, which says what lies where. See docs/packed.md.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeAlias

from motet.bounded_json import parse
from motet.errors import shown
from motet.weights.formats import TensorType
from motet.weights.source import MetadataValue, TensorInfo

MAGIC = b"MOTETPCK"
VERSION = 1
ALIGNMENT = 64
"""Of weights: what kernels want of a matrix."""
BEGINNING = struct.Struct("<8sQQQQ16s8x")
"""Magic, version, where lists, where the table begins, where it ends (the file's size), the
xxh3_128 of lists and table."""
MOST_HEAD = 1 << 28
"""Bytes of lists and table; real ones take up to about 40 MB."""
CHECKED = 1 << 26
"""Bytes of weights that have a digest together."""
_MOST_ENTRIES = 1 << 15
_MOST_TEXT = 1 << 10


@dataclass(frozen=True)
class Piece:
    """Bytes of the file."""

    offset: int
    nbytes: int

    @property
    def end(self) -> int:
        return self.offset + self.nbytes


@dataclass(frozen=True)
class PackedArray:
    """A float32 array, as a family was given it."""

    shape: tuple[int, ...]
    piece: Piece


@dataclass(frozen=True)
class PackedMatrices:
    """Matrices of so many ``rows``, one after the other, each at a multiple of ALIGNMENT."""

    rows: tuple[int, ...]
    columns: int
    piece: Piece


@dataclass(frozen=True)
class PackedList:
    """A long list among the metadata, such as a vocabulary's tokens. ``kind``: see ``lists``."""

    kind: str
    count: int
    piece: Piece


@dataclass(frozen=True)
class PackedTensor:
    """A tensor as the source has it, and what it was packed as; None where no layer uses it.

    ``digest``: of its bytes in the source, by which the model is known (``fingerprint``).
    """

    info: TensorInfo
    digest: str = ""
    form: PackedArray | PackedMatrices | None = None


Metadata: TypeAlias = "Mapping[str, MetadataValue | PackedList]"


@dataclass
class Table:
    """All that a file says beside its pieces.

    ``layout``: that of the kernels it is for. ``made_of``: the source, for people. ``metadata``:
    values, or where lists stand. ``digests``: xxh3_128 in hexadecimal of the weights, of CHECKED
    bytes each, counted from the file's beginning.
    """

    layout: str
    made_of: str
    metadata: dict[str, MetadataValue | PackedList] = field(default_factory=dict)
    tensors: dict[str, PackedTensor] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)

    def weights(self) -> Iterator[tuple[str, Piece]]:
        """Where the weights of each tensor stand."""
        for name, tensor in self.tensors.items():
            if tensor.form is not None:
                yield f"tensor {shown(name)}", tensor.form.piece

    def lists(self) -> Iterator[tuple[str, Piece]]:
        """Where long lists stand."""
        for key, value in self.metadata.items():
            if isinstance(value, PackedList):
                yield f"metadata key {shown(key)}", value.piece


def to_json(table: Table) -> dict[str, Any]:
    """What ``from_json`` reads."""
    return {
        "layout": table.layout,
        "made_of": table.made_of,
        "metadata": [[key, *_value_to_json(value)] for key, value in table.metadata.items()],
        "tensors": [_tensor_to_json(tensor) for tensor in table.tensors.values()],
        "digests": table.digests,
    }


def from_json(text: bytes) -> Table:
    """The table of a file. Raises ValueError, saying of what, for anything that makes no sense."""
    read = _Reader(parse(text))
    table = Table(read.text("layout"), read.text("made_of"))
    for item in read.items("metadata"):
        key, value = item.name(), item.metadata()
        if key in table.metadata:
            raise ValueError(f"metadata key {shown(key)} appears twice")
        table.metadata[key] = value
    for item in read.items("tensors"):
        tensor = item.tensor()
        if tensor.info.name in table.tensors:
            raise ValueError(f"tensor {shown(tensor.info.name)} appears twice")
        table.tensors[tensor.info.name] = tensor
    if len(table.tensors) > _MOST_ENTRIES or len(table.metadata) > _MOST_ENTRIES:
        raise ValueError("it has more entries than any model")
    table.digests = read.texts("digests")
    return table


def check_places(table: Table, lists: int, end: int) -> None:
    """Raise ValueError unless every piece has its place, and to itself.

    ``lists``: the byte at which lists begin, and weights end; ``end``: where lists end.
    """
    _check_between(table.weights(), BEGINNING.size, lists)
    _check_between(table.lists(), lists, end)
    if len(table.digests) != -(-lists // CHECKED):
        raise ValueError(f"it has {len(table.digests)} digests for {lists} bytes of weights")


def _check_between(pieces: Iterator[tuple[str, Piece]], at: int, end: int) -> None:
    before = "what comes before it"
    for name, piece in sorted(pieces, key=lambda each: each[1].offset):
        if piece.offset % ALIGNMENT:
            raise ValueError(f"{name} begins at byte {piece.offset}, no multiple of {ALIGNMENT}")
        if piece.offset < at:
            raise ValueError(f"{name} overlaps {before} at byte {piece.offset}")
        if piece.end > end:
            raise ValueError(f"{name} ends at byte {piece.end}, beyond its part, to {end}")
        at, before = piece.end, name


def aligned(size: int) -> int:
    """``size``, or the next multiple of ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def _value_to_json(value: Any) -> list[Any]:
    if isinstance(value, PackedList):
        return [None, value.kind, value.count, *_piece_to_json(value.piece)]
    return [value]


def _tensor_to_json(tensor: PackedTensor) -> list[Any]:
    info, form = tensor.info, tensor.form
    said = [info.name, int(info.type), list(info.shape), tensor.digest]
    match form:
        case PackedArray():
            return [*said, "array", list(form.shape), *_piece_to_json(form.piece)]
        case PackedMatrices():
            return [*said, "matrices", list(form.rows), form.columns, *_piece_to_json(form.piece)]
        case None:
            return said


def _piece_to_json(piece: Piece) -> list[Any]:
    return [piece.offset, piece.nbytes]


class _Reader:
    """Takes values out of JSON one after the other, each of the kind that it has to be."""

    def __init__(self, value: Any, what: str = "the table") -> None:
        self._value = value
        self._at = 0
        self._what = what

    def text(self, key: str) -> str:
        value = self._value.get(key) if isinstance(self._value, dict) else None
        if not isinstance(value, str) or len(value) > _MOST_TEXT:
            raise ValueError(f"{self._what} has no {key}")
        return value

    def items(self, key: str) -> "Iterator[_Reader]":
        value = self._value.get(key) if isinstance(self._value, dict) else None
        if not isinstance(value, list) or not all(isinstance(item, list) for item in value):
            raise ValueError(f"{self._what} has no {key}")
        return (_Reader(item, f"an entry of {key}") for item in value)

    def texts(self, key: str) -> list[str]:
        value = self._value.get(key) if isinstance(self._value, dict) else None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{self._what} has no {key}")
        return value

    def name(self) -> str:
        name = self._next(str)
        if not 0 < len(name) < 1 << 16:
            raise ValueError(f"{self._what} has no name")
        self._what = f"{self._what}, {shown(name)},"
        return name

    def metadata(self) -> Any:
        value = self._next(object)
        if value is not None:
            self._end()
            if not is_metadata(value):
                raise ValueError(f"{self._what} has {shown(value)}")
            return value
        kind, count = self._next(str), self._number()
        return PackedList(kind, count, self._piece())

    def tensor(self) -> PackedTensor:
        name, number, shape = self.name(), self._number(), self._shape()
        try:
            type = TensorType(number)
        except ValueError:
            raise ValueError(f"{self._what} has the unknown type {number}") from None
        if shape and shape[-1] % type.block:
            raise ValueError(f"{self._what} has rows that are not whole {type.name} blocks")
        info, digest = TensorInfo(name, shape, type), self._next(str)
        if self._at == len(self._value):
            return PackedTensor(info, digest)
        kind = self._next(str)
        if kind == "array":
            array = PackedArray(self._shape(), self._piece())
            if array.piece.nbytes != 4 * prod(array.shape):
                raise ValueError(f"{self._what} has another size than its shape")
            return PackedTensor(info, digest, array)
        if kind != "matrices":
            raise ValueError(f"{self._what} is of the unknown kind {shown(kind)}")
        rows, columns = self._shape(), self._number()
        if not rows or sum(rows) * columns != prod(shape):
            raise ValueError(f"{self._what} has other matrices than its shape")
        return PackedTensor(info, digest, PackedMatrices(rows, columns, self._piece()))

    def _piece(self) -> Piece:
        piece = Piece(self._number(), self._number())
        self._end()
        return piece

    def _shape(self) -> tuple[int, ...]:
        shape = self._next(list)
        if not all(type(size) is int and 0 < size < 1 << 40 for size in shape):
            raise ValueError(f"{self._what} has an impossible shape")
        if prod(shape) >= 1 << 63:
            raise ValueError(f"{self._what} has an impossible shape")
        return tuple(shape)

    def _number(self) -> int:
        number = self._next(int)
        if isinstance(number, bool) or not 0 <= number < 1 << 63:
            raise ValueError(f"{self._what} has {shown(number)}, not a number of bytes or rows")
        return number

    def _next(self, kind: type) -> Any:
        if self._at >= len(self._value) or not isinstance(self._value[self._at], kind):
            raise ValueError(f"{self._what} is not whole")
        self._at += 1
        return self._value[self._at - 1]

    def _end(self) -> None:
        if self._at != len(self._value):
            raise ValueError(f"{self._what} goes on after its end")


def is_metadata(value: Any) -> bool:
    """Whether it is a value as metadata have them."""
    if isinstance(value, list):
        return all(is_metadata(item) for item in value)
    return isinstance(value, str | int | float)
