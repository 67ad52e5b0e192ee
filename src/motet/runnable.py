"""What a context needs of a model."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from motet.spec import CacheSpec
from motet.weights.fingerprint import Fingerprint


class Sizes(Protocol):
    """The part of a model's configuration that a context needs."""

    @property
    def context_length(self) -> int: ...
    @property
    def n_vocab(self) -> int: ...
    @property
    def positional(self) -> str: ...


class Layers(Protocol):
    """A model's arithmetic."""

    @property
    def caches(self) -> Sequence[Sequence[CacheSpec]]: ...
    def forward(self, tokens: np.ndarray, view: Any, wanted: np.ndarray) -> np.ndarray: ...
    def head(self, hidden: np.ndarray) -> np.ndarray: ...


class Runnable(Protocol):
    """What a context needs of a model."""

    @property
    def config(self) -> Sizes: ...
    @property
    def family(self) -> Layers: ...
    @property
    def default_kv_type(self) -> str: ...
    @property
    def fingerprint(self) -> Fingerprint: ...
    @property
    def arithmetic(self) -> str: ...
