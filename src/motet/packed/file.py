"""Opening packed files."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from os import PathLike
from typing import Any

import numpy as np

from motet.arrays import Float32, UInt8
from motet.errors import ModelFileError, UnsupportedError, shown
from motet.packed.header import (
    BEGINNING,
    CHECKED,
    MAGIC,
    MOST_HEAD,
    VERSION,
    PackedList,
    Piece,
    Table,
    check_places,
    from_json,
)
from motet.packed.lists import Metadata, decoded
from motet.weights.open_file import OpenFile
from motet.weights.source import ModelSource

_AGAIN = "pack the model again with motet pack"
_DAMAGED = f"the file is damaged, or was not copied whole: fetch it, or {_AGAIN}"


def is_packed(path: str | PathLike[str]) -> bool:
    """Whether a file begins as packed ones do; False for what can't be read."""
    try:
        # Not to wait for the writer of a named pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError):
        return False
    try:
        return os.pread(descriptor, len(MAGIC), 0) == MAGIC
    except OSError:
        return False
    finally:
        os.close(descriptor)


class PackedFile(ModelSource):
    """An open packed file. ``table``: what is in it.

    Its pieces are mapped: any number of processes share one copy of them, in the page cache.
    Metadata and tensors are the source's; the bytes that tensors had there are not kept.
    """

    def __init__(self, source: OpenFile, table: Table, head: UInt8) -> None:
        """Of a table already checked; ``open`` is the way to make one. ``head``: of its lists."""
        self.path = source.path
        self.format = f"packed, version {VERSION}, of {table.made_of}"
        self.metadata = Metadata(table.metadata, partial(_list, source, head))
        self.metadata_types = {}
        self.tensors = {name: each.info for name, each in table.tensors.items()}
        self.files = 1
        self.nbytes = source.size
        self.table = table
        self._source = source
        self._weights = source.mapped()[: source.size - len(head)]

    @classmethod
    def open(cls, path: str) -> "PackedFile":
        """Open ``path``. All but the weights is checked; those are by ``checking``.

        Raises ModelFileError for a file that is no packed one, damaged or cut short;
        UnsupportedError for another version.
        """
        source = OpenFile(path)
        return cls(source, *_read(source))

    def require_layout(self, layout: str) -> None:
        """Raise UnsupportedError unless the file was packed for kernels of this layout."""
        if self.table.layout != layout:
            raise UnsupportedError(
                f"{self.path}: is stale: its weights are packed for {shown(self.table.layout)},"
                f" and these kernels read {layout!r}",
                hint=_AGAIN,
            )

    @contextmanager
    def checking(self, threads: int) -> Iterator[None]:
        """While the block runs, ``threads`` read all weights beside it.

        Raises ModelFileError, at its end, if any are not what was written.
        """
        from xxhash import xxh3_128_hexdigest

        left = list(enumerate(self.table.digests))
        wrong: list[int] = []

        def work() -> None:
            with suppress(IndexError):  # nothing is left
                while not wrong:
                    number, digest = left.pop()
                    first = max(number * CHECKED, BEGINNING.size)
                    part = self._weights[first : (number + 1) * CHECKED]
                    if xxh3_128_hexdigest(part.data) != digest:
                        wrong.append(first)

        workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
        for worker in workers:
            worker.start()
        try:
            yield
        except BaseException:
            left.clear()
            raise
        finally:
            for worker in workers:
                worker.join()
        if wrong:
            raise ModelFileError(
                f"{self.path}: the {CHECKED >> 20} MiB from byte {wrong[0]} are not what was"
                " written",
                hint=_DAMAGED,
            )

    def weights(self, piece: Piece) -> UInt8:
        """The bytes of a piece, ``[nbytes]``; they stay where they are, and can't be written."""
        return self._weights[piece.offset : piece.end]

    def array(self, shape: Sequence[int], piece: Piece) -> Float32:
        """The float32 array of a piece; it can't be written."""
        return self.weights(piece).view(np.float32).reshape(shape)

    def read_rows(self, name: str, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        raise self.as_it_was()

    def as_it_was(self) -> UnsupportedError:
        """The error for whoever wants tensors as the source has them."""
        return UnsupportedError(
            f"{self.path}: is packed, and tensors are not there any more as they were",
            hint="use the model that it was packed of",
        )

    def require_unchanged(self) -> None:
        self._source.require_unchanged()

    def close(self) -> None:
        """What was mapped stays so, for as long as something looks at it."""
        self._source.close()


def _list(source: OpenFile, head: UInt8, key: str, found: PackedList) -> list[Any]:
    """``head``: the end of the file, in which the list is."""
    start = found.piece.offset - (source.size - len(head))
    try:
        return decoded(found.kind, found.count, head[start : start + found.piece.nbytes])
    except ValueError as error:
        raise ModelFileError(
            f"{source.path}: metadata key {key!r} can't be read: {error}", hint=_DAMAGED
        ) from error


def _read(source: OpenFile) -> tuple[Table, UInt8]:
    """The table, and the bytes from the first list to the end of the file."""
    path = source.path
    beginning = source.read(0, min(source.size, BEGINNING.size)).tobytes()
    if len(beginning) < BEGINNING.size or not beginning.startswith(MAGIC):
        raise ModelFileError(f"{path}: is no packed file, or not whole", hint=_DAMAGED)
    _, version, lists, start, end, digest = BEGINNING.unpack(beginning)
    if version != VERSION:
        raise UnsupportedError(
            f"{path}: is stale: a packed file of version {version}, and Motet reads {VERSION}",
            hint=_AGAIN,
        )
    if end != source.size:
        raise ModelFileError(
            f"{path}: has {source.size} bytes, and was written with {end}", hint=_DAMAGED
        )
    if not BEGINNING.size <= lists <= start <= end or end - lists > MOST_HEAD:
        raise ModelFileError(f"{path}: has no table at byte {start}", hint=_DAMAGED)
    head = source.read(lists, end - lists)
    from xxhash import xxh3_128_digest

    if xxh3_128_digest(head.data) != digest:
        raise ModelFileError(
            f"{path}: its table (from byte {lists}) is not what was written", hint=_DAMAGED
        )
    try:
        table = from_json(head[start - lists :].tobytes())
        check_places(table, lists, start)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: its table: {error}", hint=_DAMAGED) from error
    return table, head
