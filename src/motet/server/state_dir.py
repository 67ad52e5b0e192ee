"""The directory that requests may save to and restore from: here alone their names become files."""

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from motet.errors import StateFileError
from motet.server.failures import Refused

NAME = r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}"
"""What files may be called."""
Version = tuple[int, int, int]
"""What tells a file from another of its name."""
MOST_FILES = 10_000
"""In a folder, so that no client can make others slow."""


@dataclass(frozen=True)
class SavedFile:
    """A file that was saved."""

    name: str
    size: int
    """Bytes."""
    modified: int
    """Unix time."""


class Folder:
    """A folder of the state directory: nothing outside of it is read or written."""

    def __init__(self, root: Path, *names: str) -> None:
        """``root``: the state directory; the folder in it is made when something is saved."""
        self._root = root
        self._names = names

    def target(self, name: str) -> Path:
        """Where to write ``name``, which is replaced as a whole. Raises Refused."""
        path = self._path(name)
        self._make()
        if name not in (names := self._entries()) and len(names) >= MOST_FILES:
            raise Refused(409, f"{len(names)} files are saved, the most there may be: delete some")
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise _irregular(name)
        return path

    def source(self, name: str) -> Path:
        """The file called ``name``, to be read. Raises Refused where there is none."""
        path = self._path(name)
        try:
            self._require_real()
            mode = path.lstat().st_mode
        except OSError as error:
            raise _unreadable(name, error) from None
        if not stat.S_ISREG(mode):
            raise _irregular(name)
        return path

    @contextmanager
    def explained(self, name: str) -> Iterator[None]:
        """Raise Refused for a StateFileError, which does not say where the directory is."""
        try:
            yield
        except StateFileError as error:
            said = str(error).removeprefix(f"{self._path(name)}: ")
            raise Refused(409, f"{name} {said}") from error

    def size(self, name: str) -> int:
        """Bytes of a file; 0 where there is none."""
        return next((file.size for file in self.files() if file.name == name), 0)

    def has(self, name: str) -> bool:
        """Whether there is such a file. Raises Refused for what is no name."""
        path = self._path(name)
        return not path.is_symlink() and path.is_file()

    def version(self, name: str) -> Version | None:
        """Of a file, another one whenever it is written; None where there is none."""
        try:
            facts = self._path(name).lstat()
        except OSError:
            return None
        return facts.st_ino, facts.st_mtime_ns, facts.st_size

    def files(self) -> list[SavedFile]:
        """All of them, by name."""
        found: list[SavedFile] = []
        for name in self._entries():
            try:
                facts = (self._folder / name).lstat()
            except OSError:  # it was removed meanwhile
                continue
            if stat.S_ISREG(facts.st_mode):
                found.append(SavedFile(name, facts.st_size, int(facts.st_mtime)))
        return found

    def remove(self, name: str) -> None:
        """Delete a file. Raises Refused where there is none."""
        path = self._path(name)
        try:
            self._require_real()
            path.unlink()
        except OSError as error:
            raise _unreadable(name, error) from None

    @property
    def _folder(self) -> Path:
        return self._root.joinpath(*self._names)

    def _path(self, name: str) -> Path:
        if not re.fullmatch(NAME, name):
            raise Refused(
                400,
                f"{name[:80]!r} can't be the name of a saved state: use 1 to 64 letters, digits,"
                " '_', '-' and '.', and no '.' in front",
            )
        return self._folder / name

    def _entries(self) -> list[str]:
        try:
            self._require_real()
            names = sorted(path.name for path in self._folder.iterdir())
            return [name for name in names if re.fullmatch(NAME, name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Refused(500, f"the state directory can't be read: {error.strerror}") from None

    def _make(self) -> None:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            folder = self._root
            for name in self._names:
                folder /= name
                folder.mkdir(mode=0o700, exist_ok=True)
            self._require_real()
        except OSError as error:
            raise Refused(500, f"the state directory can't be made: {error.strerror}") from None

    def _require_real(self) -> None:
        """Raise OSError where a folder in the state directory is a link, to wherever."""
        folder = self._root
        for name in self._names:
            folder /= name
            if not stat.S_ISDIR(folder.lstat().st_mode):
                raise NotADirectoryError(0, f"{name} is not a directory")


def folder_in(state_dir: Path | None, *names: str) -> Folder:
    """A folder of the server's state directory. Raises Refused where the server has none."""
    if state_dir is None:
        raise Refused(501, "this server saves nothing: start it with --state-dir DIR")
    return Folder(state_dir, *names)


def _irregular(name: str) -> Refused:
    return Refused(409, f"{name} in the state directory is not a regular file")


def _unreadable(name: str, error: OSError) -> Refused:
    if isinstance(error, FileNotFoundError):
        return Refused(404, f"nothing is saved as {name}")
    return Refused(409, f"{name} in the state directory can't be used: {error.strerror}")
