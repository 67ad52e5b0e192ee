"""KV caches: keys and values in pages, of every token (full attention) or of the last ones."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from motet.arrays import Array, Int64
from motet.kernels import PAGE, Kernels
from motet.kernels.interface import KVPages, PagedKV
from motet.memory import page_masks
from motet.memory.block_table import (
    NO_COPIES,
    Blocks,
    BlockTable,
    BlockTableDraft,
    HeldBlocks,
    LayerSlots,
    TokenMoves,
)
from motet.memory.cache import REWIND, CacheKey, Exported, Filled, Limits
from motet.memory.ref_counts import unused
from motet.memory.saved import Places, Saved, Tables, TokenRows, contradicts
from motet.memory.sequence_table import SequenceDraft, SequenceState, SequenceTable
from motet.memory.slot_mapping import SlotMapping, ragged
from motet.spec import AttentionSpec, CacheSpec, FullAttention, SlidingAttention


def kv_caches(
    specs: Mapping[CacheKey, CacheSpec], kernels: Kernels, limits: Limits, table: SequenceTable
) -> Iterator["FullKVCache | SlidingKVCache"]:
    """One for all layers of full attention, and one for each window that there is."""
    full = {key: spec for key, spec in specs.items() if isinstance(spec, FullAttention)}
    sliding = {key: spec for key, spec in specs.items() if isinstance(spec, SlidingAttention)}

    def allocate(spec: AttentionSpec, pages: int) -> KVPages:
        return kernels.allocate_pages(
            pages, spec.kv_heads, spec.head_dim, spec.value_dim, limits.kv_type
        )

    if full:
        layers = {key: allocate(spec, table.pages) for key, spec in full.items()}
        yield FullKVCache(kernels, layers)
    for window in sorted({spec.window for spec in sliding.values()}):
        alike = {key: spec for key, spec in sliding.items() if spec.window == window}
        page = _page_bytes(alike.values(), kernels, limits.kv_type)
        # Those that checkpoints drop in a batch stay until it is done.
        held = 2 * (limits.checkpoint_bytes // page)
        pages = min(table.pages, _window_pages(window, limits)) + held
        pages = max(min(pages, limits.kv_bytes // page), 1)
        layers = {key: allocate(spec, pages) for key, spec in alike.items()}
        yield SlidingKVCache(kernels, layers, window, BlockTable.empty(limits.max_sequences, pages))


def full_page_bytes(specs: Iterable[CacheSpec], kernels: Kernels, kv_type: str) -> int:
    """What a page of tokens takes in all layers of full attention."""
    full = [spec for spec in specs if isinstance(spec, FullAttention)]
    return _page_bytes(full, kernels, kv_type)


def _page_bytes(specs: Iterable[AttentionSpec], kernels: Kernels, kv_type: str) -> int:
    return sum(
        kernels.page_bytes(spec.kv_heads, spec.head_dim, spec.value_dim, kv_type) for spec in specs
    )


def kept_tokens(window: int) -> int:
    """Tokens before the next one that sliding layers keep, so that going back is exact."""
    return window - 1 + REWIND


def _window_pages(window: int, limits: Limits) -> int:
    """Pages that sliding layers can need: what is held and, beside it, what is being computed."""
    span = -(-(window + REWIND) // PAGE) + 2
    return 2 * limits.max_sequences * span + -(-limits.ubatch // PAGE)


def page_arrays(layers: Mapping[CacheKey, KVPages]) -> Mapping[CacheKey, Mapping[str, Array]]:
    """What each layer's pages consist of, by name."""
    return {key: pages.arrays for key, pages in layers.items()}


def release_pages(
    kernels: Kernels, layers: Mapping[CacheKey, KVPages], tables: Iterable[BlockTable]
) -> None:
    """Give pages that none of the tables refers to back to the system."""
    free = unused(table.refs for table in tables)
    for pages in layers.values():
        kernels.discard(pages.arrays["keys"], free)


def _move(
    kernels: Kernels, layers: Mapping[CacheKey, KVPages], moves: Sequence[TokenMoves]
) -> None:
    for each in moves:
        for pages in layers.values():
            kernels.copy_pages(pages, each.pages.source, each.pages.target)
            kernels.copy_tokens(pages, each.source, each.target)


