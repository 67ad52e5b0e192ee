"""Reading and writing all the bytes asked for, or saying why not."""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from motet.errors import OptionError, StateFileError

_PIECE = 1 << 20
"""Bytes that are made room for at once, so that a false length takes no more than the file has."""


def as_bytes(array: np.ndarray) -> memoryview:
    """The bytes of a contiguous array, which may be empty."""
    data: Any = array.reshape(-1).view(np.uint8)
    return memoryview(data)


class Sink:
    """A file object that is written from here on."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes | memoryview) -> None:
        """All of ``data``, in as many writes as it takes."""
        left = memoryview(data)
        while left:
            written = self._file.write(left)
            if written is None and not isinstance(self._file, io.RawIOBase):
                return
            if not written:
                raise OptionError("the file object takes no more", hint="it has to block")
            left = left[written:]


class Source:
    """A file object that is read from here on."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
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
        file: Any = self._file
        if hasattr(file, "readinto"):
            return file.readinto(buffer) or 0
        data = file.read(len(buffer))
        if not isinstance(data, bytes | None):
            raise OptionError("the file object gives no bytes", hint="open it in binary mode")
        data = data or b""
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def opened_for_reading(file: str | Path | BinaryIO) -> Iterator[tuple[Source, int | None]]:
    """Where to read from, and its size if that is known; errors say which file it is."""
    try:
        if not isinstance(file, str | Path):
            yield Source(file), None
            return
        with _open_regular(Path(file)) as opened:
            yield Source(opened), os.fstat(opened.fileno()).st_size
    except StateFileError as error:
        name = file if isinstance(file, str | Path) else "the state file"
        raise StateFileError(f"{name}: {error.message}", hint=error.hint) from error


def _open_regular(path: Path) -> BinaryIO:
    try:
        # Looked at before it is opened: opening a named pipe would wait for a writer.
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise StateFileError(f"is {kind}", hint="give a file that save wrote")
        return path.open("rb", buffering=0)
    except FileNotFoundError:
        raise StateFileError("there is no such file", hint="check the path") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StateFileError(f"cannot be opened: {reason}") from error
