"""Writing a file so that at every moment the path holds either the old one or the new one."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from motet.errors import StateFileError

_READ_WRITE = 0o666
"""Less what the process's umask takes away."""


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
