"""The key-value part of a GGUF file."""

import struct

import numpy as np

from motet.errors import shown
from motet.weights.cursor import Cursor
from motet.weights.source import MetadataValue, ValueType

MAX_KEYS = 1 << 16
MAX_ELEMENTS = 1 << 22
MAX_NESTED = 1 << 12
"""Limits far above any real file (a vocabulary of 262k tokens has 1.3 million array elements, and
arrays within arrays are as good as unknown), so that a damaged count in a large file cannot fill
the memory with weights read as metadata, nor take long."""
_MAX_DEPTH = 4

_NUMBERS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_UINT32 = 4
_BOOL = 7
_STRING = 8
_ARRAY = 9
_SMALLEST_PAIR = 8 + 1 + 4 + 1  # a key of one byte, its type, and a value of one byte
_LENGTH = struct.Struct("<Q")


def read_metadata(
    cursor: Cursor, count: int
) -> tuple[dict[str, MetadataValue], dict[str, ValueType]]:
    """``count`` pairs, in the file's order, and as which type each value is stored.

    Arrays become lists of int, float, bool, str or lists.

    A string that is not UTF-8 (some vocabularies hold raw bytes) keeps its bytes as surrogates:
    ``value.encode("utf-8", "surrogateescape")`` gives them back.

    Raises ModelFileError for a pair that is cut short, repeated, mistyped or absurdly large.
    """
    cursor.field = "metadata key count"
    cursor.check_count(count, "keys", _SMALLEST_PAIR, MAX_KEYS)
    reader = _Reader(cursor)
    metadata: dict[str, MetadataValue] = {}
    types: dict[str, ValueType] = {}
    for index in range(count):
        cursor.field = f"metadata key {index}"
        start = cursor.position
        key = cursor.name("the key")
        cursor.field = f"metadata key {shown(key)}"
        if key in metadata:
            raise cursor.error("appears twice", at=start)
        at = cursor.position
        kind = cursor.u32("the value's type")
        if key == "general.alignment" and kind != _UINT32:
            raise cursor.error(f"has value type {kind}, must be {_UINT32} (uint32)", at=at)
        metadata[key] = reader.value(kind, at)
        types[key] = (kind, reader.element) if kind == _ARRAY else (kind,)
    return metadata, types


class _Reader:
    """Values of one file; counts what was read so far."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._elements = 0
        """Of arrays."""
        self._nested = 0
        """Arrays that are elements."""
        self.element = 0
        """Of the last array, the type of its elements."""

    def value(self, kind: int, kind_at: int) -> MetadataValue:
        if kind == _ARRAY:
            return self._array(1)
        if kind == _STRING:
            return self._strings(1)[0]
        return self._scalars(kind, kind_at, 1)[0]

    def _array(self, depth: int) -> list:
        cursor = self._cursor
        kind_at = cursor.position
        kind = cursor.u32("the array's element type")
        count_at = cursor.position
        count = cursor.u64("the array's length")
        self._elements += count
        if self._elements > MAX_ELEMENTS:
            raise cursor.error(
                f"an array of {count} elements is past the limit of {MAX_ELEMENTS} in all",
                at=count_at,
            )
        if depth == 1:
            self.element = kind
        if kind == _STRING:
            return self._strings(count)
        if kind == _ARRAY:
            if depth == _MAX_DEPTH:
                raise cursor.error(f"arrays nest deeper than {_MAX_DEPTH}", at=kind_at)
            self._nested += count
            if self._nested > MAX_NESTED:
                raise cursor.error(
                    f"{count} arrays in an array are past the limit of {MAX_NESTED} in all",
                    at=count_at,
                )
            self._check_room(count, 12)
            return [self._array(depth + 1) for _ in range(count)]
        return self._scalars(kind, kind_at, count)

    def _scalars(self, kind: int, kind_at: int, count: int) -> list:
        cursor = self._cursor
        if kind == _BOOL:
            start = cursor.need(count, "the value")
            flags = np.frombuffer(cursor.data, np.uint8, count, start)
            if flags.size and flags.max() > 1:
                at = start + int(np.argmax(flags > 1))
                raise cursor.error(f"a bool of {cursor.data[at]}, must be 0 or 1", at=at)
            return flags.astype(bool).tolist()
        if kind not in _NUMBERS:
            raise cursor.error(f"unknown value type {kind}", at=kind_at)
        dtype = np.dtype(_NUMBERS[kind])
        start = cursor.need(count * dtype.itemsize, "the value")
        return np.frombuffer(cursor.data, dtype, count, start).tolist()

    def _strings(self, count: int) -> list[str]:
        """Much the longest part of a vocabulary, so one loop with nothing but locals in it."""
        cursor = self._cursor
        self._check_room(count, _LENGTH.size)
        data, length = cursor.data, _LENGTH.unpack_from
        have, position = len(data), cursor.position
        strings: list[str] = []
        for index in range(count):
            start = position + 8
            if start > have:
                data = self._reach(position, start, index)
                have = len(data)
            position = start + length(data, position)[0]
            if position > have:
                data = self._reach(start, position, index)
                have = len(data)
            strings.append(data[start:position].decode("utf-8", "surrogateescape"))
        cursor.position = position
        return strings

    def _check_room(self, count: int, least: int) -> None:
        """Refuse a count that cannot be true, before anything is made for it."""
        left = self._cursor.end - self._cursor.position
        if count > left // least:
            raise self._cursor.error(
                f"{count} elements of at least {least} bytes, but only {left} bytes are left",
                at=self._cursor.position - 8,
                hint="the file is cut short or damaged; fetch it again",
            )

    def _reach(self, start: int, end: int, index: int) -> bytes:
        """The cursor's data, once it has all of a string from byte ``start`` to ``end``."""
        self._cursor.position = start
        self._cursor.need(end - start, f"string {index}")
        return self._cursor.data
