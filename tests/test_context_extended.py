"""Contexts refuse what Self-Extend can't do, saying why, before any work."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import motet.context
from motet import Batch, Model
from motet.errors import CapacityError, OptionError, UnsupportedError
from motet.self_extend import AutoExtend, SelfExtend
from tests.models import tiny
from tests.parity.test_goldens import FOLDER

REFUSED = [
    ("golden-mistral", "auto", UnsupportedError, "has sliding layers alone"),
    ("mamba", "auto", UnsupportedError, "is recurrent: it has no positions"),
    ("mamba2", SelfExtend(2, 4), UnsupportedError, "is recurrent: it has no positions"),
    ("rwkv6", AutoExtend(), UnsupportedError, "is recurrent: it has no positions"),
    ("jamba", "auto", UnsupportedError, "attends without positions"),
    ("gpt2", "auto", UnsupportedError, "has a learned vector for each place"),
    ("llama", SelfExtend(4, 256), OptionError, "window is 256, and the model was trained for 256"),
    ("llama", SelfExtend(4, 999), OptionError, "window is 999, and the model was trained for 256"),
    ("gemma2", "8:64", OptionError, "self_extend is '8:64'"),
    ("gemma3", (8, 64), OptionError, r"self_extend is \(8, 64\)"),
]
"""Model, setting, error and what it says."""


def load(folder: Path, name: str) -> Model:
    if name.startswith("golden-"):
        return Model.load(FOLDER / f"{name.removeprefix('golden-')}.gguf", threads=1)
    return tiny.load(folder, name)


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making memory, with which work begins, is a failure."""

    def make(*_: Any, **__: Any) -> None:
        raise AssertionError("memory was made")

    monkeypatch.setattr(motet.context, "Memory", make)


@pytest.mark.parametrize(("name", "setting", "error", "match"), REFUSED)
def test_refused(tmp_path: Path, no_memory, name: str, setting, error, match: str) -> None:
    with pytest.raises(error, match=match):
        load(tmp_path, name).context(self_extend=setting)


def test_learned_positions_end_with_the_trained_length(tmp_path: Path, no_memory) -> None:
    """Also where nothing is extended."""
    model = load(tmp_path, "gpt2")
    with pytest.raises(OptionError, match=r"is 257, .* has 256 learned positions"):
        model.context(context_length=257)


def test_beyond_the_reach(tmp_path: Path, no_memory) -> None:
    """The message has how far it is: (256 - 64 + 64 // 5) * 5."""
    model = load(tmp_path, "llama")
    with pytest.raises(OptionError, match=r"1021 tokens is beyond .* reaches: 1020 tokens"):
        model.context(self_extend=SelfExtend(5, 64), context_length=1021)


@pytest.mark.parametrize(("name", "setting", "error", "match"), REFUSED)
def test_refused_later(tmp_path: Path, name: str, setting, error, match: str) -> None:
    context = load(tmp_path, name).context()
    with pytest.raises(error, match=match):
        context.self_extend = setting
    assert context.self_extend is None


def test_a_setting_that_does_not_reach_as_far_as_the_context(tmp_path: Path) -> None:
    """It is refused where memory reaches farther, and later what would."""
    context = load(tmp_path, "llama").context(self_extend="auto", context_length=900)
    batch = Batch()
    batch.extend([1] * 833, 0)
    context.decode(batch)
    with pytest.raises(OptionError, match=r"833 tokens is beyond .* reaches: 832 tokens"):
        context.self_extend = SelfExtend(4, 64)
    assert context.self_extend == AutoExtend()
    context.memory.remove(0, 831)
    context.self_extend = SelfExtend(4, 64)
    batch = Batch()
    batch.extend([1, 1], 831)
    with pytest.raises(CapacityError, match=r"position 832 is beyond .* reaches: 832 tokens"):
        context.decode(batch)
    assert context.memory.length(0) == 831
    batch = Batch()
    batch.add(1, 831)
    context.decode(batch)


def test_lengths(tmp_path: Path) -> None:
    """By default as far as a group reaches, with auto 16 times the trained length."""
    model = load(tmp_path, "llama")
    assert model.context().memory.context_length == 256
    assert model.context(self_extend=SelfExtend(5, 64)).memory.context_length == 1020
    assert model.context(self_extend=SelfExtend(999, 64)).memory.context_length == 4096
    assert model.context(self_extend="auto").memory.context_length == 4096
    context = model.context(self_extend="auto", context_length=10_000)
    assert context.memory.context_length == 10_000
    assert model.context(self_extend="auto", max_sequences=3).max_tokens == 3 * 4096


def test_log_scale_is_of_the_trained_length(tmp_path: Path) -> None:
    """Not of the context's."""
    model = load(tmp_path, "llama")
    model.config = replace(model.config, context_length=16)
    tokens = np.random.default_rng(0).integers(0, model.n_vocab, 40).tolist()
    rows = []
    for length in (40, 60):
        batch = Batch()
        batch.extend(tokens, 0, logits="all")
        setting = SelfExtend(4, 5, scale="log")
        context = model.context(self_extend=setting, context_length=min(length, 48))
        rows.append(context.decode(batch).logits)
    assert np.array_equal(*rows)
