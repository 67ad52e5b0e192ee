"""Typed, checked access to the ``tokenizer.*`` keys of a model file."""

from collections.abc import Mapping, Sized
from typing import Any

import numpy as np

from motet.errors import TokenizerError

_DAMAGED = "the file's vocabulary is damaged or was converted wrongly; convert the model again"
_NO_TOKEN = (-1, 0xFFFFFFFF)
"""Values by which converters say that there is no such token."""
_NAMED = "bos", "eos", "eot", "eom", "unknown"
_NAMED_IF_THERE = (
    *("seperator", "padding", "cls", "mask"),  # so spelt in the format
    *("fim_pad", "fim_rep", "fim_sep"),
)
"""Files name some that they do not have; it is as if they did not name them."""
SPECIAL_NAMES = _NAMED + _NAMED_IF_THERE
"""The special tokens that ``special_id`` knows."""


class VocabularyKeys:
    """Reads keys by their full names; every error is a TokenizerError that names the key."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._metadata = metadata

    def has(self, key: str) -> bool:
        return self._metadata.get(key) is not None

    def error(self, key: str, problem: str) -> TokenizerError:
        """An error about ``key``, for checks that go beyond one value."""
        return TokenizerError(f"metadata key {key!r} {problem}", hint=_DAMAGED)

    def text(self, key: str) -> str | None:
        value = self._metadata.get(key)
        if value is not None and not isinstance(value, str):
            raise self.error(key, f"is {_show(value)}, must be text")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._metadata.get(key, default)
        if not isinstance(value, bool | np.bool_):
            raise self.error(key, f"is {_show(value)}, must be true or false")
        return bool(value)

    def names_special(self, name: str) -> bool:
        """Whether the file says anything about the special token ``name``."""
        return self.has(f"tokenizer.ggml.{name}_token_id")

    def special_id(self, name: str, n_vocab: int) -> int | None:
        """The special token ``name``; None where the file has none, or says that there is none."""
        key = f"tokenizer.ggml.{name}_token_id"
        value = self._metadata.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise self.error(key, f"is {_show(value)}, must be a token id")
        if value in _NO_TOKEN or (value >= n_vocab and name in _NAMED_IF_THERE):
            return None
        if not 0 <= value < n_vocab:
            raise self.error(key, f"is {value}, but the vocabulary has {n_vocab} tokens")
        return int(value)

    def token_ids(self, key: str, n_vocab: int) -> frozenset[int]:
        """The ids in the array under ``key`` that there are; empty where the file has none."""
        if not self.has(key) or (isinstance(ids := self._metadata[key], list) and not ids):
            return frozenset()
        array = self._numbers(key, np.int64)
        return frozenset(array[(array >= 0) & (array < n_vocab)].tolist())

    def strings(self, key: str) -> list[str]:
        """A required array of strings."""
        value = self._array(key)
        if not set(map(type, value)) <= {str, np.str_}:
            index = next(i for i, text in enumerate(value) if not isinstance(text, str))
            raise self.error(key, f"has {_show(value[index])} at index {index}, must be text")
        return [str(text) for text in value] if isinstance(value, np.ndarray) else value

    def numbers(self, key: str, dtype: type, count: int) -> np.ndarray:
        """A required array of ``count`` numbers, as ``dtype``, finite or not."""
        array = self._numbers(key, dtype)
        if len(array) != count:
            raise self.error(key, f"has {len(array)} elements, but there are {count} tokens")
        return array

    def octets(self, key: str) -> bytes:
        """A required array of bytes."""
        array = self._numbers(key, np.int64)
        if array.min() < -128 or array.max() > 255:  # some writers have signed bytes
            raise self.error(key, "holds numbers that are no bytes")
        return array.astype(np.uint8).tobytes()

    def _numbers(self, key: str, dtype: type) -> np.ndarray:
        value = self._array(key)
        try:
            array = np.asarray(value)
        except ValueError:
            array = np.empty(0, object)
        kinds = "iu" if np.issubdtype(dtype, np.integer) else "iuf"
        if array.ndim != 1 or array.dtype.kind not in kinds:
            raise self.error(key, f"holds {_show(value[0])}, must hold numbers")
        with np.errstate(over="ignore"):  # too large for float32: infinite
            return array.astype(dtype)

    def _array(self, key: str) -> list | np.ndarray:
        value = self._metadata.get(key)
        if value is None:
            raise self.error(key, "is missing")
        if not isinstance(value, list | np.ndarray) or not len(value):
            raise self.error(
                key, f"is {_show(value)}, must be an array with a value for each token"
            )
        return value


def _show(value: object) -> str:
    """A short description of a value of the wrong kind."""
    if isinstance(value, Sized) and not isinstance(value, str):
        return f"an array of {len(value)} elements"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
