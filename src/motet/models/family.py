"""What a model family is to the rest of Motet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from motet.arrays import Float32, Int32, Int64
from motet.kernels.interface import Kernels
from motet.models.config import Config
from motet.models.keys import Keys
from motet.models.pooled_heads import PooledHead
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


@dataclass(frozen=True)
class Whole:
    """What a micro-batch of an encoder sees: whole sequences, one after another."""

    positions: Int32
    """``[T]``: where in its sequence each token stands."""
    starts: Int32
    """``[S + 1]``: sequence s is rows ``starts[s]:starts[s + 1]``."""


class Family(Protocol[C_co]):
    """One architecture's layers and arithmetic, on kernels alone.

    It is a ``DecoderFamily``, an ``EncoderFamily``, or both: an ``EncoderDecoderFamily``.
    """

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

    @property
    def pooled_heads(self) -> Mapping[str, PooledHead]:
        """What pooled states go through, by the pooling; none for most. "rank" is a classifier."""
        ...

    def __init__(self, config: C_co, tensors: TensorReader, kernels: Kernels) -> None:
        """Declares the layers and asks for their tensors: to have them checked, or loaded."""
        ...

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> C_co:
        """The settings in a file whose embedding has ``n_vocab`` rows."""
        ...


class DecoderFamily(Family[C_co], Protocol[C_co]):
    """A family whose tokens see those before them, and which says what comes next."""

    def forward(self, tokens: Int32, view: View, wanted: Int64) -> Float32:
        """Final normalised states ``[R, d_model]`` of the rows ``wanted`` ``[R]`` of ``tokens``.

        ``tokens``: ``[T]``, of any number of sequences. The layers' caches are written for all of
        them, even where nothing is wanted.
        """
        ...

    def head(self, hidden: Float32) -> Float32:
        """Logits ``[R, n_vocab]`` of what ``forward`` gave."""
        ...


class EncoderFamily(Family[C_co], Protocol[C_co]):
    """A family whose tokens see their whole sequence."""

    def encode(self, tokens: Int32, view: Whole, wanted: Int64 | None) -> Float32:
        """Final normalised states ``[R, d_model]`` of the rows ``wanted`` ``[R]`` of ``tokens``.

        ``tokens``: ``[T]``, whole sequences; ``wanted``: None for all.
        """
        ...


class EncoderDecoderFamily(DecoderFamily[C_co], EncoderFamily[C_co], Protocol[C_co]):
    """A family whose decoder attends to what its encoder makes of another text."""

    def remember(self, states: Float32, view: View) -> None:
        """Write what the decoder's layers keep of ``states`` ``[T, d_model]``.

        These are what ``encode`` gave for all tokens of some sequences.
        """
        ...
