"""Long lists among the metadata, in bytes, and read when they are first asked for."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from motet.arrays import UInt8
from motet.errors import shown
from motet.packed.header import PackedList, is_metadata
from motet.weights.source import MetadataValue

LONG = 256
"""Elements from which a list stands apart."""
_NUMBERS = {"int": "<i8", "float": "<f8", "bool": "|b1"}
_BETWEEN = "\0"


def encoded(values: list[Any]) -> tuple[str, bytes]:
    """The kind of a list, and its bytes."""
    kinds = set(map(type, values))
    if kinds == {str} and not any(_BETWEEN in text for text in values):
        return "text", _BETWEEN.join(values).encode("utf-8", "surrogateescape")
    for kind in (int, float, bool):
        if kinds == {kind}:
            name = kind.__name__
            try:
                return name, np.array(values, _NUMBERS[name]).tobytes()
            except OverflowError:  # a uint64 that is no int64
                break
    return "json", json.dumps(values).encode()


def decoded(kind: str, count: int, data: UInt8) -> list[Any]:
    """The list again. Raises ValueError for bytes that are none."""
    if kind in _NUMBERS:
        values = data.view(_NUMBERS[kind]).tolist()
    elif kind == "text":
        values = data.tobytes().decode("utf-8", "surrogateescape").split(_BETWEEN)
    elif kind == "json":
        try:
            values = json.loads(data.tobytes())
            if not is_metadata(values):
                raise ValueError("it is no list of texts and numbers")
        except RecursionError:
            raise ValueError("it nests too deeply") from None
    else:
        raise ValueError(f"it is of the unknown kind {shown(kind)}")
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"it does not have {count} elements")
    return values


class Metadata(Mapping[str, MetadataValue]):
    """A file's keys, in its order. ``read`` gives the values of a list that stands apart."""

    def __init__(
        self,
        values: Mapping[str, MetadataValue | PackedList],
        read: Callable[[str, PackedList], list[Any]],
    ) -> None:
        self._values = dict(values)
        self._read = read

    def __getitem__(self, key: str) -> MetadataValue:
        value = self._values[key]
        if isinstance(value, PackedList):
            value = self._values[key] = self._read(key, value)
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
