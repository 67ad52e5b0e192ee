"""Caches in host memory, as ``Reference`` and ``CPU`` keep them.

A page holds ``PAGE`` consecutive positions of one sequence. Inside a page each KV head has one
block: its keys channel by channel (``[head_dim, PAGE]``, so that vector lanes are tokens), then
its values token by token (``[PAGE, value_dim]``, padded to ``LANES``, so that lanes are channels),
unless they are a part of the keys.
``q8_0`` adds a float16 scale for every 32 channels of a token, after the keys and after the values.
Keys are stored un-rotated.
"""

import mmap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from motet.arrays import Array, Float32, Int32, Int64, UInt8, UInt64
from motet.errors import CapacityError, OptionError
from motet.kernels.interface import KV_TYPES, BlockTables, KVPages
from motet.kernels.sizes import LANES, PAGE
from motet.system import LAZY_MEMORY, give_back

SCALE_GROUP = 32
"""Channels that share a scale in ``q8_0``."""

_SMALL = 2 << 20
"""Bytes at the beginning of an array that stay in pages of the usual size."""
_STORAGE: dict[str, np.dtype[np.generic]] = {
    "f32": np.dtype(np.float32),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(np.uint16),
    "q8_0": np.dtype(np.int8),
}
_COPIED = 1024
"""Tokens copied at once."""
_SHORT = 4
"""Runs shorter than this on average are moved by index, all at once."""


