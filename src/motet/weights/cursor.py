"""Reading little-endian fields one after another, never past the end of what is there."""

import mmap
import struct

from motet.errors import ModelFileError

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class Cursor:
    """A position in the header of a model file. Every read is checked before it is made.

    ``field`` describes what is being read, for the error that names it; the reader sets it.
    ``end`` is one past the last byte that the header may use.
    """

    def __init__(self, data: mmap.mmap, path: str, end: int) -> None:
        self.data = data
        self.path = path
        self.end = end
        self.position = 0
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
        return start

    def u32(self, what: str) -> int:
        start = self.need(4, what)
        return _U32.unpack_from(self.data, start)[0]

    def u64(self, what: str) -> int:
        start = self.need(8, what)
        return _U64.unpack_from(self.data, start)[0]

    def bytes(self, what: str) -> bytes:
        """A string's bytes: a 64-bit length, then that many bytes."""
        size = self.u64(f"{what}'s length")
        start = self.need(size, what)
        return self.data[start : start + size]

    def name(self, what: str) -> str:
        """A string that names something: not empty, and UTF-8."""
        start = self.position
        raw = self.bytes(what)
        if not raw:
            raise self.error(f"{what} is empty", at=start)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.error(f"{what} {raw[:40]!r} is not UTF-8", at=start) from None
