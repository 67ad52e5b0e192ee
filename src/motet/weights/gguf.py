"""Opening GGUF model files, one or split over several, as named tensors.

The format is described in ggml's ``docs/gguf.md``; versions 2 and 3, little-endian.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from motet.arrays import UInt8
from motet.errors import ModelFileError, UnsupportedError, shown
from motet.weights.cursor import Cursor
from motet.weights.gguf_metadata import read_metadata
from motet.weights.gguf_tensors import GGUFTensor, read_tensors
from motet.weights.identify import describe
from motet.weights.open_file import OpenFile
from motet.weights.source import MetadataValue, ModelSource, ValueType

_MAGIC = b"GGUF"
_DEFAULT_ALIGNMENT = 32
_MAX_ALIGNMENT = 1 << 16
"""What pads between tensors has to be written, and takes room."""
_MAX_HEADER = 1 << 28
"""The most bytes that metadata and tensor table may take; real ones take up to about 40 MB."""
_SPLIT_NAME = re.compile(r"(?P<prefix>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


class GGUFFile(ModelSource):
    """An open GGUF model; keys and tensors are in the file's order.

    ``path``, ``version``, ``alignment``: of the file given (of the first part, if it is split).
    ``stored``: the tensors, with the places where they lie.
    """

    def __init__(self, parts: "list[_Part]") -> None:
        """Of parts already checked against each other; ``open`` is the way to make one."""
        first = parts[0]
        self.path = first.path
        self.version = first.version
        self.alignment = first.alignment
        self.metadata = first.metadata
        self.metadata_types = first.metadata_types
        self.stored = {name: info for part in parts for name, info in part.tensors.items()}
        self.tensors = self.stored
        self.format = f"GGUF version {self.version}"
        self.files = len(parts)
        self.nbytes = sum(part.source.size for part in parts)
        self._sources = {part.path: part.source for part in parts}

    @classmethod
    def open(cls, path: str | Path) -> "GGUFFile":
        """Open ``path``; the first part of a split model opens all the parts beside it.

        Raises ModelFileError, naming the field and the byte, for a file that is missing, of
        another kind, damaged or cut short; UnsupportedError for a GGUF version, byte order or
        tensor type that Motet does not read.
        """
        first = _open_part(str(path))
        count = first.integer("split.count", 1)
        if count <= 1:
            return cls([first])
        return cls(_open_split(first, count))

    def read_rows(self, name: str, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        if name not in self.stored:
            raise self.missing(name)
        info = self.stored[name]
        start, size = info.offset + first * info.row_bytes, (last - first) * info.row_bytes
        data = self._sources[info.path].read(start, size, buffer)
        return data.reshape(last - first, info.row_bytes)

    def require_unchanged(self) -> None:
        for source in self._sources.values():
            source.require_unchanged()

    def close(self) -> None:
        for source in self._sources.values():
            source.close()


@dataclass(frozen=True)
class _Part:
    """One file on disk."""

    path: str
    source: OpenFile
    version: int
    alignment: int
    metadata: dict[str, MetadataValue]
    metadata_types: dict[str, ValueType]
    tensors: dict[str, GGUFTensor]

    def integer(self, key: str, default: int) -> int:
        value = self.metadata.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ModelFileError(
                f"{self.path}: metadata key {key!r} is {shown(value)}, not an integer"
            )
        return value


def _open_part(path: str) -> _Part:
    source = OpenFile(path)
    magic = source.read(0, min(source.size, 64)).tobytes()
    if not magic.startswith(_MAGIC):
        problem, hint = describe(magic, source.size)
        raise ModelFileError(f"{path}: {problem} (byte 0)", hint=hint)
    cursor = Cursor(source, min(source.size, _MAX_HEADER))
    cursor.need(len(_MAGIC), "the magic")
    version = _check_version(cursor)
    tensor_count = cursor.u64("the tensor count")
    key_count = cursor.u64("the metadata key count")
    metadata, types = read_metadata(cursor, key_count)
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if (
        not isinstance(alignment, int)
        or not 8 <= alignment <= _MAX_ALIGNMENT
        or alignment & (alignment - 1)
    ):
        cursor.field = "metadata key 'general.alignment'"
        raise cursor.error(f"{shown(alignment)} is not a power of two from 8 to {_MAX_ALIGNMENT}")
    tensors = read_tensors(cursor, tensor_count, alignment, source.size)
    return _Part(path, source, version, alignment, metadata, types, tensors)


def _check_version(cursor: Cursor) -> int:
    cursor.field = "version"
    at = cursor.position
    version = cursor.u32("the version")
    swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
    if version in (2, 3):
        return version
    if version == 1 or swapped in (1, 2, 3):
        what = "GGUF version 1" if version == 1 else f"big-endian GGUF version {swapped}"
        raise UnsupportedError(
            f"{cursor.path}: {what} is not supported (byte {at})",
            hint="convert the model again to GGUF version 3, little-endian",
        )
    if version > 3 and version < 1 << 16:
        raise UnsupportedError(
            f"{cursor.path}: GGUF version {version} is newer than this Motet reads (byte {at})",
            hint="a newer Motet may read it",
        )
    raise cursor.error(f"{version} is not a GGUF version", at)


def _open_split(first: _Part, count: int) -> list[_Part]:
    """All ``count`` parts of the model that ``first`` is the first part of."""
    named = _SPLIT_NAME.fullmatch(first.path)
    if not named or int(named["count"]) != count:
        raise ModelFileError(
            f"{first.path}: metadata key 'split.count': the model is split into {count} files, but "
            f"the name does not end in -00001-of-{count:05}.gguf",
            hint="give the parts their original names",
        )
    paths = [f"{named['prefix']}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]
    if first.integer("split.no", 0) != 0 or first.path != paths[0]:
        raise ModelFileError(
            f"{first.path}: is not the first part of the model", hint=f"open {paths[0]}"
        )
    parts = [first]
    owners = dict.fromkeys(first.tensors, first.path)
    for number, path in enumerate(paths[1:], start=1):
        if not Path(path).exists():
            raise ModelFileError(
                f"{path}: part {number + 1} of {count} of the model is missing",
                hint=f"put all parts beside {Path(paths[0]).name}",
            )
        part = _open_part(path)
        for key, expected in (("split.no", number), ("split.count", count)):
            if part.integer(key, -1) != expected:
                found = shown(part.metadata.get(key))
                raise ModelFileError(
                    f"{path}: metadata key {key!r} is {found}, expected {expected}"
                )
        for name in part.tensors:
            if name in owners:
                raise ModelFileError(f"{path}: tensor {name!r} is also in {owners[name]}")
            owners[name] = path
        parts.append(part)
    expected = first.integer("split.tensors.count", len(owners))
    if len(owners) != expected:
        raise ModelFileError(
            f"{first.path}: metadata key 'split.tensors.count' is {expected}, but "
            f"the {count} parts hold {len(owners)}"
        )
    return parts
