"""The layout of state files: a safetensors header, and what its metadata says.

A safetensors file is the length of its header (64 bits), the header (JSON: for each tensor dtype,
shape and where its bytes are; strings under ``__metadata__``), and the tensors' bytes.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import numpy as np

from motet import bounded_json
from motet.arrays import Array
from motet.errors import OptionError, StateFileError
from motet.spec import CacheSpec, LayerCaches, attention_specs
from motet.weights.fingerprint import Fingerprint

FORMAT = "motet-state"
VERSION = "1"

INDEX_DIGEST = "checksums.index"
DATA_DIGESTS = "checksums.layers"
DIGEST = 16
"""Bytes of a checksum."""

MAX_HEADER = 1 << 24
"""Bytes; safetensors' own limit is 100 million. JSON takes many times its size in memory."""
MAX_TABLES = 1 << 28
"""Bytes of the tables: 30 million positions, of all sequences together."""
_ALIGNMENT = 64
_SHOWN = 80
"""Characters of what a file says that an error repeats."""
_DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I8": "|i1"}
_DTYPES |= {"U8": "|u1"}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

_OTHER = {
    "weights": (
        "was saved with other weights",
        "they are of another model, or of another fine-tune or quantisation of it; restore it with"
        " the file that saved it",
    ),
    "settings": (
        "was saved with other settings of the model: its sizes, scales or rope differ",
        "restore it with the model file that saved it",
    ),
    "tokenizer": (
        "was saved with another tokenizer, whose ids mean other text",
        "restore it with the model file that saved it",
    ),
    "layers": ("was saved with layers that remember something else", ""),
}


@dataclass(frozen=True)
class ModelIdentity:
    """Of which model, and of which settings, a file holds sequences."""

    fingerprint: Fingerprint
    layers: Sequence[LayerCaches]
    kv_type: str
    self_extend: str
    """The setting, as Python writes it, or "none"."""
    arithmetic: str
    """What rounds alike has the same. A file may come from elsewhere."""

    def metadata(self) -> dict[str, str]:
        """As strings, in the order in which differences are reported."""
        return {
            "format": FORMAT,
            "version": VERSION,
            **asdict(self.fingerprint),
            "layers": json.dumps([_described(caches) for caches in self.layers]),
            "kv_type": self.kv_type if attention_specs(self.layers) else "none",
            "self_extend": self.self_extend,
        }


