"""The files of a directory that may have come from anywhere: nothing outside it is read."""

import json
import math
import os
from pathlib import Path
from typing import Any

from motet.errors import ModelFileError, shown
from motet.weights.open_file import OpenFile

MOST_TEXT = 1 << 26
"""Bytes of a JSON or text file; the largest real tokenizers take 40 MB."""
MOST_PARTS = 1 << 21
"""Objects and lists in a JSON file, each of which takes memory of its own. The longest lists of
merges have half a million."""
_BLOBS, _MODELS = "blobs", "models--"
_FLOATS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}
_FETCH = "fetch the directory again"


class Directory:
    """A directory's files by their names in it.

    ``path``: as it was given. ``name``: the folder's own, or the model's in a hub's cache, where
    ``hub_name`` is that of the repository, "org/name".
    """

    def __init__(self, path: str) -> None:
        self.path = path
        real = Path(os.path.realpath(path))
        self._roots = [real]
        self.name, self.hub_name = real.name, ""
        if real.parent.name == "snapshots" and real.parent.parent.name.startswith(_MODELS):
            # A hub cache: models--org--name/snapshots/<commit> has links into models--…/blobs,
            # which may lead on to those that all models share.
            cached = real.parent.parent
            self._roots += [cached / _BLOBS, cached.parent / _BLOBS]
            self.hub_name = cached.name.removeprefix(_MODELS).replace("--", "/")
            self.name = self.hub_name.rsplit("/", 1)[-1]
        # A name that is no Unicode cannot be written anywhere.
        self.name = self.name.encode(errors="replace").decode()

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return os.path.lexists(Path(self.path) / name)

    def names(self) -> list[str]:
        """The files and folders in it, sorted. Raises ModelFileError if it can't be read."""
        try:
            return sorted(entry.name for entry in Path(self.path).iterdir())
        except OSError as error:
            raise ModelFileError(f"{self.path}: cannot be read: {error.strerror}") from error

    def located(self, name: str) -> str:
        """The path of a file in it.

        Raises ModelFileError for a name, or a symbolic link, that leads out of the directory.
        """
        path = Path(self.path) / name
        try:
            real = Path(os.path.realpath(path))
        except ValueError as error:  # a null character
            raise ModelFileError(f"{self.path}: {shown(name)}: {error}") from error
        if not self._holds(real):
            raise self._outside(name)
        return str(path)

    def _holds(self, real: Path) -> bool:
        return any(real.is_relative_to(root) for root in self._roots)

    def _outside(self, name: str) -> ModelFileError:
        return ModelFileError(
            f"{self.path}: {shown(name)} leads out of the directory",
            hint="a model's files have to be in its own directory: copy what is meant there",
        )

    def opened(self, name: str) -> OpenFile:
        """A file in it. Raises ModelFileError if it leads outside, is missing or not regular."""
        file = OpenFile(self.located(name))
        # A link may have been changed between the two looks.
        if not self._holds(Path(file.place())):
            file.close()
            raise self._outside(name)
        return file

    def data(self, name: str, most: int = MOST_TEXT) -> bytes:
        """All bytes of a file. Raises ModelFileError for more than ``most``."""
        path = Path(self.located(name))
        if path.is_file() and not path.stat().st_size:
            return b""
        file = self.opened(name)
        try:
            if file.size > most:
                raise ModelFileError(f"{path}: has {file.size} bytes, at most {most} are read")
            return file.read(0, file.size).tobytes()
        finally:
            file.close()

    def text(self, name: str, most: int = MOST_TEXT) -> str:
        """A UTF-8 text. Raises ModelFileError where it is none."""
        try:
            return self.data(name, most).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ModelFileError(
                f"{self.located(name)}: is not UTF-8 (byte {error.start})", hint=_FETCH
            ) from None

    def json(self, name: str, most: int = MOST_TEXT) -> dict[str, Any]:
        """A JSON object. Raises ModelFileError where it is none, or names a key twice."""
        return parsed(self.text(name, most), self.located(name))

    def json_list(self, name: str) -> list[dict[str, Any]]:
        """A JSON array of objects. Raises ModelFileError where it is none."""
        where = self.located(name)
        value = _json(self.text(name), where)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise ModelFileError(f"{where}: holds {shown(value)}, not a list of JSON objects")
        return value

    def json_if_there(self, name: str) -> dict[str, Any]:
        """``json``; empty where there is no such file."""
        return self.json(name) if self.has(name) else {}


def parsed(text: str, where: str) -> dict[str, Any]:
    """The JSON object ``text``. Raises ModelFileError, saying ``where``, if it is none."""
    value = _json(text, where)
    if not isinstance(value, dict):
        raise ModelFileError(f"{where}: holds {shown(value)}, not a JSON object", hint=_FETCH)
    return value


def _json(text: str, where: str) -> Any:
    if text.count("{") + text.count("[") > MOST_PARTS:
        raise ModelFileError(f"{where}: has more than {MOST_PARTS} objects and lists")
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        problem = "is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise ModelFileError(f"{where}: is not sound JSON: {problem}", hint=_FETCH) from None


def _unique(pairs: list[tuple[str, Any]]) -> Any:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {shown(key)} stands there twice")
            seen.add(key)
    # transformers writes an infinity as {"__float__": "Infinity"}.
    return _FLOATS.get(str(values["__float__"]), values) if "__float__" in values else values
