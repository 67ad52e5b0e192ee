"""Reading little-endian fields one after another, never past the end of what is there."""

import struct

from motet.errors import ModelFileError, shown
from motet.weights.open_file import OpenFile

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_READ_FIRST = 1 << 20
_LONGEST_NAME = (1 << 16) - 1
"""GGUF's limit on keys; tensors' names are shorter."""


class Cursor:
    """A position in the header of a model file. Every read is checked before it is made.

    ``field`` describes what is being read, for the error that names it; the reader sets it.
    ``end`` is one past the last byte that the header may use. ``data`` is the beginning of the
    file, as far as it was needed.
    """

    def __init__(self, source: OpenFile, end: int) -> None:
        self.data = b""
        self.path = source.path
        self.end = end
        self.position = 0
        self._source = source
        self.field = "the header"

    def error(self, problem: str, at: int | None = None, hint: str = "") -> ModelFileError:
        """The error for ``problem`` in the current field, at byte ``at`` (here, if not given)."""
        where = self.position if at is None else at
        return ModelFileError(f"{self.path}: {self.field}: {problem} (byte {where})", hint=hint)

    def need(self, size: int, what: str) -> int:
        """Claim the next ``size`` bytes; returns the position of the first and moves past them."""
        start = self.position
        if size > self.end - start:
            raise self.error(
                f"{what} takes {size} bytes, but only {self.end - start} are left for it",
                hint="the file is cut short or damaged; fetch it again",
            )
        self.position = start + size
        if self.position > len(self.data):
            self._read_on()
        return start

    def _read_on(self) -> None:
        """Read up to the position, and half of what comes of it in advance."""
        have = len(self.data)
        upto = min(max(self.position, 2 * have, _READ_FIRST), self.end)
        self.data = b"".join((self.data, self._source.read(have, upto - have).data))

    def check_count(self, count: int, what: str, smallest: int, most: int) -> None:
        """Refuse more things, of at least ``smallest`` bytes, than are there, or than ``most``."""
        if count > (self.end - self.position) // smallest:
            raise self.error(f"{count} {what} are more than the file can hold")
        if count > most:
            raise self.error(f"{count} {what} are past the limit of {most}")

    def u32(self, what: str) -> int:
        start = self.need(4, what)
        return _U32.unpack_from(self.data, start)[0]

    def u64(self, what: str) -> int:
        start = self.need(8, what)
        return _U64.unpack_from(self.data, start)[0]

    def name(self, what: str) -> str:
        """A string that names something: not empty, not endless, and UTF-8."""
        start = self.position
        size = self.u64(f"{what}'s length")
        if not size:
            raise self.error(f"{what} is empty", at=start)
        if size > _LONGEST_NAME and size <= self.end - self.position:
            raise self.error(
                f"{what} takes {size} bytes, at most {_LONGEST_NAME} are allowed", start
            )
        at = self.need(size, what)
        raw = self.data[at : at + size]
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.error(f"{what} {shown(raw)} is not UTF-8", at=start) from None
