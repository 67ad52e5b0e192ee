"""What was encoded stays as it is under every operation, and goes where its sequence goes."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from motet import Batch, Context
from motet.errors import BatchError, CapacityError, OptionError, StateFileError
from motet.kernels import PAGE
from motet.memory.cross import CrossCache
from motet.spec import CrossAttention, FullAttention
from tests.hostile.states import forged
from tests.state.files import packed, unpacked
from tests.toy import (
    LAYERS,
    ToyConfig,
    ToyFamily,
    ToyModel,
    first,
    key_value,
    layer_output,
    logits_of,
)

SPECS = (LAYERS[0], CrossAttention(2, 3, 4, 300), LAYERS[2], CrossAttention(1, 2, 2, 300))
CONFIG = ToyConfig(context_length=300, positional="relative", decoder_start=0)


class CrossFamily(ToyFamily):
    """The toy with layers whose tokens see all of a text, one that ``encode`` was given."""

    def encode(self, tokens: np.ndarray, view, wanted: np.ndarray | None) -> np.ndarray:
        states = np.array([[first(int(token))] for token in tokens], np.float32)
        return states if wanted is None else states[wanted]

    def remember(self, states: np.ndarray, view) -> None:
        for index, spec in enumerate(self.layers):
            if isinstance(spec, CrossAttention):
                kv = view.cache(index)
                for slot, h in zip(kv.tables.slots.tolist(), states[:, 0].tolist(), strict=True):
                    numbers = key_value(int(h), index)
                    for array, number in zip(kv.pages.arrays.values(), numbers, strict=True):
                        array[slot // PAGE, slot % PAGE] = number
                self.on_layer(index)

    def _attention(self, index, spec, h, kv):
        if isinstance(spec, FullAttention):
            return super()._attention(index, spec, h, kv)
        reads = {int(row): self._read(kv, row) for row in np.unique(kv.tables.rows)}
        out = []
        for x, row, at in zip(
            h, kv.tables.rows.tolist(), kv.tables.positions.tolist(), strict=True
        ):
            held, keys, values = reads[row]
            assert held.tolist() == list(range(at + 1)) and np.all(np.isfinite(keys))
            out.append(layer_output(x, index, held, keys.astype(int), values.astype(int)))
        return out


def model() -> ToyModel:
    made = ToyModel(CONFIG, SPECS, name="cross")
    made.family = CrossFamily(CONFIG.n_vocab, SPECS)
    return made


def expected(text: Sequence[int], tokens: Sequence[int]) -> np.ndarray:
    """Logits of the last of ``tokens``, decoded after ``text`` was encoded."""
    seen = [first(token) for token in text]
    h = [first(token) for token in tokens]
    for index, spec in enumerate(SPECS):
        cross = isinstance(spec, CrossAttention)
        pairs = np.array([key_value(x, index) for x in (seen if cross else h)])
        numbers = np.arange(len(pairs))
        h = [
            layer_output(x, index, numbers, *pairs.T)
            if cross
            else layer_output(x, index, at - numbers[: at + 1], *pairs[: at + 1].T)
            for at, x in enumerate(h)
        ]
    return logits_of(h[-1], CONFIG.n_vocab)


def cross_of(context: Context) -> tuple[CrossCache, np.ndarray]:
    """The cache, and how often each of its pages is referred to."""
    memory = context.memory
    number = next(n for n, cache in enumerate(memory.caches) if isinstance(cache, CrossCache))
    table = memory._now.caches[number]
    used = table.blocks.tables[table.blocks.tables >= 0]
    refs = table.blocks.refs
    assert np.array_equal(np.bincount(used, minlength=len(refs)), refs)
    assert np.array_equal(table.blocks.tables >= 0, table.blocks.masks != 0)
    cache = memory.caches[number]
    assert isinstance(cache, CrossCache)
    return cache, refs


def poison(context: Context) -> None:
    """Spoil every page that nothing uses, so that reading one shows."""
    cache, refs = cross_of(context)
    for arrays in cache.arrays.values():
        for array in arrays.values():
            array[np.flatnonzero(np.pad(refs, (0, len(array) - len(refs))) == 0)] = np.nan


@dataclass
class Told:
    """What a sequence has to hold."""

    text: list[int]
    tokens: list[int]


class Teller:
    """A context, and what its sequences have to hold."""

    def __init__(self, **options) -> None:
        self.context = model().context(**{"max_sequences": 4, "kv_type": "f32"} | options)
        self.memory = self.context.memory
        self.told: dict[int, Told] = {}

    def encode(self, texts: dict[int, list[int]]) -> None:
        batch = Batch()
        for seq, text in texts.items():
            batch.extend(text, 0, seq)
        self.context.encode(batch)
        self.told |= {seq: Told(text, []) for seq, text in texts.items()}

    def say(self, tokens: list[int], seqs: tuple[int, ...]) -> None:
        batch = Batch()
        own = self.told[seqs[0]]
        batch.extend(tokens, len(own.tokens), seqs)
        row = self.context.decode(batch).logits[0]
        assert np.array_equal(row, expected(own.text, own.tokens + tokens))
        for seq in seqs:
            self.told[seq] = Told(own.text, own.tokens + tokens)

    def check(self) -> None:
        for seq in range(self.memory.max_sequences):
            told = self.told.get(seq, Told([], []))
            assert self.memory.encoded(seq) == len(told.text)
            assert self.memory.tokens(seq).tolist() == told.tokens
        assert self.memory.held == sorted(self.told)
        poison(self.context)


def text(rng: np.random.Generator, most: int) -> list[int]:
    return rng.integers(0, CONFIG.n_vocab, int(rng.integers(1, most))).tolist()


@pytest.mark.parametrize("seed", range(12))
def test_random_operations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    teller = Teller(ubatch=int(rng.choice([1, 3, 64])))
    memory = teller.memory
    for _ in range(60):
        seq, other = (int(n) for n in rng.integers(0, 4, 2))
        told = teller.told.get(seq)
        match int(rng.integers(8)):
            case 0 | 1:
                free = [s for s in range(4) if not memory.length(s)]
                chosen = [s for s in free if rng.random() < 0.6]
                if chosen:
                    teller.encode({s: text(rng, 200) for s in chosen})
            case 2 | 3 if told:
                same = [s for s, each in teller.told.items() if each is told]
                teller.say(text(rng, 20), tuple(sorted({seq, *same})))
            case 4 if told:
                start = int(rng.integers(0, len(told.tokens) + 1))
                memory.remove(seq, start, len(told.tokens) + 5)
                teller.told[seq] = Told(told.text, told.tokens[:start])
            case 5:
                memory.remove(seq)
                teller.told.pop(seq, None)
            case 6 if told and seq != other:
                memory.remove(other)
                end = int(rng.integers(0, len(told.tokens) + 1))
                memory.copy(seq, other, 0, end)
                teller.told[other] = Told(told.text, told.tokens[:end])
            case 7:
                file = io.BytesIO()
                teller.context.save(file)
                file.seek(0)
                again = Teller(ubatch=5)
                again.context.restore(file)
                again.told = dict(teller.told)
                again.check()
                assert again.memory.used_bytes <= memory.used_bytes
                for s, each in again.told.items():
                    again.say([1], (s,))
                    again.told[s] = each
        teller.check()


def test_what_is_counted() -> None:
    teller = Teller()
    teller.encode({0: [1] * 65})
    memory = teller.memory
    page = sum(
        4 * PAGE * s.kv_heads * (s.head_dim + 16) for s in SPECS if isinstance(s, CrossAttention)
    )
    assert memory.used_bytes == 2 * page
    memory.copy(0, 1)
    assert memory.used_bytes == 2 * page and memory.encoded(1) == 65
    memory.remove(0)
    assert memory.used_bytes == 2 * page and memory.held == [1]
    memory.remove(1, 0, 9)
    assert memory.encoded(1) == 65
    memory.keep(0)
    assert memory.used_bytes == 0 and memory.held == []
    assert "0 of 4 sequences" in repr(memory)


def test_keep_and_clear() -> None:
    teller = Teller()
    teller.encode({0: [1, 2], 1: [3], 2: [4]})
    teller.say([0], (1,))
    teller.memory.keep(2)
    assert teller.memory.held == [2]
    teller.memory.clear()
    assert teller.memory.held == []


def test_encoding_again_replaces() -> None:
    teller = Teller(max_sequences=2)
    teller.encode({0: [1] * 70, 1: [2]})
    teller.encode({0: [3]})
    teller.say([0, 5], (0,))
    with pytest.raises(BatchError, match=r"holds 2 decoded tokens.*memory\.remove\(0\)") as caught:
        teller.encode({1: [1, 2], 0: [4]})
    assert caught.value.entry == 2
    teller.check()
    teller.memory.remove(0)
    del teller.told[0]
    teller.encode({0: [4]})
    teller.say([1], (0,))


def test_decoding_what_was_not_encoded() -> None:
    teller = Teller()
    teller.encode({0: [1]})
    batch = Batch()
    batch.extend([0, 1], 0, 0)
    batch.extend([0], 0, 2)
    with pytest.raises(BatchError, match=r"nothing was encoded for sequence 2.*encode") as caught:
        teller.context.decode(batch)
    assert caught.value.entry == 2
    teller.check()


def test_decoding_begins_at_0() -> None:
    teller = Teller()
    teller.encode({0: [1], 1: [1]})
    batch = Batch()
    batch.extend([0, 1], 0, 0)
    batch.extend([1], 3, 1)
    with pytest.raises(BatchError, match="entry 2 is position 3 of sequence 1, where 0") as caught:
        teller.context.decode(batch)
    assert caught.value.entry == 2
    teller.check()


def test_other_texts_do_not_mix() -> None:
    teller = Teller()
    teller.encode({0: [1, 2], 1: [1, 2, 3]})
    batch = Batch()
    batch.add(0, 0, (0, 1))
    with pytest.raises(BatchError, match="whose pasts differ"):
        teller.context.decode(batch)
    for fork in (lambda: teller.memory.copy(0, 1), lambda: teller.memory.copy(0, 1, 0, 0)):
        with pytest.raises(OptionError, match=r"sequence 1 has what was encoded.*remove\(1\)"):
            fork()
    teller.say([0] * 5, (0,))
    with pytest.raises(OptionError, match="something else"):
        teller.memory.copy(0, 1, 2, 4)
    teller.check()


@pytest.mark.parametrize("ubatch", [1, 64])
def test_a_failed_encode_leaves_memory_as_it_was(ubatch: int) -> None:
    teller = Teller(ubatch=ubatch)
    teller.encode({0: [1] * 100, 1: [2] * 3})
    teller.say([0], (1,))
    before = teller.memory._now
    family: Any = teller.context.model.family
    calls = []

    def fail(index: int) -> None:
        calls.append(index)
        if len(calls) == 4:
            raise KeyboardInterrupt

    family.on_layer = fail
    with pytest.raises(KeyboardInterrupt):
        teller.encode({0: [5] * 80, 2: [6] * 80, 3: [1]})
    family.on_layer = lambda index: None
    assert teller.memory._now is before
    teller.check()
    teller.say([0, 1], (0,))
    teller.say([3], (1,))


def test_room() -> None:
    page = sum(4 * PAGE * s.kv_heads * (s.head_dim + 16) for s in SPECS)
    teller = Teller(kv_bytes=3 * page, checkpoint_bytes=0)
    teller.encode({0: [1] * 70})
    with pytest.raises(CapacityError):
        teller.encode({1: [1] * 300})
    teller.check()
    teller.say([0], (0,))
    with pytest.raises(CapacityError, match="301 tokens"):
        teller.encode({2: [1] * 301})


def test_forged_state_files() -> None:
    """Each is refused, with memory as it was, or taken with books that are right."""
    source = Teller()
    source.encode({0: [1, 2, 3] * 30, 1: [4]})
    source.memory.copy(0, 2)
    source.say([0, 5], (0,))
    file = io.BytesIO()
    source.context.save(file)
    teller, taken = Teller(), 0
    teller.encode({3: [7, 8]})
    teller.say([0], (3,))
    for seed in range(150):
        before = teller.memory._now
        data = forged(np.random.default_rng(seed), file.getvalue())
        try:
            teller.context.restore(io.BytesIO(data))
        except (StateFileError, CapacityError, OptionError):
            assert teller.memory._now is before
            continue
        taken += 1
        encoded = [teller.memory.encoded(seq) for seq in range(4)]
        assert all(encoded[seq] for seq in range(4) if teller.memory.length(seq))
        for seq in range(3):
            teller.memory.remove(seq)
        teller.check()
    assert 10 < taken < 100
    teller.say([1, 2], (3,))


def test_a_gap_in_an_encoding_is_refused() -> None:
    teller = Teller()
    teller.encode({0: [1] * 5})
    teller.say([0], (0,))
    file = io.BytesIO()
    teller.context.save(file)
    for name, change, message in (
        ("cross.positions", lambda table: table + (table > 2), "an encoding has gaps"),
        ("cross.positions", lambda table: table + 1, "an encoding has gaps"),
        ("cross.lengths", lambda table: table * 0, "lengths"),
    ):
        metadata, tensors = unpacked(file.getvalue())
        tensors[name] = change(tensors[name]).astype(tensors[name].dtype)
        with pytest.raises(StateFileError, match=message):
            Teller().context.restore(io.BytesIO(packed(metadata, tensors)))
    metadata, tensors = unpacked(file.getvalue())
    tensors["cross.lengths"] *= 0
    for name in tensors:
        if name.startswith(("cross.positions", "cross.rows", "layers.1.", "layers.3.")):
            tensors[name] = tensors[name][:0]
    with pytest.raises(StateFileError, match="has tokens, and nothing was encoded for it"):
        Teller().context.restore(io.BytesIO(packed(metadata, tensors)))
