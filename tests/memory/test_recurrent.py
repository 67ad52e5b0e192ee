"""Recurrent layers, alone and beside attention: slots are never shared by two that write.

All without checkpoints.
"""

import numpy as np
import pytest

from motet.batch import Batch
from motet.errors import BatchError, CannotRewind, CapacityError, OptionError
from tests.memory.talk import Talk
from tests.toy import ALL_KINDS, HYBRID, RECURRENT, ToyConfig, ToyModel, recurrent_states

KINDS = pytest.mark.parametrize(
    "layers", [RECURRENT, HYBRID, ALL_KINDS], ids=["alone", "hybrid", "all"]
)


def without_checkpoints(**options) -> Talk:
    return Talk(checkpoint_bytes=0, **options)


def slots(talk: Talk) -> int:
    """Slots in use."""
    return int(np.count_nonzero(recurrent_states(talk.context)[0][2].refs))


@KINDS
@pytest.mark.parametrize("split", ["simple", "equal", "sequence"])
@pytest.mark.parametrize("ubatch", [1, 2, 3, 5, 64, 512])
def test_any_micro_batches(layers, split, ubatch):
    talk = without_checkpoints(layers=layers, ubatch=ubatch, split=split, max_sequences=8)
    talk.together((1, (0,)), (70, (5,)), (9, (3,)), (2, (1,)), (30, (2,)))
    talk.together((1, (0,)), (7, (5,)), (1, (1,)), (3, (7,)), (6, (2,)), mixed=True)
    talk.say(130)
    assert slots(talk) == 6


@KINDS
def test_any_sequences_in_one_pass(layers):
    talk = without_checkpoints(layers=layers, max_sequences=5)
    for seq in range(5):
        talk.say(3 + seq, seq)
    talk.together((1, (0,)), (1, (2,)))
    talk.together((4, (4,)), (1, (1,)), (2, (3,)), mixed=True)
    talk.together((1, (4,)), (1, (2,)), (1, (0,)))


@KINDS
def test_more_sequences_than_a_micro_batch_has_tokens(layers):
    talk = without_checkpoints(layers=layers, max_sequences=9, ubatch=2)
    for _ in range(3):
        talk.together(*((1, (seq,)) for seq in range(9)))


@KINDS
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_fork_then_part_in_either_order(layers, order):
    talk = without_checkpoints(layers=layers, max_sequences=2)
    talk.say(70)
    talk.copy(0, 1)
    assert slots(talk) == 1
    for seq in (*order, *reversed(order)):
        talk.say(2, seq)
    assert slots(talk) == 2


@KINDS
@pytest.mark.parametrize("ubatch", [3, 64])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_shared_tokens_and_endings_at_full_capacity(layers, ubatch, order):
    talk = without_checkpoints(layers=layers, max_sequences=4, ubatch=ubatch)
    talk.together((10, (0, 1, 2, 3)), *((5 + seq, (seq,)) for seq in order))
    assert slots(talk) == 4
    talk.together(*((2, (seq,)) for seq in order), mixed=True)


@KINDS
def test_sets_that_meet_and_part_in_one_batch(layers):
    talk = without_checkpoints(layers=layers, max_sequences=2, ubatch=4)
    talk.say(5, 0, 1)
    talk.together((3, (0, 1)), (4, (1,)), (4, (0,)))
    tokens = [1, 2, 3]
    talk.memory.clear()
    talk.plain.held.clear()
    talk.say(0, 0, tokens=tokens)
    talk.say(0, 1, tokens=tokens)
    assert slots(talk) == 2
    talk.say(4, 0, 1)  # equal tokens at equal positions: equal states, of which one is kept
    assert slots(talk) == 1
    talk.say(0, 1, tokens=[1])
    talk.say(0, 0, tokens=[2])
    with pytest.raises(BatchError, match="pasts differ"):
        talk.say(1, 0, 1)


@KINDS
def test_a_slot_used_again_starts_from_zeros(layers):
    talk = without_checkpoints(layers=layers, max_sequences=2)
    for _ in range(4):
        talk.say(9, 0)
        talk.say(2, 1)
        talk.remove(0)
        talk.say(1, 0)  # shorter than the convolution
        talk.remove(1)
        talk.remove(0)
        assert slots(talk) == 0


