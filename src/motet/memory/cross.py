"""Cross caches: keys and values of an encoder's output, written once and read by the decoder."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from motet.arrays import Array, Int64
from motet.kernels import PAGE, Kernels
from motet.kernels.interface import KVPages
from motet.memory.block_table import NO_COPIES, BlockTable, BlockTableDraft, LayerSlots, TokenMoves
from motet.memory.cache import CacheKey, Exported, Filled, Limits
from motet.memory.kv_cache import KVView, page_arrays, release_pages
from motet.memory.page_masks import FOREVER
from motet.memory.saved import Places, Saved, Tables, TokenRows, contradicts, number_tokens
from motet.memory.sequence_table import SequenceDraft, SequenceState, SequenceTable
from motet.memory.slot_mapping import SlotMapping
from motet.spec import CacheSpec, CrossAttention

_NAME = "cross"
_BESIDE = 2
"""An encoding that is replaced stays until the new one is whole."""


def cross_caches(
    specs: Mapping[CacheKey, CacheSpec], kernels: Kernels, limits: Limits
) -> Iterator["CrossCache"]:
    """One for all layers of cross attention, if there are any."""
    cross = {key: spec for key, spec in specs.items() if isinstance(spec, CrossAttention)}
    if not cross:
        return
    page = sum(
        kernels.page_bytes(spec.kv_heads, spec.head_dim, spec.value_dim, limits.kv_type)
        for spec in cross.values()
    )
    longest = max(spec.longest for spec in cross.values())
    wanted = _BESIDE * limits.max_sequences * -(-longest // PAGE)
    pages = max(min(wanted, limits.kv_bytes // page), 1)
    layers = {
        key: kernels.allocate_pages(
            pages, spec.kv_heads, spec.head_dim, spec.value_dim, limits.kv_type
        )
        for key, spec in cross.items()
    }
    yield CrossCache(kernels, layers, CrossTable.empty(limits.max_sequences, pages), longest)


@dataclass(frozen=True)
class CrossTable:
    """Which sequence's encoding lies where; replaced as a whole, never changed."""

    blocks: BlockTable
    """By position in what was encoded."""
    lengths: Int64
    """``[S]``: tokens that were encoded; 0 where none were."""

    def same(self, a: int, b: int) -> bool:
        """Whether two sequences share one encoding, or have none."""
        return np.array_equal(self.blocks.tables[a], self.blocks.tables[b])

    @classmethod
    def empty(cls, sequences: int, pages: int) -> "CrossTable":
        """Nothing encoded for any of ``sequences``."""
        return cls(BlockTable.empty(sequences, pages), np.zeros(sequences, np.int64))


class CrossCache:
    """A ``Cache`` of layers that attend to what an encoder made of a text.

    Whatever becomes of a sequence's own tokens, its encoding stays until all of it is forgotten.
    """

    name = _NAME
    rewinds_anywhere = True
    ordered = False
    holds_positions = False

    def __init__(
        self,
        kernels: Kernels,
        layers: Mapping[CacheKey, KVPages],
        nothing: CrossTable,
        longest: int,
    ) -> None:
        """``longest``: tokens that are encoded at most."""
        self._longest = longest
        self.kernels = kernels
        self.layers = layers
        self.arrays = page_arrays(layers)
        self.page_bytes = sum(pages.page_bytes for pages in layers.values())
        """Of a page in all the layers."""
        self._nothing = nothing

    def empty(self) -> CrossTable:
        """The state in which nothing is held."""
        return self._nothing

    def draft(self, state: CrossTable, sequences: SequenceDraft) -> "CrossDraft":
        """A draft of ``state``."""
        return CrossDraft(self, state)

    def export(
        self,
        state: CrossTable,
        table: SequenceTable,
        sequences: SequenceState,
        seqs: list[int],
        tokens: Int64,
        holds: list[tuple[int, None]],
    ) -> Exported:
        """What ``seqs`` have; a row is stored once, however many share it. Checkpoints: nothing."""
        places = [state.blocks.places(seq) for seq in seqs]
        lengths = np.array([len(at) for at, _ in places] + [0] * len(holds), np.int64)
        positions = np.concatenate([np.arange(0), *(at for at, _ in places)])
        lie = np.concatenate([np.arange(0), *(slots for _, slots in places)])
        rows, slots = number_tokens(lie, lie)
        return Exported(
            CrossRows(TokenRows(lengths, positions.astype(np.int32), rows), self._longest), slots
        )

    def read(self, tables: Tables) -> "CrossRows":
        """Raises StateFileError where a table is missing."""
        return CrossRows(TokenRows.read(tables, _NAME), self._longest)

    def trim(self, states: Sequence[tuple[SequenceState, CrossTable]]) -> None:
        release_pages(self.kernels, self.layers, [table.blocks for _, table in states])


