"""A file that is read by copying: where it is cut short meanwhile, that is an error and no signal.

A memory map would end the process instead (SIGBUS), whoever touches the missing page; only packed
files are mapped (docs/packed.md).
"""

import mmap
import os
import stat
import weakref
from contextlib import suppress
from pathlib import Path

import numpy as np

from motet.arrays import UInt8
from motet.errors import ModelFileError
from motet.system import path_of
from motet.weights.identify import describe, describe_directory

_WAIT = "wait until nothing writes to it any more, then load it again"


class OpenFile:
    """An open regular file. ``size``: when it was opened."""

    def __init__(self, path: str) -> None:
        """Raises ModelFileError for what is missing, empty or no regular file."""
        self.path = path
        self._descriptor, self._opened = _open(path)
        self._close = weakref.finalize(self, os.close, self._descriptor)
        self.size = self._opened.st_size

    def read(self, start: int, size: int, buffer: UInt8 | None = None) -> UInt8:
        """``size`` bytes from byte ``start`` on, in the beginning of ``buffer`` if one is given.

        Raises ModelFileError if the file does not have them (any more), or has been closed.
        """
        if not self._close.alive:
            raise ModelFileError(f"{self.path}: the file has been closed")
        data = np.empty(size, np.uint8) if buffer is None else buffer[:size]
        done = 0
        while done < size:
            try:
                count = os.preadv(self._descriptor, [data.data[done:]], start + done)
            except OSError as error:
                raise ModelFileError(
                    f"{self.path}: cannot be read: {error.strerror} (byte {start + done})"
                ) from error
            if not count:
                left = os.fstat(self._descriptor).st_size
                raise ModelFileError(
                    f"{self.path}: was cut short while it was read: of {self.size} bytes {left}"
                    " are left",
                    hint=_WAIT,
                )
            done += count
        return data

    def mapped(self) -> UInt8:
        """All of the file, in large pages where the system has them; it can't be written.

        It stays mapped after ``close``, for as long as something looks at it. Raises
        ModelFileError where the file system maps no files, or addresses are limited.
        """
        try:
            view = mmap.mmap(self._descriptor, self.size, mmap.MAP_SHARED, mmap.PROT_READ)
        except (OSError, ValueError) as error:
            raise ModelFileError(
                f"{self.path}: cannot be mapped into memory: {error}",
                hint="raise the limit of addresses (ulimit -v), or use the model that it is of",
            ) from error
        with suppress(OSError, AttributeError):  # a system without large pages
            view.madvise(mmap.MADV_HUGEPAGE)
        return np.frombuffer(view, np.uint8)

    def place(self) -> str:
        """Where the open file really lies, whatever its name leads to by now."""
        return path_of(self._descriptor)

    def require_unchanged(self) -> None:
        """Raise ModelFileError if the file was written to since it was opened."""
        now = os.fstat(self._descriptor)
        if (now.st_size, now.st_mtime_ns) != (self.size, self._opened.st_mtime_ns):
            raise ModelFileError(f"{self.path}: was changed while it was read", hint=_WAIT)

    def close(self) -> None:
        """Nothing can be read any more. Closing twice does no harm."""
        self._close()


def _open(path: str) -> tuple[int, os.stat_result]:
    try:
        # Not to wait for the writer of a named pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ModelFileError(f"{path}: there is no such file", hint="check the path") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelFileError(f"{path!r}: cannot be opened: {reason}") from error
    try:
        status = os.fstat(descriptor)
        _require_regular(path, status)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status


def _require_regular(path: str, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        problem, hint = describe_directory(Path(path))
        raise ModelFileError(f"{path}: {problem}", hint=hint)
    if not stat.S_ISREG(status.st_mode):
        raise ModelFileError(f"{path}: is not a regular file")
    if not status.st_size:
        problem, hint = describe(b"", 0)
        raise ModelFileError(f"{path}: {problem} (byte 0)", hint=hint)
