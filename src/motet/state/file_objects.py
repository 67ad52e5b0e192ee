"""Callers' file objects: all the bytes that were asked for, or the reason why not.

They are code of others: whatever they return is checked, and what they raise passes through.
"""

import io
from collections.abc import Callable
from typing import Any, BinaryIO

from motet.errors import OptionError, StateFileError

_PIECE = 1 << 20
"""Bytes that are made room for at once, so that a false length takes no more than the file has."""


class Sink:
    """A file object that is written from here on."""

    def __init__(self, file: BinaryIO) -> None:
        """Raises OptionError for what can't be written."""
        self._write: Any = getattr(file, "write", None)
        if not callable(self._write):
            raise _no_file(file)
        self._takes_all = not isinstance(file, io.RawIOBase)

    def write(self, data: bytes | memoryview) -> None:
        """All of ``data``, in as many writes as it takes."""
        left = memoryview(data)
        while left:
            written = _called(self._write, left)
            if written is None and self._takes_all:
                return
            if not written:
                raise OptionError("the file object takes no more", hint="it has to block")
            left = left[_count("write", written, len(left)) :]


class Source:
    """A file object that is read from here on."""

    def __init__(self, file: BinaryIO) -> None:
        """Raises OptionError for what can't be read."""
        self._readinto: Any = getattr(file, "readinto", None)
        self._read: Any = getattr(file, "read", None)
        if not (callable(self._readinto) or callable(self._read)):
            raise _no_file(file)
        self.read = 0
        """Bytes, so far."""

    def take(self, count: int) -> bytearray:
        """The next ``count`` bytes. Raises StateFileError if there are fewer."""
        out = bytearray()
        while len(out) < count:
            piece = memoryview(bytearray(min(count - len(out), _PIECE)))
            self.fill(piece)
            out += piece
        return out

    def fill(self, buffer: memoryview) -> None:
        """Fill ``buffer`` with the next bytes. Raises StateFileError if there are fewer."""
        at = 0
        while at < len(buffer):
            count = self._some(buffer[at:])
            if not count:
                raise StateFileError(
                    f"is cut short: it ends after {self.read} bytes",
                    hint="an earlier copy may be whole; this one can't be restored",
                )
            at += count
            self.read += count

    def _some(self, buffer: memoryview) -> int:
        if callable(self._readinto):
            count = _called(self._readinto, buffer)
            if count is None:
                raise OptionError("the file object gives nothing yet", hint="it has to block")
            return _count("readinto", count, len(buffer))
        data = _called(self._read, len(buffer))
        if data is None:
            raise OptionError("the file object gives nothing yet", hint="it has to block")
        if not isinstance(data, bytes | bytearray):
            raise OptionError("the file object gives no bytes", hint="open it in binary mode")
        count = _count("read", len(data), len(buffer))
        buffer[:count] = data
        return count


def _called(method: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return method(argument)
    except StopIteration as error:  # which would end our iterators in silence
        raise OptionError(f"the file object raised {error!r}") from error


def _count(call: str, given: object, most: int) -> int:
    """How many bytes a file object says it moved, of ``most``."""
    if not isinstance(given, int) or not 0 <= given <= most:
        raise OptionError(
            f"the file object's {call} returned {str(given)[:40]!r} for {most} bytes",
            hint="it has to return how many it moved",
        )
    return given


def _no_file(given: object) -> OptionError:
    return OptionError(
        f"the file is {str(given)[:80]!r}", hint="give a path, or a file opened in binary mode"
    )
