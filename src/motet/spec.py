"""What a layer keeps of the tokens that it has seen, as data.

A model family declares the caches of each layer, none or several; ``memory`` is built from that
declaration. The specs stand below both, so that neither has to import the other.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class FullAttention:
    """Keys and values of every token."""

    kv_heads: int
    head_dim: int
    value_dim: int
    """0 where values are a part of the keys."""


@dataclass(frozen=True)
class SlidingAttention:
    """Keys and values of the last ``window`` tokens, the query's own included."""

    kv_heads: int
    head_dim: int
    value_dim: int
    window: int


@dataclass(frozen=True)
class CrossAttention:
    """Keys and values of every token that an encoder saw, which decoding does not change."""

    kv_heads: int
    head_dim: int
    value_dim: int
    longest: int
    """Tokens that an encoder sees at most."""


@dataclass(frozen=True)
class Recurrent:
    """A state of fixed size that every token rewrites, in float32; zeros before the first one."""

    shapes: tuple[tuple[int, ...], ...]
    """Of each array that the state consists of: a convolution's tail, a scan's state, …"""


POOLINGS = ("none", "mean", "cls", "last", "rank")
"""How a sequence's hidden states become one vector, in the order of GGUF's ``pooling_type``: not at
all, their mean, the first one, the last one, or a classifier's numbers."""

AttentionSpec = FullAttention | SlidingAttention
CacheSpec = AttentionSpec | CrossAttention | Recurrent

LayerCaches = tuple[CacheSpec, ...]
"""What one layer keeps: its caches, in the order in which it asks for them."""


def attention_specs(layers: Iterable[LayerCaches]) -> list[AttentionSpec]:
    """The caches that hold keys and values of a sequence's own tokens; none where no layer attends
    to these."""
    every = (spec for caches in layers for spec in caches)
    return [spec for spec in every if isinstance(spec, FullAttention | SlidingAttention)]