@dataclass(frozen=True)
class CrossRows:
    """``CacheRows`` of encodings."""

    held: TokenRows
    longest: int
    """Tokens that the model encodes at most."""

    def tables(self) -> dict[str, Array]:
        return self.held.tables(_NAME)

    def only(self, owners: Int64) -> "CrossRows":
        return CrossRows(self.held.only(owners), self.longest)

    def check(self, saved: Saved, count: int) -> None:
        self.held.check(saved.owners, count)
        lengths, sequences = self.held.lengths, len(saved.sequences)
        # Positions ascend: where the last one is their number less one, there are no gaps.
        some = lengths > 0
        if np.any(self.held.positions[(self.held.ends - 1)[some]] != (lengths - 1)[some]):
            contradicts("an encoding has gaps")
        if np.any(lengths > self.longest):
            contradicts(f"an encoding is longer than the {self.longest} tokens of the model")
        if np.any(lengths[sequences:]):
            contradicts("a checkpoint holds an encoding")
        if np.any((saved.sequences.held.lengths > 0) & (lengths[:sequences] == 0)):
            contradicts("a sequence has tokens, and nothing was encoded for it")

    def check_marks(self, saved: Saved) -> None:
        """Whoever may use a checkpoint has the encoding itself."""


class CrossDraft:
    """A ``CacheDraft``."""

    def __init__(self, cache: CrossCache, state: CrossTable) -> None:
        self._cache = cache
        self._blocks = BlockTableDraft(state.blocks, 0)
        self._lengths: Int64 = state.lengths.copy()

    def encode(self, mapping: SlotMapping) -> KVView:
        """Room for what an encoder makes of whole sequences, in place of what they have.

        Raises CapacityError.
        """
        for seq in mapping.leaders.tolist():
            self.forget(seq)
        self._lengths[mapping.leaders] = mapping.end
        self._widen()
        placed = self._blocks.advance(mapping, self._cache.kernels)
        return KVView(self._cache.kernels, self._cache.layers, placed)

    def advance(self, mapping: SlotMapping, placed: LayerSlots) -> KVView:
        """What the micro-batch's sequences have, all of which each of their tokens sees."""
        cache, leaders = self._cache, mapping.leaders
        tables = cache.kernels.block_tables(
            self._blocks.tables[leaders],
            self._blocks.masks[leaders],
            mapping.rows.astype(np.int32),
            (self._lengths[leaders] - 1)[mapping.rows].astype(np.int32),
            np.zeros(len(mapping.rows), np.int64),  # nothing is written
        )
        return KVView(cache.kernels, cache.layers, LayerSlots(tables, NO_COPIES))

    def agrees(self, leader: int, member: int) -> bool:
        return np.array_equal(self._blocks.tables[leader], self._blocks.tables[member])

    def reachable(self, seq: int, position: int) -> int:
        return position

    def hold(self, seq: int) -> None:
        """Whoever may use a checkpoint has the encoding itself."""

    def release(self, hold: None) -> None: ...

    def hold_bytes(self, hold: None) -> int:
        return 0

    @property
    def held_bytes(self) -> int:
        return 0

    @property
    def used_bytes(self) -> int:
        return self._blocks.used * self._cache.page_bytes

    def cut(self, seq: int, position: int, hold: None) -> None: ...

    def settle(self, seq: int) -> None: ...

    def forget(self, seq: int) -> None:
        self._blocks.remove(seq, 0, FOREVER)
        self._lengths[seq] = 0

    def fork(self, source: int, target: int, position: int, hold: None) -> None:
        self._share(source, target)

    def remove(self, seq: int, start: int, end: int) -> None: ...

    def insert(self, source: int, target: int, start: int, end: int, moves: TokenMoves) -> None:
        self._share(source, target)

    def shift(self, seq: int, start: int, end: int, delta: int, moves: TokenMoves) -> None:
        """What was encoded has positions of its own."""

    def adopt(self, leader: int, member: int) -> None:
        """They agree, so there is nothing to do."""

    def missing(self, seq: int) -> None: ...

    def fill(self, seqs: Int64, rows: CrossRows, places: Places, checkpoints: int) -> Filled:
        self._lengths[seqs] = rows.held.lengths[: len(seqs)]
        self._widen()
        slots, _ = self._blocks.fill(seqs, rows.held)
        return Filled(Places.of(rows.held.rows, slots), [None] * checkpoints)

    def write(self) -> None: ...

    def seal(self) -> CrossTable:
        return CrossTable(self._blocks.seal(self._columns()), self._lengths)

    def _share(self, source: int, target: int) -> None:
        self._blocks.adopt(source, target)
        self._lengths[target] = self._lengths[source]

    def _widen(self) -> None:
        self._blocks.widen(self._columns())

    def _columns(self) -> int:
        return -(-int(self._lengths.max()) // PAGE)