@KINDS
def test_clear_and_keep(layers):
    talk = without_checkpoints(layers=layers, max_sequences=3)
    talk.say(9, 0)
    talk.copy(0, 1)
    talk.say(9, 2)
    talk.memory.keep(1)
    talk.plain.held = {1: talk.plain.held[1]}
    talk.check()
    assert slots(talk) == 1
    talk.say(3, 1)
    talk.memory.clear()
    talk.plain.held = {}
    talk.check()
    assert slots(talk) == 0


@KINDS
def test_decoding_in_micro_batches_takes_one_more_slot(layers):
    talk = without_checkpoints(layers=layers, ubatch=1)
    talk.say(200)
    talk.say(200)
    assert len(recurrent_states(talk.context)[0][2].refs) <= 3


@KINDS
def test_going_back_is_refused(layers):
    talk = without_checkpoints(layers=layers, max_sequences=2)
    talk.say(20)
    with pytest.raises(CannotRewind) as error:
        talk.memory.remove(0, 15)
    assert (error.value.seq, error.value.position, error.value.nearest) == (0, 15, 0)
    with pytest.raises(CannotRewind, match=r"positions 3 to 6 of sequence 0 .*position 0 on"):
        talk.memory.remove(0, 3, 7)
    with pytest.raises(CannotRewind, match="positions 0 to 6 of sequence 0"):
        talk.memory.remove(0, 0, 7)
    with pytest.raises(CannotRewind) as error:
        talk.memory.copy(0, 1, 0, 10)
    assert (error.value.seq, error.value.position, error.value.nearest) == (0, 10, 0)
    with pytest.raises(CannotRewind, match="copy from position 0 on"):
        talk.memory.copy(0, 1, 5)
    talk.check()
    talk.remove(0, 20)
    talk.remove(0, 30, 40)
    talk.copy(0, 1, 0, 20)
    talk.say(5, 1)
    talk.say(5, 0)


@KINDS
def test_copies_onto_other_tokens_are_refused(layers):
    talk = without_checkpoints(layers=layers, max_sequences=2)
    talk.say(20)
    talk.memory.shift(0, 0, None, 30)
    talk.memory.shift(0, 0, None, -30)
    batch = Batch()
    batch.add(1, 40, 1)
    talk.context.decode(batch)
    with pytest.raises(OptionError, match="sequence 1 holds tokens already"):
        talk.memory.copy(0, 1)


@KINDS
def test_shifts_keep_the_order(layers):
    talk = without_checkpoints(layers=layers)
    talk.say(20)
    for args in ((0, 10, 25), (15, 20, -10), (0, 5, 15)):
        with pytest.raises(OptionError):
            talk.memory.shift(0, *args)
    with pytest.raises(OptionError, match="past position 10, and recurrent layers"):
        talk.memory.shift(0, 0, 10, 20)
    talk.check()
    talk.shift(0, 15, None, 30)
    with pytest.raises(OptionError, match="position 14 past position 45"):
        talk.memory.shift(0, 14, 15, 100)
    talk.memory.remove(0)
    talk.plain.held[0] = {}
    talk.say(20)
    talk.shift(0, 19, None, 31)  # 0 … 18, 50
    talk.shift(0, 15, 19, 10)  # 0 … 14, 25 … 28, 50
    with pytest.raises(OptionError, match="position 25 past position 50"):
        talk.memory.shift(0, 5, 29, 26)
    with pytest.raises(OptionError, match="position 50 past position 25"):
        talk.memory.shift(0, 50, None, -30)
    talk.check()
    talk.shift(0, 50, None, -21)
    talk.shift(0, 25, None, -10)
    talk.shift(0, 10, None, 7)
    talk.shift(0, 0, 10, 3)
    talk.shift(0, 0, None, -3)
    talk.say(10)


def test_the_trained_length_is_no_limit_without_attention():
    talk = without_checkpoints(context_length=16, layers=RECURRENT)
    talk.say(100)
    talk.shift(0, 0, None, 1000)
    talk.say(10)
    assert talk.memory.positions(0) == (1000, 1109)
    hybrid = without_checkpoints(context_length=16, layers=HYBRID)
    with pytest.raises(CapacityError, match="context is 16 tokens"):
        hybrid.say(17)


def test_a_large_context_costs_nothing_until_it_is_used():
    context = ToyModel(ToyConfig(), RECURRENT).context(max_sequences=1 << 10)
    assert context.max_tokens == 1 << 32
    batch = Batch()
    batch.add(1, 0, 1000)
    context.decode(batch)
