"""Bytes of state files: files replaced as one, all the bytes asked for or the reason why not, and
rows moved between memory and a file in large blocks, several at once.

Helper threads gather rows from where they lie, or scatter them to where they belong; the caller's
thread, which alone touches the file, writes or reads other blocks meanwhile. The arrays are never
copied as a whole.
"""

import io
import os
import secrets
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from motet.arrays import Array, Int64
from motet.errors import OptionError, StateFileError
from motet.kernels import Kernels
from motet.memory.saved import Places

_PIECE = 1 << 20
"""Bytes that are made room for at once, so that a false length takes no more than the file has."""
_BLOCK = 2 << 20
"""Bytes of rows that are moved at once; few enough to stay in a core's cache."""
_THREADS = 2
_AHEAD = 4
"""Blocks that are on the way at most."""
_READ_WRITE = 0o666
"""Less what the process's umask takes away."""


def as_bytes(array: Array) -> memoryview:
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


@contextmanager
def opened_for_writing(file: str | Path | BinaryIO) -> Iterator[BinaryIO]:
    """The file object given, or the file at a path, as ``replacing`` makes it."""
    if not isinstance(file, str | Path):
        yield file
        return
    with replacing(Path(file)) as opened:
        yield opened


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file, to be written from beginning to end, that takes the place of ``path``.

    It has no name until it is complete and on the disk, where the file system can do that, so
    that not even a killed process leaves it behind. When the block raises, or the disk fails,
    ``path`` is as before. A new file has the permissions of the one that it replaces. Raises
    StateFileError where ``path`` cannot be written.
    """
    with _explained(path, OSError, ValueError):
        target = Path(os.path.realpath(path))
        mode = _mode_of(target, path)
        beside = target.parent / f".{target.name[:200]}.{secrets.token_hex(6)}.tmp"
        descriptor = _open_nameless(target.parent)
        named = descriptor is None
        if descriptor is None:
            descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL, _READ_WRITE)
    try:
        with _explained(path, OSError), os.fdopen(descriptor, "wb", 0) as file:
            yield file
            if mode is not None:
                os.fchmod(descriptor, mode)
            os.fsync(descriptor)
            if not named:
                named = True
                _name(descriptor, beside)
            beside.replace(target)
            named = False
            with _directory(target.parent) as folder:
                os.fsync(folder)
    finally:
        if named:
            with suppress(OSError):
                beside.unlink()


def _mode_of(target: Path, path: Path) -> int | None:
    """Permissions of the file at ``target``; None where there is none."""
    try:
        found = target.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found):
        raise StateFileError(f"{path}: is a directory", hint="give the name of a file in it")
    if not stat.S_ISREG(found):
        raise StateFileError(
            f"{path}: is not a regular file", hint="open it, and give the open file instead"
        )
    return stat.S_IMODE(found)


def _open_nameless(directory: Path) -> int | None:
    """A file without a name in ``directory``; None where the system has no such files."""
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None or not Path("/proc/self/fd").is_dir():
        return None
    try:
        return os.open(directory, os.O_RDWR | flag, _READ_WRITE)
    except OSError:  # also what is wrong with the directory, which opening by name will tell
        return None


def _name(descriptor: int, path: Path) -> None:
    with _directory(path.parent) as folder:  # given a directory, Python follows the link in /proc
        os.link(f"/proc/self/fd/{descriptor}", path.name, dst_dir_fd=folder, follow_symlinks=True)


@contextmanager
def _directory(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _explained(path: Path, *kinds: type[Exception]) -> Iterator[None]:
    try:
        yield
    except kinds as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StateFileError(f"{path}: cannot be written: {reason}") from error


def digest() -> Any:
    """A checksum to be updated: xxh3_128."""
    from xxhash import xxh3_128

    return xxh3_128()


def write_rows(sink: Sink, kernels: Kernels, tensors: Sequence[tuple[Array, Int64]]) -> bytes:
    """Write the rows of arrays in their slots, one array after the other.

    ``tensors``: arrays ``[pages, rows of a page, …]``, and slots. Returns their checksums.
    """
    digests = [digest() for _ in tensors]
    blocks = [
        (number, array, slots[first : first + step])
        for number, (array, slots) in enumerate(tensors)
        for step in (_rows_at_once(array),)
        for first in range(0, len(slots), step)
    ]
    with ThreadPoolExecutor(_THREADS) as helpers:
        gathered = _in_order(
            helpers, ((kernels.gather_rows, array, slots) for _, array, slots in blocks)
        )
        for (number, _, _), rows in zip(blocks, gathered, strict=True):
            digests[number].update(data := as_bytes(rows))
            sink.write(data)
    return b"".join(each.digest() for each in digests)


def read_rows(
    source: Source, kernels: Kernels, tensors: Sequence[tuple[Array, int, Places]]
) -> bytes:
    """Read rows of arrays, one array after the other, and put them where they belong.

    ``tensors``: arrays ``[pages, rows of a page, …]``, how many rows were written of each, and
    where they go. Returns the checksums of what was read.
    """
    digests = [digest() for _ in tensors]
    with ThreadPoolExecutor(_THREADS) as helpers:
        deque(_in_order(helpers, _scattering(source, kernels, tensors, digests)), maxlen=0)
    return b"".join(each.digest() for each in digests)


def _scattering(
    source: Source,
    kernels: Kernels,
    tensors: Sequence[tuple[Array, int, Places]],
    digests: Sequence[Any],
) -> Iterator[tuple[Any, ...]]:
    """Jobs that bring rows to their places, as they are read."""
    largest = max((array[0, 0].nbytes for array, _, _ in tensors), default=0)
    # A buffer is filled again only when the job that it was for is done.
    buffers = cycle([np.empty(max(_BLOCK, largest), np.uint8) for _ in range(_AHEAD)])
    for (array, count, places), each in zip(tensors, digests, strict=True):
        step = _rows_at_once(array)
        for first in range(0, count, step):
            shape = min(step, count - first), *array.shape[2:]
            raw = next(buffers)[: int(np.prod(shape)) * array.itemsize]
            rows = raw.view(array.dtype).reshape(shape)
            source.fill(data := as_bytes(rows))
            each.update(data)
            a, b = np.searchsorted(places.rows, (first, first + len(rows)))
            wanted = places.rows[a:b] - first
            if len(wanted) != len(rows) or not np.array_equal(wanted, np.arange(len(rows))):
                rows = rows[wanted]
            yield kernels.scatter_rows, array, places.slots[a:b], rows


def _rows_at_once(array: Array) -> int:
    return max(1, _BLOCK // max(1, array[0, 0].nbytes))


def _in_order(helpers: ThreadPoolExecutor, jobs: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """What the jobs (function, arguments …) give, in order, while others are being done."""
    pending: deque[Future[Any]] = deque()
    for job in jobs:
        pending.append(helpers.submit(*job))
        if len(pending) == _AHEAD:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
