"""What a model family is to the rest of Motet."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from motet.arrays import Float32, Int32, Int64
from motet.kernels.interface import Kernels
from motet.models.config import Config
from motet.models.keys import Keys
from motet.models.tensors import TensorReader
from motet.spec import CacheSpec

C_co = TypeVar("C_co", bound=Config, covariant=True)


class View(Protocol):
    """What one micro-batch sees of memory."""

    @property
    def positions(self) -> Int32:
        """``[T]``: where in its sequence each token stands."""
        ...

    def cache(self, layer: int, k: int = 0) -> Any:
        """What the ``k``-th cache of a layer reads and writes: PagedKV or RecurrentState."""
        ...


class Family(Protocol[C_co]):
    """One architecture's layers and arithmetic, on kernels alone."""

    @property
    def config(self) -> C_co: ...
    @property
    def kernels(self) -> Kernels: ...

    @property
    def blocks(self) -> Sequence[Any]:
        """The layers, in order: what ``forward`` calls to go from states to states."""
        ...

    @property
    def caches(self) -> tuple[tuple[CacheSpec, ...], ...]:
        """The caches of each layer; one may have none, or several."""
        ...

    def __init__(self, config: C_co, tensors: TensorReader, kernels: Kernels) -> None:
        """Declares the layers and asks for their tensors: to have them checked, or loaded."""
        ...

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> C_co:
        """The settings in a file whose embedding has ``n_vocab`` rows."""
        ...

    def forward(self, tokens: Int32, view: View, wanted: Int64) -> Float32:
        """Final normalised states ``[R, d_model]`` of the rows ``wanted`` ``[R]`` of ``tokens``.

        ``tokens``: ``[T]``, of any number of sequences. The layers' caches are written for all of
        them, even where nothing is wanted.
        """
        ...

    def head(self, hidden: Float32) -> Float32:
        """Logits ``[R, n_vocab]`` of what ``forward`` gave."""
        ...
