"""A file of needle results that a search resumes from: a header line, then a result a line."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from motet.errors import MotetError, OptionError
from motet.evals.needle import Found

_KIND = "motet needle results 2"
_FIELDS = {
    "variant": str,
    "task": str,
    "length": int,
    "depth": (int, float),
    "seed": int,
    "exact": bool,
    "preferred": bool,
    "nll": (int, float),
}


class Results:
    """``known``: what the file holds, by ``Found.key``. Results are written as they come.

    An incomplete last line, as a process that was killed leaves it, is dropped.
    """

    def __init__(self, path: Path, settings: Mapping[str, object]) -> None:
        """Open or create the file. ``settings``: what every result depends on, beside its key.

        Raises OptionError for a file of other settings (it names one) or of another kind,
        MotetError for one that can't be read or written.
        """
        self._path = path
        header = {"kind": _KIND, **settings}
        self.known: dict[tuple[str, str, int, float, int], Found] = {}
        if path.exists() and not path.is_file():  # reading a device may never end
            raise _other(path, "it is not a regular file")
        try:
            raw = path.read_bytes() if path.exists() else b""
            whole = raw[: raw.rfind(b"\n") + 1]
            if whole:
                self._read(whole, header)
            elif raw and not json.dumps(header).encode().startswith(raw):
                raise _other(path, "it is not a results file of this version of motet needle")
            with path.open("r+b" if raw else "wb") as file:
                file.truncate(len(whole))
                if not whole:
                    file.write(json.dumps(header).encode() + b"\n")
        except OSError as error:
            raise _unusable(path, error) from error

    def add(self, found: Sequence[Found]) -> None:
        """Append them. Raises MotetError where the file can't be written."""
        lines = "".join(json.dumps(asdict(one)) + "\n" for one in found)
        try:
            with self._path.open("ab") as file:
                file.write(lines.encode())
        except OSError as error:
            raise _unusable(self._path, error) from error
        self.known.update((one.key, one) for one in found)

    def _read(self, whole: bytes, header: Mapping[str, object]) -> None:
        lines = whole.splitlines()
        first = _object(lines[0])
        if first is None or first.get("kind") != _KIND:
            raise _other(self._path, "it is not a results file of this version of motet needle")
        for name in header:
            if first.get(name) != header[name]:
                raise _other(
                    self._path,
                    f"its results are of another {name}: {_short(first.get(name))},"
                    f" not {_short(header[name])}",
                )
        for number, line in enumerate(lines[1:], 2):
            one = _found(_object(line))
            if one is None:
                raise _other(self._path, f"line {number} is not a result of motet needle")
            self.known[one.key] = one


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _found(value: dict[str, Any] | None) -> Found | None:
    if value is None or value.keys() != _FIELDS.keys():
        return None
    if not all(isinstance(value[name], kind) for name, kind in _FIELDS.items()):
        return None
    return Found(**value)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 20 else text[:17] + "…"


def _unusable(path: Path, error: OSError) -> MotetError:
    return MotetError(f"the results file {str(path)!r}: {error.strerror}")


def _other(path: Path, problem: str) -> OptionError:
    return OptionError(
        f"the results file {str(path)!r}: {problem}", hint="give another file, or remove this one"
    )