def padded(channels: int) -> int:
    """``channels`` of a value and what fills its last vector."""
    return -(-channels // LANES) * LANES


def scale_groups(channels: int) -> int:
    """Scales that ``q8_0`` keeps for a token of ``channels`` channels."""
    return -(-channels // SCALE_GROUP)


@dataclass(frozen=True)
class BlockLayout:
    """Where what a page keeps of one KV head begins, in bytes from the head's block."""

    storage: "np.dtype[np.generic]"
    keys: int
    key_scales: int
    values: int
    value_scales: int
    nbytes: int
    """Of the whole block."""

    @classmethod
    def of(cls, head_dim: int, value_dim: int, kv_type: str) -> "BlockLayout":
        """Raises OptionError for a ``kv_type`` that there is not."""
        if kv_type not in KV_TYPES:
            raise OptionError(f"kv_type is {kv_type!r}", hint=f"use one of {', '.join(KV_TYPES)}")
        storage, scale_bytes = _STORAGE[kv_type], 2 if kv_type == "q8_0" else 0
        sizes = [
            head_dim * PAGE * storage.itemsize,
            scale_groups(head_dim) * PAGE * scale_bytes,
            PAGE * padded(value_dim) * storage.itemsize,
            PAGE * scale_groups(value_dim) * scale_bytes,
        ]
        return cls(storage, *accumulate(sizes, initial=0))


class HostPages:
    """One layer's pages of keys and values: see ``interface.KVPages``."""

    def __init__(
        self, pages: int, kv_heads: int, head_dim: int, value_dim: int, kv_type: str
    ) -> None:
        layout = BlockLayout.of(head_dim, value_dim, kv_type)
        self.pages = pages
        self.kv_heads = kv_heads
        self.head_dim = head_dim
        self.value_dim = value_dim
        self.kv_type = kv_type
        self.page_bytes = kv_heads * layout.nbytes
        self.buffer = _reserve(
            pages, self.page_bytes, "pages", "max_tokens, max_sequences or kv_bytes"
        )

        def view(
            dtype: "np.dtype[np.generic]", start: int, channels: int, token: int, channel: int
        ) -> Array:
            """Token-major ``[pages, PAGE, kv_heads, channels]``; strides of a token, a channel."""
            strides = self.page_bytes, token, layout.nbytes, channel
            shape = pages, PAGE, kv_heads, channels
            return np.ndarray(shape, dtype, self.buffer, start, strides)

        storage, item = layout.storage, layout.storage.itemsize
        self.keys = view(storage, layout.keys, head_dim, item, PAGE * item)
        self.values = self.key_scales = self.value_scales = None
        if value_dim:
            self.values = view(storage, layout.values, value_dim, padded(value_dim) * item, item)
        if kv_type == "q8_0":
            half, groups = np.dtype(np.float16), scale_groups(value_dim)
            self.key_scales = view(half, layout.key_scales, scale_groups(head_dim), 2, PAGE * 2)
            if value_dim:
                self.value_scales = view(half, layout.value_scales, groups, groups * 2, 2)

    @property
    def arrays(self) -> Mapping[str, Array]:
        """What is stored, each ``[pages, PAGE, kv_heads, channels or groups of them]``."""
        arrays = {
            "keys": self.keys,
            "values": self.values,
            "key_scales": self.key_scales,
            "value_scales": self.value_scales,
        }
        return {name: array for name, array in arrays.items() if array is not None}


class HostMemory:
    """The part of ``Kernels`` that allocates caches and moves what lies in them."""

    def page_bytes(self, kv_heads: int, head_dim: int, value_dim: int, kv_type: str) -> int:
        return kv_heads * BlockLayout.of(head_dim, value_dim, kv_type).nbytes

    def allocate_pages(
        self, pages: int, kv_heads: int, head_dim: int, value_dim: int, kv_type: str
    ) -> HostPages:
        return HostPages(pages, kv_heads, head_dim, value_dim, kv_type)

    def allocate_states(self, slots: int, shape: tuple[int, ...]) -> Float32:
        state_bytes = np.dtype(np.float32).itemsize * prod(shape)
        raw = _reserve(slots, state_bytes, "states", "max_sequences or kv_bytes")
        return raw.view(np.float32).reshape(slots, *shape)

    def discard(self, array: Array, rows: Int64) -> None:
        memory: Any = array
        while not isinstance(memory, mmap.mmap):
            memory = memory.obj if isinstance(memory, memoryview) else memory.base
        row_bytes, rows = array.strides[0], np.unique(rows)
        ends = np.flatnonzero(np.diff(rows, append=-1) != 1)
        starts = np.append(0, ends[:-1] + 1)[: len(ends)]
        for first, last in zip(rows[starts].tolist(), rows[ends].tolist(), strict=True):
            start = -(-first * row_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
            end = (last + 1) * row_bytes // mmap.PAGESIZE * mmap.PAGESIZE
            if start < end:
                give_back(memory, start, end)

    def block_tables(
        self, tables: Int32, masks: UInt64, rows: Int32, positions: Int32, slots: Int64
    ) -> BlockTables:
        return BlockTables(tables, masks, rows, positions, slots)

    def copy_pages(self, pages: KVPages, source: Int64, target: Int64) -> None:
        assert isinstance(pages, HostPages)
        for old, new in zip(source.tolist(), target.tolist(), strict=True):
            pages.buffer[new] = pages.buffer[old]

    def copy_tokens(self, pages: KVPages, source: Int64, target: Int64) -> None:
        for array in pages.arrays.values():
            for i in range(0, len(source), _COPIED):
                old, new = source[i : i + _COPIED], target[i : i + _COPIED]
                array[new // PAGE, new % PAGE] = array[old // PAGE, old % PAGE]

    def gather_rows(self, array: Array, slots: Int64) -> Array:
        page_rows = array.shape[1]
        if len(slots) < _SHORT * (len(_breaks(slots, page_rows)) + 1):
            return np.ascontiguousarray(array[slots // page_rows, slots % page_rows])
        out = np.empty((len(slots), *array.shape[2:]), array.dtype)
        for first, last, page, row in _runs(slots, page_rows):
            out[first:last] = array[page, row : row + last - first]
        return out

    def scatter_rows(self, array: Array, slots: Int64, rows: Array) -> None:
        page_rows = array.shape[1]
        if len(slots) < _SHORT * (len(_breaks(slots, page_rows)) + 1):
            array[slots // page_rows, slots % page_rows] = rows
            return
        strided = array.ndim > 2 and array.strides[-1] != array.itemsize
        for first, last, page, row in _runs(slots, page_rows):
            target = array[page, row : row + last - first]
            if strided:  # channels apart from each other: head by head, to stay in the cache
                for head in range(array.shape[2]):
                    target[:, head] = rows[first:last, head].copy()
            else:
                target[...] = rows[first:last]


def _reserve(count: int, item_bytes: int, what: str, smaller: str) -> UInt8:
    """``[count, item_bytes]`` of zeros, whose memory is committed when it is written to.

    Raises CapacityError where there is no address space for it.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | LAZY_MEMORY
    try:
        memory = mmap.mmap(-1, max(count * item_bytes, 1), flags=flags)
        _allow_large_pages(memory)
        raw = np.frombuffer(memory, np.uint8, count * item_bytes)
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        raise CapacityError(
            f"no address space for {count} {what} of {item_bytes} bytes: {error}",
            hint=f"give the context a smaller {smaller}",
        ) from error
    return raw.reshape(count, item_bytes)


def _allow_large_pages(memory: mmap.mmap) -> None:
    """Let the system use large pages but for the first bytes: long contexts are read a tenth to a
    quarter faster, and short ones commit no more than they write."""
    large = getattr(mmap, "MADV_HUGEPAGE", None)
    if large is None or len(memory) <= _SMALL:
        return
    with suppress(OSError):  # a kernel without them
        memory.madvise(large, _SMALL, len(memory) - _SMALL)


def _breaks(slots: Int64, page_rows: int) -> Int64:
    """Where a slot does not follow the one before it, or begins a page."""
    return np.flatnonzero((np.diff(slots) != 1) | (slots[1:] % page_rows == 0)) + 1


def _runs(slots: Int64, page_rows: int) -> Iterator[tuple[int, int, int, int]]:
    """(first, last + 1, page, row of the first) of slots that follow each other in one page."""
    starts = np.concatenate([np.zeros(1, np.int64), _breaks(slots, page_rows)])
    ends = np.append(starts[1:], len(slots))
    pages, rows = np.divmod(slots[starts], page_rows)
    return zip(starts.tolist(), ends.tolist(), pages.tolist(), rows.tolist(), strict=True)