class KVView(NamedTuple):
    """A ``CacheView``."""

    kernels: Kernels
    layers: Mapping[CacheKey, KVPages]
    placed: LayerSlots

    def begin(self) -> None:
        """Copy the pages that are about to differ."""
        copies = self.placed.copies
        if copies is not NO_COPIES:
            for pages in self.layers.values():
                self.kernels.copy_pages(pages, copies.source, copies.target)

    def cache(self, key: CacheKey) -> PagedKV:
        """What the layer reads and writes."""
        return PagedKV(self.layers[key], self.placed.tables)


class FullKVCache:
    """A ``Cache`` of layers that see every token. Its block table is the sequence table's own."""

    name = "full"
    rewinds_anywhere = True
    ordered = False
    holds_positions = False

    def __init__(self, kernels: Kernels, layers: Mapping[CacheKey, KVPages]) -> None:
        self._kernels = kernels
        self._layers = layers
        self.arrays = page_arrays(layers)
        self._page_bytes = sum(pages.page_bytes for pages in layers.values())
        """Of a page in all the layers."""

    def empty(self) -> None:
        """There is no state beside the sequence table's."""

    def draft(self, state: None, sequences: SequenceDraft) -> "FullKVDraft":
        """A draft, which follows ``sequences``."""
        return FullKVDraft(self._kernels, self._layers, self._page_bytes, sequences)

    def export(
        self,
        state: None,
        table: SequenceTable,
        sequences: SequenceState,
        seqs: list[int],
        tokens: Int64,
        holds: list[tuple[int, None]],
    ) -> Exported:
        """The rows are the sequences' tokens."""
        return Exported(SharedRows(), tokens)

    def read(self, tables: Tables) -> "SharedRows":
        """No tables of its own."""
        return SharedRows()

    def trim(self, states: Sequence[tuple[SequenceState, None]]) -> None:
        release_pages(self._kernels, self._layers, [sequences.blocks for sequences, _ in states])


@dataclass(frozen=True)
class SharedRows:
    """``CacheRows`` that are the saved sequences' own tokens."""

    def tables(self) -> dict[str, Array]:
        return {}

    def only(self, owners: Int64) -> "SharedRows":
        return self

    def check(self, saved: Saved, count: int) -> None:
        if count != len(saved.sequences.tokens):
            contradicts(f"{len(saved.sequences.tokens)} tokens have {count} keys and values")

    def check_marks(self, saved: Saved) -> None:
        """Whoever may use a checkpoint still holds the tokens before it."""


class FullKVDraft:
    """A ``CacheDraft`` with no bookkeeping of its own: it does what the sequence table does."""

    def __init__(
        self,
        kernels: Kernels,
        layers: Mapping[CacheKey, KVPages],
        page_bytes: int,
        sequences: SequenceDraft,
    ) -> None:
        self._kernels = kernels
        self._layers = layers
        self._page_bytes = page_bytes
        self._moves: list[TokenMoves] = []
        self._sequences = sequences

    def advance(self, mapping: SlotMapping, placed: LayerSlots) -> KVView:
        return KVView(self._kernels, self._layers, placed)

    def reachable(self, seq: int, position: int) -> int:
        return position

    def hold(self, seq: int) -> None:
        """Whoever may use a checkpoint still holds the tokens before it."""

    def release(self, hold: None) -> None: ...

    def hold_bytes(self, hold: None) -> int:
        return 0

    @property
    def held_bytes(self) -> int:
        return 0

    @property
    def used_bytes(self) -> int:
        return self._sequences.blocks.used * self._page_bytes

    def cut(self, seq: int, position: int, hold: None) -> None: ...

    def settle(self, seq: int) -> None: ...

    def forget(self, seq: int) -> None: ...

    def fork(self, source: int, target: int, position: int, hold: None) -> None: ...

    def remove(self, seq: int, start: int, end: int) -> None: ...

    def insert(self, source: int, target: int, start: int, end: int, moves: TokenMoves) -> None:
        self._moves.append(moves)

    def shift(self, seq: int, start: int, end: int, delta: int, moves: TokenMoves) -> None:
        self._moves.append(moves)

    def agrees(self, leader: int, member: int) -> bool:
        return True

    def adopt(self, leader: int, member: int) -> None: ...

    def missing(self, seq: int) -> None: ...

    def fill(self, seqs: Int64, rows: SharedRows, places: Places, checkpoints: int) -> Filled:
        return Filled(places, [None] * checkpoints)

    def write(self) -> None:
        _move(self._kernels, self._layers, self._moves)

    def seal(self) -> None: ...


