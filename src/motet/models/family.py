"""What a model family is to the rest of Motet."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from motet.models.config import Config
from motet.models.keys import Keys
from motet.models.tensors import Expected
from motet.spec import LayerSpec


class View(Protocol):
    """What one micro-batch sees of memory."""

    @property
    def positions(self) -> np.ndarray:
        """int32 ``[T]``: where in its sequence each token stands."""
        ...

    def layer(self, index: int) -> Any:
        """What layer ``index`` reads and writes; a PagedKV for attention."""
        ...


class Family(Protocol):
    """One architecture's arithmetic, on kernels and slicing alone."""

    config: Config
    layers: tuple[LayerSpec, ...]
    """What each layer remembers of a token."""

    def __init__(self, config: Config, tensors: Mapping[str, Any], kernels: Any) -> None: ...

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> Config:
        """The settings in a file whose embedding has ``n_vocab`` rows."""
        ...

    @staticmethod
    def expected_tensors(config: Config) -> Expected:
        """The tensors of a file with these settings."""
        ...

    def forward(self, tokens: np.ndarray, view: View, wanted: np.ndarray) -> np.ndarray:
        """Logits float32 ``[R, n_vocab]`` of the rows ``wanted`` (int64 ``[R]``) of ``tokens``.

        ``tokens``: int32 ``[T]``, of any number of sequences. The layers' keys and values are
        written even where nothing is wanted.
        """
        ...
