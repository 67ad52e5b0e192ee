"""What a context needs of a model."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from motet.arrays import Float32, Int32, Int64
from motet.kernels import Kernels
from motet.models.pooled_heads import PooledHead
from motet.spec import LayerCaches
from motet.weights.fingerprint import Fingerprint


class Sizes(Protocol):
    """The part of a model's configuration that a context needs."""

    @property
    def context_length(self) -> int: ...
    @property
    def n_vocab(self) -> int: ...
    @property
    def d_model(self) -> int: ...
    @property
    def positional(self) -> str: ...
    @property
    def pooling(self) -> str: ...
    @property
    def decoder_start(self) -> int | None: ...


class Layers(Protocol):
    """A model's arithmetic; it decodes, encodes, or both."""

    @property
    def caches(self) -> Sequence[LayerCaches]: ...
    @property
    def blocks(self) -> Sequence[Any]: ...
    @property
    def pooled_heads(self) -> Mapping[str, PooledHead]: ...


@runtime_checkable
class Decodes(Layers, Protocol):
    """What gives logits of the token to come."""

    def forward(self, tokens: Int32, view: Any, wanted: Int64) -> Float32: ...
    def head(self, hidden: Float32) -> Float32: ...


@runtime_checkable
class Encodes(Layers, Protocol):
    """What sees whole sequences."""

    def encode(self, tokens: Int32, view: Any, wanted: Int64 | None) -> Float32: ...


@runtime_checkable
class EncodesForDecoding(Decodes, Encodes, Protocol):
    """What encodes a text, and decodes another that attends to it."""

    def remember(self, states: Float32, view: Any) -> None: ...


class Runnable(Protocol):
    """What a context needs of a model."""

    @property
    def name(self) -> str: ...
    @property
    def config(self) -> Sizes: ...
    @property
    def family(self) -> Layers: ...
    @property
    def default_kv_type(self) -> str: ...
    @property
    def fingerprint(self) -> Fingerprint: ...
    @property
    def kernels(self) -> Kernels: ...