class SlidingKVCache:
    """A ``Cache`` of layers that see the last ``window`` tokens, in pages of its own."""

    rewinds_anywhere = False
    ordered = False
    holds_positions = True

    def __init__(
        self,
        kernels: Kernels,
        layers: Mapping[CacheKey, KVPages],
        window: int,
        nothing: BlockTable,
    ) -> None:
        self.name = f"sliding_{window}"
        self.arrays = page_arrays(layers)
        self.window = window
        self.kernels = kernels
        self.layers = layers
        self.page_bytes = sum(pages.page_bytes for pages in layers.values())
        """Of a page in all the layers."""
        self._nothing = nothing

    def empty(self) -> BlockTable:
        """The state in which nothing is held."""
        return self._nothing

    def draft(self, state: BlockTable, sequences: SequenceDraft) -> "SlidingKVDraft":
        """A draft of ``state``."""
        return SlidingKVDraft(self, state, sequences)

    def export(
        self,
        state: BlockTable,
        table: SequenceTable,
        sequences: SequenceState,
        seqs: list[int],
        tokens: Int64,
        holds: list[tuple[int, HeldBlocks]],
    ) -> Exported:
        """What ``seqs`` and then checkpoints still hold."""
        owners = [*seqs, *(seq for seq, _ in holds)]
        places = [state.places(seq) for seq in seqs]
        rows, slots = table.token_rows(
            sequences, owners, places + [hold.places() for _, hold in holds]
        )
        return Exported(SlidingRows(self.name, rows), slots)

    def read(self, tables: Tables) -> "SlidingRows":
        """Raises StateFileError where a table is missing."""
        return SlidingRows(self.name, TokenRows.read(tables, self.name))

    def trim(self, states: Sequence[tuple[SequenceState, BlockTable]]) -> None:
        release_pages(self.kernels, self.layers, [table for _, table in states])


@dataclass(frozen=True)
class SlidingRows:
    """``CacheRows`` of the tokens that sequences and checkpoints still hold."""

    name: str
    held: TokenRows

    def tables(self) -> dict[str, Array]:
        return self.held.tables(self.name)

    def only(self, owners: Int64) -> "SlidingRows":
        return SlidingRows(self.name, self.held.only(owners))

    def check(self, saved: Saved, count: int) -> None:
        self.held.check(saved.owners, count)
        sequences = len(saved.sequences)
        present = saved.sequences.held.places(sequences)
        if np.setdiff1d(self.held.places(sequences), present).size:
            contradicts("a layer holds a position that its sequence does not")

    def check_marks(self, saved: Saved) -> None:
        """What a checkpoint holds has to be tokens before it that its sequence holds."""
        own, kept, marks = Blocks.of(saved.sequences.held), Blocks.of(self.held), saved.marks
        for i in np.flatnonzero(marks.lengths).tolist():
            its = marks.of(i)
            checkpoints = len(saved.sequences) + marks.rows[its].astype(np.int64)
            mark, index = ragged(kept.counts[checkpoints])
            blocks = kept.starts[checkpoints][mark] + index
            entries = kept.entries[blocks]
            before = page_masks.span(0, marks.positions[its].astype(np.int64)[mark], entries)
            if np.any(kept.masks[blocks] & ~(own.masks_of(i, entries) & before)):
                contradicts("a checkpoint holds a position that its sequence does not")


