"""A strict reader of a file's ``<architecture>.*`` keys: each is read, or refused by name."""

from collections.abc import Mapping
from typing import Any, cast

from motet.errors import ModelFileError, UnsupportedError, shown

MAX_WIDTH = 1 << 24
"""Channels, heads and the like."""
MAX_HEAD_WIDTH = 1 << 16
"""Channels of one head."""
MAX_HEADS = 1 << 12
"""Of a layer; some models have a matrix for each."""
LEAST, MOST = 2.0**-126, (2 - 2.0**-23) * 2.0**127
"""The range of float32, in which kernels compute."""
MAX_CONTEXT = (1 << 31) - 1
"""Positions are int32."""
_LISTED = 8
"""Keys that an error names before it counts the rest."""


class Keys:
    """The keys of one architecture, each taken with its type and range checked.

    A key without a ``default`` has to be in the file. Every method raises ModelFileError that
    names the key and its value where the value is missing, of a wrong type or out of range.
    """

    def __init__(self, metadata: Mapping[str, Any], architecture: str) -> None:
        self.architecture = architecture
        self._metadata = metadata
        self._unread = {key for key in metadata if key.startswith(architecture + ".")}

    def key(self, name: str) -> str:
        """The key's full name."""
        return f"{self.architecture}.{name}"

    def has(self, name: str) -> bool:
        """Whether the file gives the key."""
        return self.key(name) in self._metadata

    def take(self, name: str, default: object = None) -> Any:
        """The key's value as the file has it, or ``default``."""
        key = self.key(name)
        self._unread.discard(key)
        if key in self._metadata:
            return self._metadata[key]
        if default is None:
            raise ModelFileError(
                f"the file has no key {key}",
                hint=f"every {self.architecture} model needs it; convert the model again",
            )
        return default

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return self._whole(name, self._alike(name, self.take(name, default)), low, high)

    def integers(self, name: str, n_layers: int, low: int, high: int) -> tuple[int, ...]:
        """A whole number a layer, from a list of them or from one for all."""
        value: object = self.take(name)
        listed = cast("list[object]", value) if isinstance(value, list) else [value] * n_layers
        if len(listed) != n_layers:
            raise self.wrong(name, listed, f"a whole number for each of {n_layers} layers")
        return tuple(self._whole(name, item, low, high) for item in listed)

    def flags(self, name: str, n_layers: int) -> tuple[bool, ...]:
        """True or false for each layer, from a list."""
        value: object = self.take(name)
        listed = cast("list[object]", value) if isinstance(value, list) else [value]
        flags = tuple(flag for flag in listed if isinstance(flag, bool))
        if not isinstance(value, list) or not len(flags) == len(listed) == n_layers:
            raise self.wrong(name, cast(object, value), f"a flag for each of {n_layers} layers")
        return flags

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, value, "true or false")
        return value

    def positive(self, name: str, default: float | None = None, *, or_zero: bool = False) -> float:
        """A finite number above 0, in the range of float32; ``or_zero``: or 0 itself."""
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, value, "a number")
        if not (LEAST <= value <= MOST or (value == 0 and or_zero)):
            wanted = "a finite number " + ("from 0" if or_zero else "above 0")
            raise self.wrong(name, value, f"{wanted} that is a normal float32")
        return float(value)

    def text(self, name: str, default: str) -> str:
        """A string."""
        value = self.take(name, default)
        if not isinstance(value, str):
            raise self.wrong(name, value, "a string")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; none where the file does not have the key."""
        value: object = self._metadata.get(self.key(name), [])
        self._unread.discard(self.key(name))
        listed = cast("list[object]", value) if isinstance(value, list) else [value]
        texts = tuple(item for item in listed if isinstance(item, str))
        if len(texts) != len(listed):
            raise self.wrong(name, listed, "a list of strings")
        return texts

    def only(self, name: str, accepted: object, meaning: str) -> None:
        """Refuse the key unless it has the one value under which it changes nothing."""
        value = self._alike(name, self.take(name, accepted))
        if value != accepted:
            raise UnsupportedError(
                f"{self.key(name)} is {shown(value)}: {meaning}",
                hint=f"Motet runs {self.architecture} models where it is {shown(accepted)}",
            )

    def divides(self, small: str, divisor: int, large: str, number: int) -> None:
        """Refuse values of two keys of which one has to be a multiple of the other."""
        if number % divisor:
            raise ModelFileError(
                f"{self.key(large)} is {number}, not a multiple of {self.key(small)}, {divisor}"
            )

    def refuse_unread(self) -> None:
        """Raise UnsupportedError if the file has keys that nothing has asked for."""
        if self._unread:
            listed = ", ".join(
                f"{k} = {shown(self._metadata[k])}" for k in sorted(self._unread)[:_LISTED]
            )
            more = len(self._unread) - _LISTED
            listed += f" and {more} more" if more > 0 else ""
            raise UnsupportedError(
                f"the file has keys that Motet does not know for {self.architecture}: {listed}",
                hint="they may change the arithmetic, so the model is not run without them",
            )

    def _alike(self, name: str, value: Any) -> Any:
        """The value; of a list with one for each layer, the one that they all have."""
        if not isinstance(value, list):
            return value
        listed = cast("list[object]", value)
        layers = self._metadata.get(self.key("block_count"))
        if not listed or len(listed) != layers:
            raise self.wrong(name, listed, f"one value, or one for each of {shown(layers)} layers")
        if any(item != listed[0] for item in listed):
            raise UnsupportedError(
                f"{self.key(name)} is a list, {shown(listed)}: layers differ",
                hint=f"Motet runs {self.architecture} models whose layers are all alike",
            )
        return listed[0]

    def _whole(self, name: str, value: object, low: int, high: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, value, "a whole number")
        if not low <= value <= high:
            raise self.wrong(name, value, f"a whole number from {low} to {high}")
        return value

    def wrong(self, name: str, value: object, wanted: str) -> ModelFileError:
        """The error for a value that cannot be right."""
        return ModelFileError(f"{self.key(name)} is {shown(value)}, not {wanted}")
