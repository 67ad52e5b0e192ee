"""Files that are replaced as one: written whole, or left as they were."""

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from motet.errors import MotetError
from motet.system import flush

_READ_WRITE = 0o666
"""Less what the process's umask takes away."""
_LONGEST_BEGINNING = 200
"""Bytes of a name that a temporary file's begins with; 255 are the most that a name has."""


@contextmanager
def replacing(path: Path, kind: type[MotetError] = MotetError) -> Iterator[BinaryIO]:
    """A new file, to be written from beginning to end, that takes the place of ``path``.

    It has no name until it is complete and on the disk, where the file system can do that, so
    that a killed process hardly ever leaves it behind; what one did leave is removed by the next.
    When the block raises, or the disk fails, ``path`` is as before. A new file has the permissions
    of the one that it replaces. Raises an error of the ``kind`` where ``path`` cannot be written.
    """
    with _explained(path, kind, OSError, ValueError):
        target = Path(os.path.realpath(path))
        mode = _mode_of(target, path, kind)
        _remove_abandoned(target)
        descriptor, beside = _open_nameless(target.parent), _beside(target)
        named = descriptor is None
        if descriptor is None:
            descriptor, beside = _open_named(target)
    try:
        with _explained(path, kind, OSError), os.fdopen(descriptor, "wb", 0) as file:
            yield file
            if mode is not None:
                os.fchmod(descriptor, mode)
            flush(descriptor)
            if not named:
                named = True
                _name(descriptor, beside)
            beside.replace(target)
            named = False
            with _directory(target.parent) as folder:
                flush(folder)
    finally:
        if named:
            with suppress(OSError):
                beside.unlink()


def write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write all of ``data``, of which a file without a buffer may take less at once."""
    rest = memoryview(data)
    rest = rest.cast("B") if rest.nbytes else rest
    while rest:
        rest = rest[file.write(rest) :]


def _mode_of(target: Path, path: Path, kind: type[MotetError]) -> int | None:
    """Permissions of the file at ``target``; None where there is none."""
    try:
        found = target.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found):
        raise kind(f"{path}: is a directory", hint="give the name of a file in it")
    if not stat.S_ISREG(found):
        raise kind(f"{path}: is not a regular file", hint="open it, and give the open file instead")
    return stat.S_IMODE(found)


def _open_nameless(directory: Path) -> int | None:
    """A file without a name in ``directory``, locked; None where the system has no such files."""
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None or not Path("/proc/self/fd").is_dir():
        return None
    try:
        descriptor = os.open(directory, os.O_RDWR | flag, _READ_WRITE)
    except OSError:  # also what is wrong with the directory, which opening by name will tell
        return None
    _lock(descriptor)
    return descriptor


def _open_named(target: Path) -> tuple[int, Path]:
    """A new file beside ``target``, which is locked, and its name."""
    while True:
        beside = _beside(target)
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL, _READ_WRITE)
        _lock(descriptor)
        if os.path.lexists(beside):
            return descriptor, beside
        os.close(descriptor)  # another process took it for abandoned, before it was locked


def _beginning(target: Path) -> str:
    """What the names of temporary files begin with."""
    return "." + os.fsdecode(os.fsencode(target.name)[:_LONGEST_BEGINNING]) + "."


def _beside(target: Path) -> Path:
    """The name of a temporary file."""
    return target.parent / f"{_beginning(target)}{secrets.token_hex(6)}.tmp"


def _lock(descriptor: int) -> None:
    """Let others know, for as long as it is open, that somebody writes it."""
    with suppress(OSError):  # not every file system has locks
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _remove_abandoned(target: Path) -> None:
    """Remove temporary files of ``target`` that killed processes have left: nobody locks them."""
    name = re.compile(re.escape(_beginning(target)) + r"[0-9a-f]{12}\.tmp")
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if name.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        Path(entry.path).unlink()
                    finally:
                        os.close(descriptor)


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
def _explained(path: Path, kind: type[MotetError], *explained: type[Exception]) -> Iterator[None]:
    try:
        yield
    except explained as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise kind(f"{path}: cannot be written: {reason}") from error
