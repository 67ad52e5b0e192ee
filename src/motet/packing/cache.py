"""A directory of packed files, made when a model is loaded and used from then on."""

import fcntl
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from motet.conversion.loading import LoraPair, LoraPath, prepared, read_adapters, with_scales
from motet.errors import MotetError, OptionError
from motet.hub import local_path
from motet.kernels.interface import Kernels
from motet.models.tensors import packed_bytes
from motet.opening import open_model
from motet.packed import PackedFile, is_packed
from motet.packing.writing import write_packed

PACKED_CACHE_BYTES = 32 << 30
_ENTRY = re.compile(r"[0-9a-f]{32}\.packed")
_SPLIT = re.compile(r"-\d{5}-of-(\d{5}\.gguf)$")
_log = logging.getLogger("motet")


class PackedCache:
    """Packed files of at most ``most`` bytes in ``folder``; the least recently used go first.

    An entry's name is a digest of all that it is made of: the model's files (their places on the
    disk, sizes and times), type, adapters, and the kernels' layout. So what is stale is not found,
    and goes in time. Several processes may share a cache: one at a time packs, and what another
    has mapped stays when it is removed.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder = folder
        self._most = most

    def find(
        self,
        model: Path,
        type: str | None,
        lora: "LoraPath | LoraPair | Sequence[LoraPath | LoraPair]",
        kernels: Kernels,
        progress: Callable[[int, int], None] | None,
    ) -> Path | None:
        """The model's packed file, which is made if it is not there.

        None where it can't be, for whatever reason: the log says why, and the model is to be loaded
        as it is.
        """
        try:
            found = Path(local_path(model))
            if is_packed(found):
                return None
            path = self._folder / f"{_key(found, type, lora, kernels)}.packed"
            if not path.exists():
                if self._folder.exists() and not self._folder.is_dir():
                    raise OptionError("it is no directory")
                self._folder.mkdir(parents=True, exist_ok=True)
                with self._alone():
                    if not path.exists():
                        path.unlink(missing_ok=True)  # a link, which is not to be written through
                        self._make(path, found, type, lora, kernels, progress)
            if path.exists():
                _touch(path)
                return path
        except (MotetError, OSError, ValueError) as error:  # ValueError: of a name that can't be
            said = [_printable(each) for each in (model, self._folder, error)]
            _log.warning("%s is not kept in the packed cache %s: %s", *said)
        return None

    def _make(
        self,
        path: Path,
        model: Path,
        type: str | None,
        lora: "LoraPath | LoraPair | Sequence[LoraPath | LoraPair]",
        kernels: Kernels,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        with open_model(model) as source:
            made = prepared(source, type, read_adapters(lora, model), kernels)
            needed = packed_bytes(made, kernels)
            if needed > self._most:
                _log.warning(
                    "%s takes %d bytes packed, more than the packed cache's %d",
                    model,
                    needed,
                    self._most,
                )
                return
            self._make_room(needed)
            write_packed(made, path, kernels, progress)

    def _make_room(self, needed: int) -> None:
        entries: list[tuple[int, int, Path]] = []
        with os.scandir(self._folder) as found:
            for entry in found:
                if _ENTRY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    status = entry.stat()
                    entries.append((status.st_atime_ns, status.st_size, Path(entry.path)))
        left = self._most - needed - sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if left >= 0:
                return
            with suppress(FileNotFoundError):
                path.unlink()
            left += size

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While the block runs, no other process packs into the same folder."""
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # not every file system has locks; the work is then done twice
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _printable(value: object) -> str:
    """For a log, which can't be of a name that is no UTF-8."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def open_entry(path: Path, model: Path) -> PackedFile | None:
    """The open entry, under the name of the ``model``; None, and it is removed, if it is damaged.

    Its weights are not checked yet.
    """
    try:
        file = PackedFile.open(str(path))
    except MotetError as error:
        drop(path, error)
        return None
    file.path = str(model)
    return file


def drop(path: Path, why: MotetError) -> None:
    """Remove an entry that is damaged."""
    _log.warning("the packed cache's entry %s is removed: %s", path, why)
    with suppress(OSError):
        path.unlink()


def _key(
    model: Path,
    type: str | None,
    lora: "LoraPath | LoraPair | Sequence[LoraPath | LoraPair]",
    kernels: Kernels,
) -> str:
    from xxhash import xxh3_128_hexdigest

    adapters = [[_identity(Path(local_path(path))), scale] for path, scale in with_scales(lora)]
    made_of = [kernels.layout, type, _identity(model), adapters]
    return xxh3_128_hexdigest(json.dumps(made_of).encode())


def _identity(path: Path) -> list[list[int]]:
    """What tells the files of a model from all others, and from what they are once changed."""
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.is_file())
    elif split := _SPLIT.search(path.name):
        files = sorted(path.parent.glob(f"*-of-{split[1]}"))
    else:
        files = [path]
    found = [each.stat() for each in files]
    return [[s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for s in found]


def _touch(path: Path) -> None:
    """Note that an entry was used; its time of change says whether it was changed, and stays."""
    with suppress(OSError):
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
