"""The caches that a layer needs, as data.

A model family declares any number of them for each layer, and ``memory`` is built from that
declaration. The specs stand below both, so that neither has to import the other.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class FullAttention:
    """Keys and values of every token."""

    kv_heads: int
    head_dim: int
    value_dim: int


@dataclass(frozen=True)
class SlidingAttention:
    """Keys and values of the last ``window`` tokens, the query's own included."""

    kv_heads: int
    head_dim: int
    value_dim: int
    window: int


@dataclass(frozen=True)
class Recurrent:
    """A state of fixed size that every token rewrites, in float32; zeros before the first one."""

    shapes: tuple[tuple[int, ...], ...]
    """Of each array that the state consists of: a convolution's tail, a scan's state, …"""


CacheSpec = FullAttention | SlidingAttention | Recurrent
LayerSpec = CacheSpec
