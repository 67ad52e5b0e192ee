"""Files into the cache, in the form that huggingface_hub gives it: resumed, checked, linked.

The library's own ``hf_hub_download`` begins a file anew in each process and compares sizes only,
so that here its ``http_get`` fetches, with the rest of the file where a part of it is there.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from motet.errors import HubError
from motet.hub.failures import Unreachable, explained
from motet.hub.library import Hub, HubFile

_CHUNK = 1 << 20


def is_cached(hub: Hub, repo: str, commit: str, file: HubFile) -> bool:
    """Whether the cache has all of it."""
    folder = hub.folder(repo)
    places = (folder / "blobs" / file.digest, folder / "snapshots" / commit / file.name)
    return any(path.is_file() and path.stat().st_size == file.nbytes for path in places)


def missing_bytes(hub: Hub, repo: str, commit: str, file: HubFile) -> int:
    """How much of it is to be fetched."""
    if is_cached(hub, repo, commit, file):
        return 0
    partial = _partial(hub, repo, file)
    return file.nbytes - min(file.nbytes, partial.stat().st_size if partial.is_file() else 0)


def download(
    hub: Hub, repo: str, commit: str, file: HubFile, progress: Callable[[int], None]
) -> None:
    """Have the cache hold ``file``, whole and with the checksum that the hub gives.

    ``progress`` is called with its bytes that are there. Raises HubError, Unreachable (what came
    stays, and the next try goes on from there) and CapacityError.
    """
    from huggingface_hub.utils import WeakFileLock

    folder, lock = hub.folder(repo), hub.lock(repo, file.digest)
    pointer = folder / "snapshots" / commit / file.name
    with explained(hub.endpoint, repo, commit):
        if pointer.is_file() and pointer.stat().st_size == file.nbytes:
            return  # nothing is written: the cache may be of others, or read-only
        for parent in (lock.parent, folder / "blobs"):
            parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if not is_cached(hub, repo, commit, file):
                _fetch(hub, repo, commit, file, progress)
            _link(folder / "blobs" / file.digest, pointer)


def _fetch(
    hub: Hub, repo: str, commit: str, file: HubFile, progress: Callable[[int], None]
) -> None:
    partial = _partial(hub, repo, file)
    resumed = partial.is_file() and partial.stat().st_size > 0
    try:
        _append(hub, repo, commit, file, progress)
    except _TooMuch:
        if not resumed:
            raise  # else it is a server that gives the whole file in place of the rest
    if resumed and not _is_right(partial, file):  # or begun by another tool, or damaged since
        partial.unlink(missing_ok=True)
        _append(hub, repo, commit, file, progress)
    if not _is_right(partial, file):
        partial.unlink()
        raise HubError(
            f"hf://{repo}: {file.name} came with another checksum than {hub.endpoint} gives it",
            hint="it was not kept; fetch it again, and if that does not help, distrust the server",
        )
    partial.replace(partial.with_name(file.digest))


def _append(
    hub: Hub, repo: str, commit: str, file: HubFile, progress: Callable[[int], None]
) -> None:
    """Fetch what is missing of the partial file."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import http_get

    if file.nbytes > constants.MAX_HTTP_DOWNLOAD_SIZE:
        raise HubError(
            f"hf://{repo}: the hub does not give {file.name} by HTTP, since it is so large",
            hint=f"hf download {repo} {file.name} puts it into the same cache by Xet",
        )
    with _Growing(_partial(hub, repo, file), file, progress) as out:
        try:
            with explained(hub.endpoint, repo, commit), _quiet():
                http_get(
                    hub.url(repo, commit, file.name),
                    out,
                    resume_size=out.tell(),
                    headers=hub.headers(),
                    expected_size=file.nbytes,
                )
        except _TooMuch:
            Path(out.name).unlink()
            raise
        except Unreachable as error:
            raise Unreachable(
                f"{file.name} is there up to byte {out.tell()} of {file.nbytes}: {error.message}",
                hint="the next try goes on from there",
            ) from error


class _TooMuch(HubError):
    """A server sends more of a file than there is of it."""


class _Growing(io.BufferedWriter):
    """A partial file, at its end. It says how long it is whenever it grows, and does not grow
    beyond what it is to be."""

    def __init__(self, path: Path, file: HubFile, progress: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path, "a"), _CHUNK)
        self._file = file
        self._progress = progress
        if self.tell() > file.nbytes:
            self.seek(0)
            self.truncate()

    def write(self, buffer: bytes, /) -> int:  # type: ignore[override]
        if self.tell() + len(buffer) > self._file.nbytes:
            raise _TooMuch(
                f"the hub sends more of {self._file.name} than the {self._file.nbytes} bytes that"
                " it says it has"
            )
        count = super().write(buffer)
        self._progress(self.tell())
        return count


@contextmanager
def _quiet() -> Iterator[None]:
    """Within, the library draws no progress bar of its own for a download."""
    from huggingface_hub import utils

    group = "huggingface_hub.http_get"
    draws = not utils.are_progress_bars_disabled(group)
    if draws:
        utils.disable_progress_bars(group)
    try:
        yield
    finally:
        if draws:
            utils.enable_progress_bars(group)


def _is_right(path: Path, file: HubFile) -> bool:
    """Whether it is there, with the size and the digest that ``file`` says."""
    if not path.is_file() or path.stat().st_size != file.nbytes:
        return False
    if len(file.digest) == 64:
        digest = hashlib.sha256()
    else:  # git's own, of a file that is no large one
        digest = hashlib.sha1(b"blob %d\0" % file.nbytes, usedforsecurity=False)
    with path.open("rb") as data:
        while chunk := data.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest() == file.digest


def _link(blob: Path, pointer: Path) -> None:
    """Have ``pointer`` lead to ``blob``, or be it where links cannot be made."""
    target = os.path.relpath(blob, pointer.parent)
    if not blob.exists() or (pointer.is_symlink() and str(pointer.readlink()) == target):
        return
    pointer.parent.mkdir(parents=True, exist_ok=True)
    made = pointer.with_name(f".{blob.name[:16]}.{os.getpid()}.link")
    try:
        made.symlink_to(target)
    except OSError:
        blob.replace(pointer)
    else:
        made.replace(pointer)


def _partial(hub: Hub, repo: str, file: HubFile) -> Path:
    return hub.folder(repo) / "blobs" / f"{file.digest}.incomplete"
