"""Files that conversations are kept in: one process at a time, and what a signal must not lose."""

import errno
import fcntl
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import click

from motet.cli.output import printable
from motet.errors import MotetError

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems say that cannot lock."""


class Terminated(SystemExit):
    """A signal that asks the process to end; the status is 128 and its number."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within, the first SIGTERM or SIGHUP raises Terminated in the main thread; any more do
    nothing. A signal that was ignored stays ignored (nohup)."""

    def end(number: int, _: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise Terminated(128 + number)

    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Within, no other process gets past here with the same file.

    The lock is a file beside it, since the file itself is replaced when it is saved. Raises
    MotetError where another process has it, which is named, or where there can be no such file.
    """
    target = Path(os.path.realpath(file))
    path = target.parent / f".{target.name[:200]}.lock"
    try:
        descriptor = _acquire(path, file)
    except OSError as error:
        raise MotetError(f"{file}: {path} cannot be made: {error.strerror}") from error
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # before others can have it
        os.close(descriptor)


def _acquire(path: Path, file: Path) -> int:
    """The descriptor of the lock file at ``path``, locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):  # else whoever had it has just removed it
                _sign(descriptor)
                return descriptor
        except BlockingIOError:
            holder = printable(os.pread(descriptor, 200, 0).decode("utf-8", "replace"))
            os.close(descriptor)
            raise MotetError(
                f"{file} is in use by {holder or 'another process'}",
                hint="end that one, or give another file: each would undo what the other saves",
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
            click.echo(f"{file} cannot be locked there: {error.strerror}", err=True)
            return descriptor
        os.close(descriptor)


def _sign(descriptor: int) -> None:
    """Write who has the lock; where the disk is full it is nobody by name."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether ``path`` is still the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False
