"""What a model family is to the rest of Motet."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import numpy as np

from motet.models.config import Config
from motet.models.keys import Keys
from motet.models.tensors import Expected
from motet.spec import LayerSpec

C = TypeVar("C", bound=Config)


class View(Protocol):
    """What one micro-batch sees of memory."""

    @property
    def positions(self) -> np.ndarray:
        """int32 ``[T]``: where in its sequence each token stands."""
        ...

    def layer(self, index: int) -> Any:
        """What layer ``index`` reads and writes: a PagedKV or, if recurrent, a RecurrentState."""
        ...


class Family(Protocol[C]):
    """One architecture's arithmetic, on kernels and slicing alone."""

    config: C
    layers: tuple[LayerSpec, ...]
    """What each layer remembers."""

    def __init__(self, config: C, tensors: Mapping[str, Any], kernels: Any) -> None: ...

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> C:
        """The settings in a file whose embedding has ``n_vocab`` rows."""
        ...

    @staticmethod
    def expected_tensors(config: C) -> Expected:
        """The tensors of a file with these settings."""
        ...

    def forward(self, tokens: np.ndarray, view: View, wanted: np.ndarray) -> np.ndarray:
        """Logits float32 ``[R, n_vocab]`` of the rows ``wanted`` (int64 ``[R]``) of ``tokens``.

        ``tokens``: int32 ``[T]``, of any number of sequences. The layers' keys, values and
        states are written even where nothing is wanted.
        """
        ...
