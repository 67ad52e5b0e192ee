"""Importance matrices of before GGUF: llama-imatrix's ``.dat``.

A count of entries; of each its name, in how many calls it was seen, and its values, each the mean
square times the calls; then, as a rule, chunks and the name of the text. All are int32 or float32.
"""

import struct
from dataclasses import dataclass

import numpy as np

from motet.arrays import Float32
from motet.errors import ModelFileError, shown
from motet.weights.open_file import OpenFile

_INT = struct.Struct("<i")
_LARGEST = 1 << 31
_HINT = "give a file that motet imatrix or llama-imatrix wrote"


@dataclass(frozen=True)
class Legacy:
    """What the file says; of each tensor the calls and the values, ``[n]``."""

    entries: dict[str, tuple[int, Float32]]
    chunks: int
    datasets: tuple[str, ...]


def read_legacy(file: OpenFile) -> Legacy:
    """Raises ModelFileError for a file that is cut short, damaged or something else."""
    if file.size > _LARGEST:
        raise ModelFileError(f"{file.path}: is too large for an importance matrix", hint=_HINT)
    reader = _Reader(file)
    entries: dict[str, tuple[int, Float32]] = {}
    for _ in range(reader.count("entries", 1)):
        name = reader.text("a name")
        calls = reader.count("calls")
        size = reader.count("values", 1)
        if not name or name in entries:
            raise reader.error(f"the name {shown(name)} is empty or comes twice")
        entries[name] = calls, np.frombuffer(reader.take(4 * size), np.float32)
    chunks, datasets = 0, ()
    if reader.left:
        chunks = reader.count("chunks")
        dataset = reader.text("the text's name")
        datasets = (dataset,) if dataset else ()
    if reader.left:
        raise reader.error(f"{reader.left} bytes follow the end")
    return Legacy(entries, chunks, datasets)


class _Reader:
    def __init__(self, file: OpenFile) -> None:
        self._path = file.path
        self._data = file.read(0, file.size).tobytes()
        self._position = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._position

    def error(self, problem: str) -> ModelFileError:
        where = f"{self._path}: is no importance matrix, or a damaged one"
        return ModelFileError(f"{where}: {problem} (byte {self._position})", hint=_HINT)

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise self.error(f"{size} bytes are expected, {self.left} are left")
        self._position += size
        return self._data[self._position - size : self._position]

    def count(self, what: str, least: int = 0) -> int:
        number: int = _INT.unpack(self.take(_INT.size))[0]
        if number < least:
            raise self.error(f"{number} {what}")
        return number

    def text(self, what: str) -> str:
        raw = self.take(self.count(f"bytes of {what}"))
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.error(f"{what} {shown(raw)} is not UTF-8") from None
