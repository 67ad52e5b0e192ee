"""A NumPy file that a command writes: refused before anything is computed, or written whole."""

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import click

from motet.errors import MotetError

if TYPE_CHECKING:
    from motet.arrays import Float32


def check_npy(path: str, source: str | None) -> None:
    """Raise UsageError for a ``path`` that cannot be written, or that is read: ``source``."""
    if path == "-":
        raise click.UsageError("--npy needs the name of a file; /dev/stdout is standard output")
    folder = os.path.dirname(path) or os.curdir  # noqa: PTH120 — which names a name that cannot be
    try:
        if os.path.isdir(path):  # noqa: PTH112
            raise click.UsageError(f"--npy: {path} is a directory")
        if not os.path.isdir(folder):  # noqa: PTH112
            raise click.UsageError(f"--npy: there is no directory {folder!r}")
        there = os.path.exists(path)  # noqa: PTH110
        regular = not there or os.path.isfile(path)  # noqa: PTH113
        needed = [folder] * regular + [path] * there
        if not all(os.access(each, os.W_OK) for each in needed):
            raise click.UsageError(f"--npy: {path} cannot be written: permission denied")
        read = source if there and source is not None and os.path.exists(source) else None  # noqa: PTH110
        if read is not None and os.path.samefile(path, read):  # noqa: PTH121
            raise click.UsageError(f"--npy would overwrite {source}, which is read")
    except ValueError as error:
        raise click.UsageError(f"--npy: {path!r}: {error}") from error


def write_npy(path: str, array: "Float32") -> None:
    """Take the place of what is at ``path`` as a whole, or write to a device or a pipe there.

    Raises MotetError, with the path, where that fails.
    """
    from motet.replacing import replacing

    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113
        try:
            with open(path, "wb", buffering=0) as file:  # noqa: PTH123
                _write(cast(BinaryIO, file), array)
        except OSError as error:
            raise MotetError(f"{path}: cannot be written: {error.strerror}") from error
        return
    with replacing(Path(path)) as file:
        _write(file, array)


def _write(file: BinaryIO, array: "Float32") -> None:
    import numpy as np

    from motet.replacing import write_all

    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    write_all(file, header.getvalue())
    write_all(file, np.ascontiguousarray(array).reshape(-1).data)
