"""Where attention layers keep their keys and values, and the tokens beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from motet.errors import CapacityError
from motet.kernels.paged import PAGE, KVPool
from motet.memory.pages import PageMap
from motet.memory.tokens import TokenPool
from motet.spec import FullAttention, LayerSpec, Recurrent, SlidingAttention

_Paged = FullAttention | SlidingAttention

REWIND = 64
"""Tokens that sliding layers keep beyond their window, so that taking back so many is exact."""

UNBROKEN = np.iinfo(np.int64).max

_PARTIAL_PAGES = 3
"""Pages that a sequence may fill partly: its first, its last, the one where it left a fork."""


@dataclass(frozen=True)
class Group:
    """Layers that remember alike, so that one page table serves them all."""

    window: int
    """0 for full attention."""
    pages: int
    pools: tuple[KVPool, ...]

    @property
    def page_bytes(self) -> int:
        """Of a page in all the layers."""
        return sum(pool.page_bytes for pool in self.pools)

    @property
    def kept(self) -> int:
        """Tokens before the next one that are kept; of sliding layers."""
        return self.window - 1 + REWIND


@dataclass(frozen=True)
class State:
    """What is held at one moment; replaced as a whole, never changed."""

    maps: tuple[PageMap, ...]
    """One for each group; that of group 0 says which tokens are held."""
    ends: np.ndarray
    """int64 ``[S]``: the position after the last token held, 0 where there is none."""
    lengths: np.ndarray
    """int64 ``[S]``: tokens held."""
    broken: np.ndarray
    """int64 ``[S]``: tokens from this position on were computed with another past than the one
    held now (something was removed or moved beneath them); UNBROKEN where there are none."""


class PagedStore:
    """The pools of pages, grouped by what their layers remember.

    Group 0 holds every token, of every model: its id, and the keys and values of full attention.
    """

    def __init__(
        self,
        layers: Sequence[LayerSpec],
        *,
        max_sequences: int,
        max_tokens: int,
        ubatch: int,
        kv_type: str,
        checkpoint_bytes: int,
    ) -> None:
        self.max_sequences = max_sequences
        most = -(-max_tokens // PAGE) + _PARTIAL_PAGES * max_sequences
        self.groups: list[Group] = []
        self.pools: dict[int, tuple[int, KVPool]] = {}
        """Layer: its group and its keys and values."""
        try:
            self.tokens = TokenPool(most)
            paged = {i: spec for i, spec in enumerate(layers) if not isinstance(spec, Recurrent)}
            for window in sorted({0, *map(_window, paged.values())}):
                group = {i: spec for i, spec in paged.items() if _window(spec) == window}
                pages = most
                if window:  # those that checkpoints drop in a batch stay until it is done
                    held = 2 * (checkpoint_bytes // _page_bytes(group, kv_type))
                    pages = min(most, _sliding_pages(window, max_sequences, ubatch)) + held
                self._add_group(group, window, pages, kv_type)
        except (OSError, ValueError, OverflowError, MemoryError) as error:
            raise CapacityError(
                f"no address space for {most} pages of {PAGE} tokens in {len(layers)} layers:"
                f" {error}",
                hint="give the context a smaller max_tokens or max_sequences",
            ) from error

    def _add_group(
        self, layers: Mapping[int, _Paged], window: int, pages: int, kv_type: str
    ) -> None:
        pools = {i: _pool(pages, spec, kv_type) for i, spec in layers.items()}
        self.pools |= {i: (len(self.groups), pool) for i, pool in pools.items()}
        self.groups.append(Group(window, pages, tuple(pools.values())))


def _pool(pages: int, spec: _Paged, kv_type: str) -> KVPool:
    return KVPool(pages, spec.kv_heads, spec.head_dim, spec.value_dim, kv_type)


def _page_bytes(layers: Mapping[int, _Paged], kv_type: str) -> int:
    return sum(_pool(1, spec, kv_type).page_bytes for spec in layers.values())


def _window(spec: _Paged) -> int:
    return spec.window if isinstance(spec, SlidingAttention) else 0


def _sliding_pages(window: int, max_sequences: int, ubatch: int) -> int:
    """Pages that sliding layers can need: what is held and, beside it, what is being computed."""
    span = -(-(window + REWIND) // PAGE) + 2
    return 2 * max_sequences * span + -(-ubatch // PAGE)
