"""Writing packed files."""

import json
from typing import Any, BinaryIO

import numpy as np

from motet.arrays import Array, UInt8
from motet.packed.header import (
    BEGINNING,
    CHECKED,
    MAGIC,
    VERSION,
    PackedList,
    PackedTensor,
    Piece,
    Table,
    aligned,
    to_json,
)
from motet.packed.lists import LONG, encoded
from motet.replacing import write_all
from motet.weights.source import MetadataValue, ModelSource

_AT_ONCE = 8 << 20
"""Bytes that are written at once, at a multiple of them: so the page cache has them in large pages,
where the file system can, and they are mapped as such."""


class PackedWriter:
    """Writes a file from its beginning to its end: ``weights`` as they come, then ``finish``."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._buffer = np.zeros(_AT_ONCE, np.uint8)
        self._at = BEGINNING.size
        """Bytes written and in the buffer. The beginning's are written last."""
        self._since = self._at
        """Where what has no digest yet begins."""
        self._digests: list[str] = []
        self._digest = _new_digest()

    def weights(self, *parts: Array) -> Piece:
        """Write arrays one after the other, each at a multiple of ALIGNMENT."""
        self._align()
        start = self._at
        for part in parts:
            self._align()
            self._write_weights(np.ascontiguousarray(part).reshape(-1).view(np.uint8))
        return Piece(start, self._at - start)

    def finish(self, source: ModelSource, tensors: dict[str, PackedTensor], layout: str) -> None:
        """Write what is to be said of the ``source``, and where everything is."""
        self._align()
        if self._at > self._since:
            self._end_digest()
        lists, head = self._at, bytearray()
        table = Table(layout, source.format, {}, tensors, self._digests)
        for key, value in source.metadata.items():
            table.metadata[key] = _apart(value, head, lists)
        start = lists + len(head)
        head += json.dumps(to_json(table), separators=(",", ":")).encode()
        self._write(np.frombuffer(head, np.uint8))
        write_all(self._file, self._buffer[: self._at % _AT_ONCE].data)
        self._file.seek(0)
        digest = _new_digest(head).digest()
        beginning = BEGINNING.pack(MAGIC, VERSION, lists, start, self._at, digest)
        write_all(self._file, beginning)

    def _align(self) -> None:
        self._write_weights(np.zeros(aligned(self._at) - self._at, np.uint8))

    def _write_weights(self, data: UInt8) -> None:
        while len(data):
            count = min(len(data), CHECKED - self._at % CHECKED)
            self._digest.update(data[:count].data)
            self._write(data[:count])
            if self._at % CHECKED == 0:
                self._end_digest()
            data = data[count:]

    def _end_digest(self) -> None:
        self._digests.append(self._digest.hexdigest())
        self._digest, self._since = _new_digest(), self._at

    def _write(self, data: UInt8) -> None:
        while len(data):
            place = self._at % _AT_ONCE
            count = min(len(data), _AT_ONCE - place)
            self._buffer[place : place + count] = data[:count]
            self._at += count
            if self._at % _AT_ONCE == 0:
                write_all(self._file, self._buffer.data)
            data = data[count:]


def _apart(value: MetadataValue, head: bytearray, start: int) -> MetadataValue | PackedList:
    """A value as the table has it: a long list goes to ``head``, which begins at ``start``."""
    if not isinstance(value, list) or len(value) < LONG:
        return value
    kind, data = encoded(value)
    piece = Piece(start + len(head), len(data))
    head += data + bytes(aligned(len(data)) - len(data))
    return PackedList(kind, len(value), piece)


def _new_digest(data: bytes | bytearray = b"") -> Any:
    from xxhash import xxh3_128

    return xxh3_128(data)
