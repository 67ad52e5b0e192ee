"""A layer may have several caches, or none: forks, rewinds and state files keep all of them."""

import io
import json
from typing import Any

import numpy as np
import pytest

from motet.batch import Batch
from motet.context import Context
from motet.errors import StateFileError, UnsupportedError
from motet.kernels.reference import Reference
from motet.memory import Limits, Memory
from tests.toy import ALL_KINDS, Plain, ToyModel, bookkeeping, poison

GROUPED = (ALL_KINDS[:2], (), ALL_KINDS[2:])
"""Caches of three layers: five in all."""


def model() -> ToyModel:
    return ToyModel(layers=GROUPED)


def say(context: Context, plain: Plain, count: int, seq: int) -> None:
    start = plain.end(seq)
    tokens = [(start + i) % 11 for i in range(count)]
    batch = Batch()
    batch.extend(tokens, start, seq, logits="all")
    expected = [plain.decode(t, start + i, [seq]) for i, t in enumerate(tokens)]
    assert np.array_equal(context.decode(batch).logits, expected)
    bookkeeping(context)
    poison(context)


def test_all_of_them_are_kept() -> None:
    toy = model()
    context, plain = toy.context(max_sequences=3, ubatch=16), Plain(toy)
    assert [list(cache.arrays) for cache in context.memory.caches] == [
        [(0, 1), (2, 1)],
        [(2, 0)],
        [(0, 0), (2, 2)],
    ]
    say(context, plain, 100, 0)
    context.memory.checkpoint(0)
    context.memory.copy(0, 1)
    plain.held[1] = dict(plain.held[0])
    say(context, plain, 90, 1)
    say(context, plain, 20, 0)
    context.memory.remove(1, 100)
    plain.held[1] = {p: s for p, s in plain.held[1].items() if p < 100}
    say(context, plain, 30, 1)


def test_state_files_have_all_of_them() -> None:
    toy = model()
    context, plain = toy.context(max_sequences=2), Plain(toy)
    say(context, plain, 150, 0)
    file = io.BytesIO()
    context.save(file)
    data = file.getvalue()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert {"layers.0.state.0", "layers.0.1.keys", "layers.2.keys", "layers.2.2.state.0"} <= set(
        header
    )
    other = model().context(max_sequences=2)
    other.restore(io.BytesIO(data))
    say(other, plain, 40, 0)
    with pytest.raises(StateFileError, match="layers that remember something else"):
        ToyModel(layers=ALL_KINDS).context().restore(io.BytesIO(data))


def test_a_spec_that_no_cache_keeps_is_refused() -> None:
    unknown: Any = "a ring of 64"
    with pytest.raises(UnsupportedError, match="layer 1 declares: a ring of 64"):
        Memory(((), (unknown,)), Reference(), Limits(1, 64, 64, "f32", 1 << 30, 0), 64)
