"""Caches keep to a number of bytes, and what can be had again is given up first."""

import pytest

from motet.batch import Batch
from motet.errors import CapacityError, OptionError
from motet.kernels import PAGE
from motet.machine import available_memory
from motet.memory.budget import context_memory, default_kv_bytes
from motet.spec import FullAttention
from tests.memory.talk import Talk
from tests.toy import ALL_KINDS, LAYERS, RECURRENT, ToyModel


def test_defaults_are_shares_of_what_is_left():
    left = available_memory()
    assert left is not None and 0.5 * left < default_kv_bytes() < 0.8 * left
    memory = ToyModel(layers=RECURRENT).context(checkpoint_bytes=None).memory
    assert memory.checkpoint_bytes == memory.kv_bytes // 8 > 0


@pytest.mark.parametrize("name", ["kv_bytes", "checkpoint_bytes"])
@pytest.mark.parametrize("given", [-1, 1.5, "1 GB"])
def test_budgets_that_make_no_sense(name, given):
    with pytest.raises(OptionError, match=f"{name} is"):
        ToyModel().context(**{name: given})


@pytest.mark.parametrize("layers", [LAYERS, RECURRENT, ALL_KINDS], ids=["attention", "rnn", "all"])
def test_what_a_sequence_takes_is_what_was_foretold(layers):
    talk = Talk(layers=layers, checkpoint_bytes=0)
    assert talk.memory.used_bytes == 0
    talk.say(300)
    caches, kv_type = talk.model.family.caches, talk.context.kv_type
    foretold = context_memory(caches, 300, kv_type, talk.model.kernels).total
    assert talk.memory.used_bytes == foretold
    talk.memory.clear()
    assert talk.memory.used_bytes == 0


def test_beyond_the_budget_nothing_changes():
    every = [spec for spec in LAYERS if isinstance(spec, FullAttention)]
    full = Talk(max_sequences=2, layers=every)
    full.say(3 * PAGE)
    talk = Talk(max_sequences=2, layers=every, kv_bytes=full.memory.used_bytes)
    talk.say(2 * PAGE)
    talk.say(PAGE, 1)
    with pytest.raises(CapacityError, match="are needed") as caught:
        talk.context.decode(batch(PAGE, 0, 2 * PAGE))
    assert "kv_bytes" in str(caught.value.hint)
    talk.check()
    talk.remove(1)
    talk.say(PAGE)


def test_checkpoints_that_nobody_asked_for_are_given_up_first():
    talk = Talk(context_length=8192, layers=RECURRENT, max_sequences=12, checkpoint_bytes=1 << 20)
    state = context_memory(talk.model.family.caches, 1, "f32", talk.model.kernels).constant
    talk = Talk(
        context_length=8192,
        layers=RECURRENT,
        max_sequences=12,
        kv_bytes=12 * state,
        checkpoint_bytes=8 * state,
    )
    for _ in range(4):
        talk.say(40)
        talk.memory.checkpoint(0) if talk.memory.length(0) == 40 else None
    assert len(talk.memory.checkpoints(0)) > 2
    for seq in range(1, 9):
        talk.say(5, seq)
    assert talk.memory.checkpoints(0) == [40]  # the one that was asked for
    assert talk.memory.used_bytes <= talk.memory.kv_bytes
    talk.remove(0, 40)
    talk.say(10)


def batch(count: int, seq: int, start: int) -> Batch:
    made = Batch()
    made.extend([1] * count, start, seq, logits="last")
    return made


@pytest.mark.parametrize("layers", [LAYERS, RECURRENT, ALL_KINDS], ids=["attention", "rnn", "all"])
@pytest.mark.parametrize("kv_bytes", [0, 1, 100])
def test_a_budget_of_less_than_a_token_is_refused(layers, kv_bytes):
    with pytest.raises(CapacityError, match="the caches of one token take"):
        ToyModel(layers=layers).context(kv_bytes=kv_bytes)
