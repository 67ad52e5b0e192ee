"""A model whose every output is an exact function of what memory gives it to read.

Activations are whole numbers below a prime, kept in float32. A token's number depends on its id,
and, in each layer, on the keys and values that it sees, each weighted by its distance, or on a
state that every token before it has changed. So one token too many, too few, at a wrong place or
from a stale page or slot changes the logits.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from motet.context import Context
from motet.kernels import PAGE
from motet.kernels.host_memory import HostMemory
from motet.kernels.interface import PagedKV
from motet.kernels.interface_recurrent import RecurrentState
from motet.memory.kv_cache import FullKVCache, SlidingKVCache
from motet.memory.recurrent import RecurrentCache
from motet.models.shared_kv import ViewOfRows, every_row
from motet.spec import (
    AttentionSpec,
    CacheSpec,
    CrossAttention,
    FullAttention,
    Recurrent,
    SlidingAttention,
)
from motet.weights.fingerprint import Fingerprint

PRIME = 2039
WINDOW = 5


@dataclass(frozen=True)
class ToyConfig:
    context_length: int = 2048
    n_vocab: int = 11
    positional: str = "rotary"
    d_model: int = 1
    pooling: str = "none"
    decoder_start: int | None = None


def layer_output(
    h: int, index: int, distances: np.ndarray, keys: np.ndarray, values: np.ndarray
) -> int:
    """What layer ``index`` makes of ``h`` and of the keys and values at these distances."""
    seen = np.sum(values * (1 + distances % 17) + keys * (3 + distances % 5))
    return int((3 * h + seen + index) % PRIME)


def key_value(h: int, index: int) -> tuple[int, int]:
    return h, (h * h + index) % PRIME


@dataclass(frozen=True)
class Reads:
    """A layer that keeps nothing: it attends to the keys and values of layer ``owner``.

    Such layers come after all others, and are computed for the wanted rows alone.
    """

    owner: int


_TABLES: Any = HostMemory()
"""Makes block tables, which is all that a view of rows needs of kernels."""
Layer = CacheSpec | tuple[CacheSpec, ...] | Reads
"""What a layer keeps: one cache, several, or none."""


def caches_of(layer: Layer) -> tuple[CacheSpec, ...]:
    """What a layer keeps."""
    if isinstance(layer, Reads):
        return ()
    return layer if isinstance(layer, tuple) else (layer,)


def each_cache(layers: Sequence[Layer]) -> Iterator[tuple[int, int, CacheSpec]]:
    """(layer, number in it, cache) of all; a layer with several has them one after the other."""
    for layer, kept in enumerate(layers):
        for k, spec in enumerate(caches_of(kept)):
            yield layer, k, spec


def each_reader(layers: Sequence[Layer]) -> Iterator[tuple[int, int, int, AttentionSpec]]:
    """(layer, the one whose cache it reads, that cache's number among all, the cache)."""
    known = {layer: (n, spec) for n, (layer, _, spec) in enumerate(each_cache(layers))}
    for layer, kept in enumerate(layers):
        if isinstance(kept, Reads):
            number, spec = known[kept.owner]
            assert isinstance(spec, FullAttention | SlidingAttention)
            yield layer, kept.owner, number, spec


State = tuple[int, ...]
"""A recurrent layer's numbers: the tail (the last inputs, oldest first), then one an array."""


def tail_length(spec: Recurrent) -> int:
    """Rows of the first array, if it has rows: a convolution's tail."""
    return spec.shapes[0][0] if len(spec.shapes[0]) == 2 else 1


def no_state(spec: Recurrent) -> State:
    return (0,) * (tail_length(spec) + len(spec.shapes) - 1)


def recur(h: int, index: int, spec: Recurrent, state: State) -> tuple[int, State]:
    """What recurrent layer ``index`` makes of ``h``, and the state that it leaves."""
    tail, sums = state[: tail_length(spec)], state[tail_length(spec) :]
    seen = sum(x * (len(tail) - i) for i, x in enumerate(tail))
    sums = tuple((5 * x + h * h + index + i) % PRIME for i, x in enumerate(sums))
    out = (3 * h + seen + 7 * sum(sums) + index) % PRIME
    return out, (*tail[1:], h, *sums)


def first(token: int) -> int:
    return (31 * token + 7) % PRIME


def logits_of(h: int, n_vocab: int) -> np.ndarray:
    v = np.arange(n_vocab)
    return ((h * (v + 1) + v * v) % PRIME).astype(np.float32)


@dataclass
class ToyFamily:
    n_vocab: int
    layers: Sequence[Layer]
    on_layer: Callable[[int], None] = lambda index: None
    """Called with a cache's number among all after it was written; may raise."""
    blocks: Sequence[Any] = ()
    pooled_heads: Mapping[str, Any] = field(default_factory=dict)

    @property
    def caches(self):
        return tuple(map(caches_of, self.layers))

    def forward(self, tokens: np.ndarray, view, wanted: np.ndarray) -> np.ndarray:
        h = [first(int(token)) for token in tokens]
        for index, (layer, k, spec) in enumerate(each_cache(self.layers)):
            memory = view.cache(layer, k)
            if isinstance(spec, Recurrent):
                h = self._recurrent(index, spec, h, memory)
            else:
                h = self._attention(index, spec, h, memory)
            self.on_layer(index)
        if not every_row(wanted, len(tokens)):
            h, view = [h[i] for i in wanted], ViewOfRows(view, _TABLES, wanted)
        for layer, owner, _, spec in each_reader(self.layers):
            h = self._attend(layer, spec, h, view.cache(owner)) if h else h
        return np.array(h, np.float32).reshape(-1, 1)

    def head(self, hidden: np.ndarray) -> np.ndarray:
        rows = [logits_of(int(h), self.n_vocab) for h in hidden[:, 0]]
        return np.array(rows, np.float32).reshape(-1, self.n_vocab)

    def _recurrent(
        self, index: int, spec: Recurrent, h: list[int], memory: RecurrentState
    ) -> list[int]:
        runs = memory.runs
        assert sorted(runs.order.tolist()) == list(range(len(h)))
        assert runs.order.dtype == runs.starts.dtype == runs.read.dtype == runs.write.dtype == "i4"
        for r, slot in enumerate(runs.write.tolist()):
            assert slot not in np.delete(runs.write, r)
            assert slot not in np.delete(runs.read, [r, r + 1][: len(runs.read) - r])
        goes_on = [r > 0 and runs.read[r] == runs.write[r - 1] for r in range(len(runs.read))]
        begins = {
            r: self._state(spec, memory, int(slot))
            for r, slot in enumerate(runs.read)
            if not goes_on[r]
        }
        out = list(h)
        for r, slot in enumerate(runs.write):
            state = begins[r] if r in begins else self._state(spec, memory, int(runs.read[r]))
            rows = runs.order[runs.starts[r] : runs.starts[r + 1]]
            assert len(rows)
            for row in rows:
                out[row], state = recur(h[row], index, spec, state)
            tail = np.array(state[: tail_length(spec)], np.float32)
            memory.arrays[0][slot] = tail[:, None] if len(spec.shapes[0]) == 2 else tail
            for array, number in zip(memory.arrays[1:], state[len(tail) :], strict=True):
                array[slot] = number
        return out

    def _state(self, spec: Recurrent, memory: RecurrentState, slot: int) -> State:
        """The numbers that a slot's arrays repeat."""
        if slot < 0:
            return no_state(spec)
        numbers: list[int] = []
        for i, array in enumerate(memory.arrays):
            assert array.dtype == np.float32 and array.shape[1:] == spec.shapes[i]
            rows = array[slot].reshape(1 if i else tail_length(spec), -1)
            assert np.all(np.isfinite(rows)), "a stale slot was read"
            assert np.array_equal(rows, rows[:, :1] + 0 * rows)
            numbers += rows[:, 0].astype(int).tolist()
        return tuple(numbers)

    def _attention(
        self, index: int, spec: AttentionSpec | CrossAttention, h: list[int], kv: PagedKV
    ) -> list[int]:
        assert not isinstance(spec, CrossAttention)
        where = kv.tables
        for slot, x in zip(where.slots.tolist(), h, strict=True):
            for array, number in zip(kv.pages.arrays.values(), key_value(x, index), strict=True):
                array[slot // PAGE, slot % PAGE] = number
        return self._attend(index, spec, h, kv)

    def _attend(self, index: int, spec: AttentionSpec, h: list[int], kv: PagedKV) -> list[int]:
        where = kv.tables
        reads = {int(row): self._read(kv, row) for row in np.unique(where.rows)}
        out = []
        for x, row, at in zip(h, where.rows.tolist(), where.positions.tolist(), strict=True):
            held, keys, values = reads[row]
            first_seen = at - spec.window + 1 if isinstance(spec, SlidingAttention) else 0
            seen = slice(np.searchsorted(held, first_seen), np.searchsorted(held, at) + 1)
            assert np.all(np.isfinite(keys[seen])), "a stale slot was read"
            k, v = keys[seen].astype(np.int64), values[seen].astype(np.int64)
            out.append(layer_output(x, index, at - held[seen], k, v))
        return out

    def _read(self, kv: PagedKV, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions that a row holds, and the numbers that its keys and values repeat."""
        mask = np.ascontiguousarray(kv.tables.masks[row])
        held = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
        pages = kv.tables.tables[row, held // PAGE].astype(np.int64)
        assert np.all(pages >= 0)
        keys, values = (
            array[pages, held % PAGE].reshape(len(held), -1) for array in kv.pages.arrays.values()
        )
        assert np.array_equal(keys, keys[:, :1] + 0 * keys, equal_nan=True)
        assert np.array_equal(values, values[:, :1] + 0 * values, equal_nan=True)
        return held, keys[:, 0], values[:, 0]


LAYERS = (
    FullAttention(kv_heads=2, head_dim=4, value_dim=3),
    SlidingAttention(kv_heads=1, head_dim=4, value_dim=4, window=WINDOW),
    FullAttention(kv_heads=1, head_dim=2, value_dim=2),
)
RECURRENT = (
    Recurrent(((3, 4), (2, 4))),  # as Mamba
    Recurrent(((4,), (4,), (2, 2, 2))),  # as RWKV-6
    Recurrent(((1, 6), (2, 3, 2))),  # as Mamba-2 with a convolution of two tokens
)
HYBRID = (RECURRENT[0], LAYERS[0], RECURRENT[1], LAYERS[2])
"""As Jamba."""
CONVOLUTIONS = (Recurrent(((2, 4),)), LAYERS[0], Recurrent(((1, 3),)))
"""As LFM2: convolutions alone, of three tokens and of two."""
BESIDE = ((RECURRENT[2], LAYERS[0]), (), (RECURRENT[2], LAYERS[1], RECURRENT[0]))
"""As Falcon-H1: scans beside attention in one layer; as Nemotron-H: a layer that keeps nothing."""
SHARED = (*LAYERS, Reads(0), Reads(1), Reads(0))
"""As Gemma 4: the last layers read what others keep."""
ALL_KINDS = (RECURRENT[0], *LAYERS, RECURRENT[2])
FINGERPRINT = Fingerprint("toy weights", "toy settings", "toy tokenizer")


class ToyKernels(HostMemory):
    """What memory needs of kernels; the toy computes by itself."""

    def __init__(self, arithmetic: str) -> None:
        self.arithmetic = arithmetic


@dataclass
class ToyModel:
    config: ToyConfig = field(default_factory=ToyConfig)
    layers: Sequence[Layer] = LAYERS
    default_kv_type: str = "f32"
    fingerprint: Fingerprint = FINGERPRINT
    arithmetic: str = "toy"
    name: str = "toy"

    def __post_init__(self) -> None:
        self.kernels: Any = ToyKernels(self.arithmetic)
        self.family = ToyFamily(self.config.n_vocab, self.layers)

    def context(self, **options) -> Context:
        return Context(self, **{"checkpoint_bytes": 1 << 16, **options})


@dataclass(frozen=True)
class Said:
    """One token of a plain sequence: what each layer remembers of it."""

    token: int
    serial: int
    kept: tuple[tuple[int, ...], ...]
    """A layer: a key and a value, or the state after the token."""


class Plain:
    """The same model over dictionaries: {sequence: {position: Said}}."""

    def __init__(self, model: ToyModel) -> None:
        self.model = model
        self.held: dict[int, dict[int, Said]] = {}
        self._serial = 0

    def decode(self, token: int, position: int, seqs: Sequence[int]) -> np.ndarray:
        """Logits of one token, which becomes the last of all ``seqs``."""
        past = self.held.setdefault(seqs[0], {})
        h, kept = first(token), []

        def attend(h: int, index: int, number: int, spec: AttentionSpec) -> int:
            """To what cache ``number`` has of the past and of this token."""
            reach = spec.window if isinstance(spec, SlidingAttention) else position + 1
            seen = [(p, s.kept[number]) for p, s in past.items() if p > position - reach]
            seen.append((position, kept[number]))
            numbers = np.array([(position - p, *kv) for p, kv in seen])
            return layer_output(h, index, *numbers.T)

        for index, (_, _, spec) in enumerate(each_cache(self.model.layers)):
            if isinstance(spec, Recurrent):
                before = max((p for p in past if p < position), default=None)
                state = no_state(spec) if before is None else past[before].kept[index]
                h, state = recur(h, index, spec, state)
                kept.append(state)
                continue
            assert isinstance(spec, FullAttention | SlidingAttention)
            kept.append(key_value(h, index))
            h = attend(h, index, index, spec)
        for layer, _, number, spec in each_reader(self.model.layers):
            h = attend(h, layer, number, spec)
        said = Said(token, self.new_serial(), tuple(kept))
        for seq in seqs:
            self.held.setdefault(seq, {})[position] = said
        return logits_of(h, self.model.config.n_vocab)

    def new_serial(self) -> int:
        self._serial += 1
        return self._serial

    def end(self, seq: int) -> int:
        return max(self.held.get(seq, {}), default=-1) + 1

    def distinct(self) -> int:
        return len({said.serial for held in self.held.values() for said in held.values()})


def bookkeeping(context: Context) -> None:
    """Assert that pages, slots, masks and counts agree, so that none is lost or used twice."""
    memory = context.memory
    now = memory._now
    holds = checkpoint_holds(context)
    held = now.sequences.blocks.masks
    for pages, by_checkpoints in block_tables(context):
        counted = np.zeros(len(pages.refs), int)
        for hold in by_checkpoints:
            counted[hold.pages] += 1
        assert np.array_equal(counted[: len(pages.held)], pages.held)
        assert not counted[len(pages.held) :].any()
        used = pages.tables[pages.tables >= 0]
        counts = np.bincount(used, minlength=len(pages.refs)) + counted
        assert np.array_equal(counts, pages.refs)
        assert len(pages.refs) <= pages.pages
        assert np.array_equal(pages.tables >= 0, pages.masks != 0)
        assert not np.any(pages.masks & ~held)
    for n, cache, slots in recurrent_states(context):
        trails = [slot for trail in slots.trails.values() for slot in trail.slots if slot >= 0]
        used = [*slots.slots[slots.slots >= 0], *(hold[n] for hold in holds), *trails]
        assert np.array_equal(np.bincount(used, minlength=len(slots.refs)), slots.refs)
        for seq, trail in slots.trails.items():
            assert trail.first + len(trail.slots) == memory.ends[seq]
        assert slots.held == len(holds)
        assert len(slots.refs) <= cache.slots
        assert np.array_equal(slots.slots >= 0, now.sequences.lengths > 0)
    for seq in range(memory.max_sequences):
        at = np.flatnonzero(
            np.unpackbits(np.ascontiguousarray(held[seq]).view(np.uint8), bitorder="little")
        )
        assert memory.length(seq) == len(at) == len(memory.tokens(seq))
        assert memory.positions(seq) == ((at[0], at[-1]) if len(at) else None)
        assert memory.ends[seq] == (at[-1] + 1 if len(at) else 0)


def checkpoint_holds(context: Context) -> list[tuple]:
    """What each checkpoint refers to; asserts that marks, owners and the budget agree."""
    memory = context.memory
    checkpoints = memory._now.checkpoints
    owners: dict = {}
    for seq, marks in enumerate(checkpoints.marks):
        positions = memory.checkpoints(seq)
        assert positions == sorted(set(positions)) == [at for at, _ in marks]
        if positions:
            ends = memory.positions(seq)
            assert ends is not None and ends[0] < positions[0] and positions[-1] <= ends[1] + 1
        for _, checkpoint in marks:
            owners[checkpoint] = owners.get(checkpoint, 0) + 1
    assert owners == {c: count for c, (_, count) in checkpoints.uses.items()}
    drafts = memory._begin()._drafts
    assert sum(draft.held_bytes for draft in drafts) <= memory.checkpoint_bytes
    return [checkpoint.holds for checkpoint in owners]


def block_tables(context: Context) -> list[tuple]:
    """Each block table, and what checkpoints hold of it: that of the sequence table first."""
    now, holds = context.memory._now, checkpoint_holds(context)
    states = enumerate(zip(context.memory.caches, now.caches, strict=True))
    return [(now.sequences.blocks, ())] + [
        (state, [hold[n] for hold in holds])
        for n, (cache, state) in states
        if isinstance(cache, SlidingKVCache)
    ]


def recurrent_states(context: Context) -> list[tuple]:
    """(place among the caches, cache, state) of recurrent ones."""
    states = zip(context.memory.caches, context.memory._now.caches, strict=True)
    return [
        (n, cache, state)
        for n, (cache, state) in enumerate(states)
        if isinstance(cache, RecurrentCache)
    ]


def _stored(context: Context, kind: type) -> list[list[np.ndarray]]:
    """The arrays of each cache of a kind."""
    return [
        [array for arrays in cache.arrays.values() for array in arrays.values()]
        for cache in context.memory.caches
        if isinstance(cache, kind)
    ]


def contents(context: Context) -> list:
    """Everything that sequences and checkpoints hold, byte for byte, and where it lies."""
    memory = context.memory
    table, now = memory._table, memory._now
    sequences = now.sequences
    out: list = [now, sequences.ends.copy(), sequences.lengths.copy(), sequences.broken.copy()]
    full = list(chain.from_iterable(_stored(context, FullKVCache)))
    for (pages, holds), arrays in zip(
        block_tables(context), [full, *_stored(context, SlidingKVCache)], strict=True
    ):
        entries = np.nonzero(pages.tables >= 0)
        held = [(pages.tables[entries], pages.masks[entries])]
        held += [(hold.pages, hold.masks) for hold in holds]
        out += [pages.tables.copy(), pages.masks.copy(), pages.refs.copy(), pages.held.copy()]
        for numbers, masks in held:
            bits = np.unpackbits(masks.astype("<u8").view(np.uint8), bitorder="little")
            which, at = np.nonzero(bits.reshape(-1, PAGE))
            slots = numbers[which].astype(np.int64) * PAGE + at
            out += [array[slots // PAGE, slots % PAGE] for array in arrays]
            if pages is sequences.blocks:
                out += [table.ids(slots), table.serials(slots)]
    for _, cache, slots in recurrent_states(context):
        out += [slots.slots.copy(), slots.refs.copy()]
        used = slots.refs > 0
        for arrays in cache.states.values():
            out += [array[: len(used)][used] for array in arrays]
    return out


def assert_same(before: list, after: list) -> None:
    """That two ``contents`` are the same object, and the same bytes."""
    assert before[0] is after[0] and len(before) == len(after)
    for a, b in zip(before[1:], after[1:], strict=True):
        assert a.tobytes() == b.tobytes()


def poison(context: Context) -> None:
    """Fill every page and slot that nothing uses with NaN, so that reading one shows.

    Of those never in use, as many as a test may come to use next.
    """
    full = list(chain.from_iterable(_stored(context, FullKVCache)))
    for (pages, _), arrays in zip(
        block_tables(context), [full, *_stored(context, SlidingKVCache)], strict=True
    ):
        free = _free(pages.refs, pages.pages)
        for array in arrays:
            array[free] = np.nan if array.dtype.kind == "f" else np.iinfo(array.dtype).max
    for _, cache, slots in recurrent_states(context):
        for array in (array for arrays in cache.states.values() for array in arrays):
            array[_free(slots.refs, cache.slots)] = np.nan


def _free(refs: np.ndarray, most: int) -> np.ndarray:
    return np.flatnonzero(np.pad(refs, (0, min(most - len(refs), 100))) == 0)
