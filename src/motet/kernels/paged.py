"""Paged keys and values: where they lie in memory, as plain arrays.

A page holds ``PAGE`` consecutive positions of one sequence. Inside a page each KV head has one
block: its keys channel by channel (``[head_dim, PAGE]``, so that vector lanes are tokens), then
its values token by token (``[PAGE, value_dim]``, padded to ``LANES``, so that lanes are channels).
``q8_0`` adds a float16 scale for every 32 channels of a token, after the keys and after the values.
Keys are stored un-rotated.
"""

import mmap
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from motet.errors import OptionError

PAGE = 64
LANES = 16
SCALE_GROUP = 32
KINDS = {"f32": 0, "f16": 1, "bf16": 2, "q8_0": 3}
"""Storage kinds of keys and values, with the number by which the native kernels know them."""

_NORESERVE = 0x4000
"""Linux's MAP_NORESERVE, which Python names from 3.13 on."""

_STORAGE = {
    "f32": np.dtype(np.float32),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(np.uint16),
    "q8_0": np.dtype(np.int8),
}


def groups_of(channels: int) -> int:
    """Scales that ``q8_0`` keeps for a token of ``channels`` channels."""
    return -(-channels // SCALE_GROUP)


class KVPool:
    """One layer's pages of keys and values.

    The memory is reserved, not committed: a page costs nothing until something is written to it.
    """

    def __init__(self, pages: int, kv_heads: int, head_dim: int, value_dim: int, kind: str) -> None:
        if kind not in KINDS:
            raise OptionError(f"kv_type is {kind!r}", hint=f"use one of {', '.join(KINDS)}")
        self.pages = pages
        self.kv_heads = kv_heads
        self.head_dim = head_dim
        self.value_dim = value_dim
        self.kind = kind
        item = _STORAGE[kind].itemsize
        scaled = kind == "q8_0"
        self._padded = -(-value_dim // LANES) * LANES
        sizes = [
            head_dim * PAGE * item,
            groups_of(head_dim) * PAGE * 2 if scaled else 0,
            PAGE * self._padded * item,
            PAGE * groups_of(value_dim) * 2 if scaled else 0,
        ]
        self.head_bytes = sum(sizes)
        self.page_bytes = kv_heads * self.head_bytes
        self.buffer = reserve(pages, self.page_bytes)
        storage, half = _STORAGE[kind], np.dtype(np.float16)
        starts = np.cumsum([0, *sizes])
        # Token-major views over the page blocks: [pages, PAGE, kv_heads, …].
        self.keys = self._view(storage, starts[0], head_dim, (item, PAGE * item))
        self.values = self._view(storage, starts[2], value_dim, (self._padded * item, item))
        self.key_scales = self.value_scales = None
        if scaled:
            key_groups, value_groups = groups_of(head_dim), groups_of(value_dim)
            self.key_scales = self._view(half, starts[1], key_groups, (2, PAGE * 2))
            self.value_scales = self._view(half, starts[3], value_groups, (value_groups * 2, 2))

    def _view(
        self, dtype: np.dtype, start: int, channels: int, strides: tuple[int, int]
    ) -> np.ndarray:
        token, channel = strides
        return np.ndarray(
            (self.pages, PAGE, self.kv_heads, channels),
            dtype,
            self.buffer,
            int(start),
            (self.page_bytes, token, self.head_bytes, channel),
        )

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """What is stored, as views ``[pages, PAGE, kv_heads, channels or groups of them]``."""
        parts = {"keys": self.keys, "values": self.values}
        if self.key_scales is not None and self.value_scales is not None:
            parts |= {"key_scales": self.key_scales, "value_scales": self.value_scales}
        return parts

    @property
    def token_bytes(self) -> int:
        """Bytes that ``read`` gives for one token."""
        return sum(part.shape[2] * part.shape[3] * part.itemsize for part in self.parts.values())

    def copy_page(self, source: int, target: int) -> None:
        """Copy page ``source`` over page ``target``."""
        self.buffer[target] = self.buffer[source]

    def read(self, slots: np.ndarray) -> np.ndarray:
        """Stored bytes of the tokens in ``slots`` (page × PAGE + position % PAGE).

        Returns uint8 ``[n, token_bytes]``: keys, values, then the scales of ``q8_0``; it does not
        depend on which pages the tokens lie in.
        """
        page, slot = np.divmod(slots, PAGE)
        rows = [np.ascontiguousarray(part[page, slot]) for part in self.parts.values()]
        return np.concatenate([r.reshape(len(slots), -1).view(np.uint8) for r in rows], axis=1)

    def write(self, slots: np.ndarray, raw: np.ndarray) -> None:
        """Put what ``read`` gave, uint8 ``[n, token_bytes]``, into ``slots``."""
        page, slot = np.divmod(slots, PAGE)
        at = 0
        for part in self.parts.values():
            width = part.shape[2] * part.shape[3] * part.itemsize
            block = np.ascontiguousarray(raw[:, at : at + width]).view(part.dtype)
            part[page, slot] = block.reshape(len(slots), *part.shape[2:])
            at += width


def reserve(count: int, item_bytes: int) -> np.ndarray:
    """uint8 ``[count, item_bytes]`` of zeros, whose memory is committed when it is written to."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
    memory = mmap.mmap(-1, max(count * item_bytes, 1), flags=flags)
    return np.frombuffer(memory, np.uint8, count * item_bytes).reshape(count, item_bytes)


@dataclass(frozen=True)
class Extended:
    """Self-Extend (Jin et al. 2024, arXiv 2401.01325, eq. 3 and 4) for a micro-batch's queries.

    A query at position q with group G sees a key at position k, q − k < window, at its distance
    q − k; and one farther away at ⌊q / G⌋ + window − ⌊window / G⌋ − ⌊k / G⌋.
    """

    window: int
    groups: np.ndarray
    """int32 ``[T]``: positions that count as one, for far keys, to each query."""
    factors: np.ndarray | None
    """float32 ``[T]``: what each query is multiplied by; None for 1."""

    @cached_property
    def stages(self) -> tuple[list[int], np.ndarray]:
        """The sizes of groups that there are, and int32 ``[T]``: which of them each query has."""
        sizes, stage = np.unique(self.groups, return_inverse=True)
        return sizes.tolist(), stage.astype(np.int32)


@dataclass(frozen=True)
class PagedKV:
    """What one micro-batch reads and writes in one layer.

    Sequences are rows of ``tables``; a query at position p sees the valid keys of its row at
    positions up to p.
    """

    pool: KVPool
    tables: np.ndarray
    """int32 ``[S, P]``: page that holds positions 64·j … 64·j + 63, -1 where there is none."""
    masks: np.ndarray
    """uint64 ``[S, P]``: bit p % 64 is set where position p is held or written by this batch."""
    rows: np.ndarray
    """int32 ``[T]``: table row that each token reads."""
    positions: np.ndarray
    """int32 ``[T]``."""
    slots: np.ndarray
    """int64 ``[T]``: page × PAGE + position % PAGE, where each token is written."""
    extended: Extended | None = None
    """Self-Extend, where it is on."""
    blocks: Any = None
    """What the kernels' ``block_tables`` made of the arrays above, to share among layers."""
