"""Files of states: opened for reading, and for writing."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from motet.errors import StateFileError
from motet.replacing import replacing
from motet.state.file_objects import Source


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
    with replacing(Path(file), StateFileError) as opened:
        yield opened