@dataclass(frozen=True)
class Entry:
    """One tensor of a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def like(cls, name: str, array: Array, rows: int) -> "Entry":
        """Of ``rows`` rows of ``array``, which is ``[pages, rows of a page, …]``."""
        return cls(name, _NAMES[array.dtype.str], (rows, *array.shape[2:]))

    @classmethod
    def of(cls, name: str, array: Array) -> "Entry":
        """Of ``array`` itself."""
        return cls(name, _NAMES[array.dtype.str], array.shape)

    @property
    def numpy_dtype(self) -> "np.dtype[Any]":
        """What its bytes are in NumPy; ``BF16`` is uint16."""
        return np.dtype(_DTYPES[self.dtype])

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.numpy_dtype.itemsize


@dataclass(frozen=True)
class Header:
    """Strings, and the tensors in the order of their bytes, which follow each other."""

    metadata: Mapping[str, str]
    entries: Sequence[Entry]

    def encode(self) -> bytes:
        """The file's first bytes, padded so that the tensors begin at a multiple of 64.

        Raises OptionError if that is more than a safetensors header may have.
        """
        table: dict[str, Any] = {"__metadata__": dict(self.metadata)}
        end = 0
        for entry in self.entries:
            start, end = end, end + entry.nbytes
            shape = list(entry.shape)
            table[entry.name] = {
                "dtype": entry.dtype,
                "shape": shape,
                "data_offsets": [start, end],
            }
        text = json.dumps(table, separators=(",", ":")).encode()
        text += b" " * (-(8 + len(text)) % _ALIGNMENT)
        if len(text) > MAX_HEADER:
            raise OptionError(
                f"the notes make a header of {len(text)} bytes, and {MAX_HEADER} are the most",
                hint="keep long texts in a file of their own",
            )
        return len(text).to_bytes(8, "little") + text

    @classmethod
    def decode(cls, text: bytes | bytearray) -> "Header":
        """From the JSON; raises StateFileError unless it describes tensors one after the other."""
        try:
            table = bounded_json.parse(text)
        except ValueError as error:
            _refuse(f"its header can't be read: {error}")
        if not isinstance(table, dict):
            _refuse("its header is not a table of tensors")
        metadata = table.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            _refuse("its metadata are not strings")
        entries, end = [], 0
        for name, described in table.items():
            entry, start, stop = _entry(name, described)
            if start != end or stop - start != entry.nbytes:
                _refuse(f"tensor {name[:_SHOWN]!r} is not where it should be")
            entries.append(entry)
            end = stop
        return cls(metadata, entries)

    @property
    def index(self) -> int:
        """How many of the entries are tables, which their checksum ends; all where there is
        none."""
        names = [entry.name for entry in self.entries]
        return names.index(INDEX_DIGEST) if INDEX_DIGEST in names else len(names)

    def refuse_others(self, model: ModelIdentity) -> None:
        """Raise StateFileError unless a like model saved the file; says what differs."""
        for key, own in model.metadata().items():
            found = self.metadata.get(key)
            if found == own:
                continue
            if key == "format":
                raise StateFileError("is a safetensors file, but not a state file of Motet")
            if found is None:
                _refuse(f"it does not say its {key}")
            shown = ascii(found[:_SHOWN])[1:-1]  # no control characters of strangers
            if key == "version":
                raise StateFileError(
                    f"is of format version {shown}, and this Motet reads version {own}",
                    hint="a newer Motet may read it",
                )
            if key == "kv_type":
                raise StateFileError(
                    f"holds keys and values as {shown}, and this context keeps them as {own}",
                    hint=f"make it with kv_type={shown!r}; on the command line --kv-type {shown}",
                )
            if key == "self_extend":
                setting = "None" if found == "none" else f"motet.{shown}"
                raise StateFileError(
                    f"was saved with other Self-Extend settings: {shown}, and this context's are"
                    f" {own}",
                    hint=f"context.self_extend = {setting} adopts them",
                )
            problem, hint = _OTHER[key]
            raise StateFileError(problem, hint=hint)

    def notes(self) -> dict[str, str]:
        """The caller's own strings."""
        try:
            text = self.metadata.get("notes", "{}").encode(errors="surrogatepass")
            notes = bounded_json.parse(text)
        except ValueError:
            notes = None
        if not isinstance(notes, dict) or not all(isinstance(v, str) for v in notes.values()):
            _refuse("its notes are not strings")
        return notes


def _described(caches: LayerCaches) -> Any:
    """What a layer keeps: its cache, or a list of them where it has none or several."""

    def one(spec: CacheSpec) -> dict[str, Any]:
        return {"kind": type(spec).__name__, **asdict(spec)}

    return one(caches[0]) if len(caches) == 1 else [one(spec) for spec in caches]


def _entry(name: str, described: Any) -> tuple[Entry, int, int]:
    """A tensor, and where its bytes begin and end."""
    if not isinstance(described, dict):
        _refuse(f"tensor {name[:_SHOWN]!r} is not described")
    dtype = described.get("dtype")
    shape, offsets = _sizes(described.get("shape")), _sizes(described.get("data_offsets"))
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        _refuse(f"tensor {name[:_SHOWN]!r} has dtype {str(dtype)[:20]!r}")
    if shape is None or offsets is None or len(offsets) != 2:
        _refuse(f"tensor {name[:_SHOWN]!r} has an impossible shape or place")
    return Entry(name, dtype, shape), offsets[0], offsets[1]


def _sizes(value: Any) -> tuple[int, ...] | None:
    """A list of a few sizes, as a tuple; None if it is anything else."""
    if not isinstance(value, list) or len(value) > 8:
        return None
    sizes = tuple(size for size in value if type(size) is int and 0 <= size < 1 << 62)
    return sizes if len(sizes) == len(value) else None


def damaged(problem: str) -> StateFileError:
    return StateFileError(
        f"is damaged: {problem}", hint="an earlier copy may be whole; this one can't be restored"
    )


def _refuse(problem: str) -> NoReturn:
    raise damaged(problem)