class SlidingKVDraft:
    """A ``CacheDraft``."""

    def __init__(self, cache: SlidingKVCache, state: BlockTable, sequences: SequenceDraft) -> None:
        self._cache = cache
        self._sequences = sequences
        self._blocks = BlockTableDraft(state, sequences.columns)
        self._kept = kept_tokens(cache.window)
        self._moves: list[TokenMoves] = []

    def advance(self, mapping: SlotMapping, placed: LayerSlots) -> KVView:
        """Room for a micro-batch, where pages that nothing will see again are given up."""
        cache = self._cache
        self._blocks.retire(mapping.members, (mapping.first - self._kept) // PAGE)
        own = self._blocks.advance(mapping, cache.kernels)
        return KVView(cache.kernels, cache.layers, own)

    def reachable(self, seq: int, position: int) -> int:
        """The greatest position from which the next token's window is all here."""
        if self._complete(seq, position):
            return position
        held, window = self._sequences.positions(seq), self._cache.window
        latest = np.where(np.isin(held, self._lost(seq)), held, -window)
        exact = np.maximum.accumulate(latest) <= held + 1 - window  # [i]: with held[i] the last
        kept = int(np.searchsorted(held, position))
        if kept == 0 or exact[kept - 1]:
            return position
        last = np.flatnonzero(exact[:kept])
        return int(held[last[-1] + 1] if last.size else held[0])

    def hold(self, seq: int) -> HeldBlocks:
        """Refer to what is held of ``seq``."""
        return self._blocks.hold(seq, self._sequences.end(seq) - self._kept)

    def release(self, hold: HeldBlocks) -> None:
        self._blocks.release(hold)

    def hold_bytes(self, hold: HeldBlocks) -> int:
        return len(hold.pages) * self._cache.page_bytes

    @property
    def held_bytes(self) -> int:
        """What all of them keep; a page that several refer to counts once."""
        return int(np.count_nonzero(self._blocks.held)) * self._cache.page_bytes

    @property
    def used_bytes(self) -> int:
        return self._blocks.used * self._cache.page_bytes

    def cut(self, seq: int, position: int, hold: HeldBlocks | None) -> None:
        self._blocks.cut(seq, position)
        if hold is not None:
            self._blocks.restore(seq, hold)

    def settle(self, seq: int) -> None: ...

    def forget(self, seq: int) -> None: ...

    def fork(self, source: int, target: int, position: int, hold: HeldBlocks | None) -> None:
        if hold is None:
            self._blocks.share(source, target, 0, position)
        else:
            self._blocks.restore(target, hold)

    def remove(self, seq: int, start: int, end: int) -> None:
        self._blocks.remove(seq, start, end)

    def insert(self, source: int, target: int, start: int, end: int, moves: TokenMoves) -> None:
        self._moves.append(self._blocks.share(source, target, start, end))

    def shift(self, seq: int, start: int, end: int, delta: int, moves: TokenMoves) -> None:
        self._moves.append(self._blocks.shift(seq, start, end, delta))

    def agrees(self, leader: int, member: int) -> bool:
        return True

    def adopt(self, leader: int, member: int) -> None:
        self._blocks.adopt(leader, member)

    def missing(self, seq: int) -> int | None:
        lost, end = self._lost(seq), self._sequences.end(seq)
        return int(lost[-1]) if lost.size and lost[-1] > end - self._cache.window else None

    def fill(self, seqs: Int64, rows: SlidingRows, places: Places, checkpoints: int) -> Filled:
        slots, holds = self._blocks.fill(seqs, rows.held)
        return Filled(Places.of(rows.held.rows, slots), holds)

    def write(self) -> None:
        _move(self._cache.kernels, self._cache.layers, self._moves)

    def seal(self) -> BlockTable:
        """The state as it has become, without the pages that nothing will see again."""
        ends = self._sequences.ends
        self._blocks.retire(np.arange(len(ends)), (ends - self._kept) // PAGE)
        return self._blocks.seal(-(-int(ends.max()) // PAGE))

    def _complete(self, seq: int, position: int) -> bool:
        """Whether all that a token at ``position`` sees is here, and ``seq`` has no gap before."""
        masks, start = self._sequences.blocks.masks[seq], max(position - self._cache.window + 1, 0)
        seen = slice(start // PAGE, -(-position // PAGE))
        lost = masks[seen] & ~self._blocks.masks[seq, seen]
        lost &= page_masks.span(start, position, np.arange(seen.start, seen.start + len(lost)))
        return page_masks.holds(masks, position - 1) and not np.count_nonzero(lost)

    def _lost(self, seq: int) -> Int64:
        """Positions that ``seq`` holds and these layers do not."""
        return page_masks.positions(self._sequences.blocks.masks[seq] & ~self._blocks.masks[seq])
