import threading

import numpy as np
import pytest

from motet.batch import Batch
from motet.context import Context
from motet.errors import BatchError, CapacityError, MotetError, OptionError
from motet.memory.recurrent import RecurrentCache
from motet.memory.ref_counts import RefCounts
from tests.toy import (
    ALL_KINDS,
    LAYERS,
    RECURRENT,
    Plain,
    ToyConfig,
    ToyModel,
    assert_same,
    bookkeeping,
    contents,
    poison,
)

SPLITS = ("auto", "simple", "equal", "sequence")
PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3] * 12


def batch_of(*entries) -> Batch:
    """Of (token, position, seqs); every entry's logits are wanted."""
    batch = Batch()
    for token, position, seqs in entries:
        batch.add(token, position, seqs, logits=True)
    return batch


def prompt(tokens, seq: int = 0, logits: str = "all", start: int = 0) -> Batch:
    batch = Batch()
    batch.extend(tokens, start, seqs=seq, logits=logits)
    return batch


def snapshot(context: Context):
    memory = context.memory
    return [
        (memory.length(s), memory.positions(s), memory.tokens(s).tolist())
        for s in range(memory.max_sequences)
    ], memory._now


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("ubatch", [1, 2, 3, 7, 64, 512])
def test_a_prompt_is_the_same_in_any_micro_batches(split, ubatch):
    model = ToyModel()
    plain = Plain(model)
    expected = np.array([plain.decode(t, i, [0]) for i, t in enumerate(PROMPT)])
    context = model.context(ubatch=ubatch, split=split)
    poison(context)
    assert np.array_equal(context.decode(prompt(PROMPT)).logits, expected)
    bookkeeping(context)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("ubatch", [1, 7, 512])
def test_interleaved_sequences_are_each_as_alone(split, ubatch):
    model = ToyModel()
    rng = np.random.default_rng(7)
    lengths = [1, 200, 63, 64, 65, 130]
    order = rng.permutation(np.repeat(np.arange(6), lengths))
    plain, batch, expected, at = Plain(model), Batch(), [], [0] * 6
    for seq in order.tolist():
        token = int(rng.integers(11))
        batch.add(token, at[seq], seq, logits=True)
        expected.append(plain.decode(token, at[seq], [seq]))
        at[seq] += 1
    context = model.context(max_sequences=6, ubatch=ubatch, split=split)
    poison(context)
    assert np.array_equal(context.decode(batch).logits, expected)
    assert [context.memory.length(seq) for seq in range(6)] == lengths
    bookkeeping(context)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("prefix", [1, 63, 64, 100])
def test_a_shared_prefix_and_its_endings_in_one_batch(split, prefix):
    model = ToyModel()
    plain, batch, expected = Plain(model), Batch(), []
    everyone = (0, 1, 2, 3)
    for i in range(prefix):
        batch.add(i % 11, i, everyone, logits=True)
        expected.append(plain.decode(i % 11, i, everyone))
    for i in range(70):
        for seq in everyone:
            if i < 10 * seq + 40:
                token = (seq + i) % 11
                batch.add(token, prefix + i, seq, logits=True)
                expected.append(plain.decode(token, prefix + i, [seq]))
    context = model.context(max_sequences=4, ubatch=9, split=split)
    poison(context)
    assert np.array_equal(context.decode(batch).logits, expected)
    bookkeeping(context)
    for seq in everyone:
        context.memory.remove(seq)
    assert not context.memory._now.sequences.blocks.refs.any()


def test_rows_come_in_the_order_they_were_added():
    context = ToyModel().context(max_sequences=3, split="sequence")
    batch = Batch()
    batch.add(1, 0, 2, logits=True)
    batch.add(2, 0, 0)
    batch.add(3, 0, 1, logits=True)
    batch.add(4, 1, 2)
    batch.add(5, 1, 0, logits=True)
    out = context.decode(batch)
    assert out.logits.shape == (3, 11) and out.logits.dtype == np.float32
    for entry, row in ((0, 0), (2, 1), (4, 2), (-1, 2), (-3, 1), (-5, 0)):
        assert np.array_equal(out[entry], out.logits[row])
    for entry in (1, 3, -2):
        with pytest.raises(BatchError, match=f"entry {entry % 5} were not asked for"):
            out[entry]
    for entry in (5, -6):
        with pytest.raises(BatchError, match="no entry"):
            out[entry]


def test_a_batch_that_wants_nothing_is_remembered_all_the_same():
    model = ToyModel()
    context, plain = model.context(ubatch=3), Plain(model)
    out = context.decode(prompt([1, 2, 3, 4], logits="none"))
    assert out.logits.shape == (0, 11)
    for i in range(4):
        plain.decode(i + 1, i, [0])
    assert np.array_equal(context.decode(prompt([5], start=4)).logits[0], plain.decode(5, 4, [0]))


def test_a_sequence_may_begin_anywhere():
    context = ToyModel().context(max_sequences=2)
    out = context.decode(batch_of((1, 500, 0), (2, 501, 0), (1, 0, 1), (2, 1, 1)))
    assert np.array_equal(out.logits[:2], out.logits[2:])
    assert context.memory.positions(0) == (500, 501) and context.memory.length(0) == 2
    bookkeeping(context)


class Stop(Exception):
    pass


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("layers", [LAYERS, RECURRENT, ALL_KINDS], ids=["paged", "slots", "both"])
@pytest.mark.parametrize("call", [0, 1, 2, 3, 4, 5, 6, 8])  # of nine or more: three micro-batches
def test_a_failure_in_any_micro_batch_changes_nothing(error, layers, call):
    model = ToyModel(layers=layers)
    context, plain = model.context(max_sequences=3, ubatch=40), Plain(model)
    for seq, n in ((0, 150), (1, 40)):
        context.decode(prompt(PROMPT[:n], seq))
        [plain.decode(t, i, [seq]) for i, t in enumerate(PROMPT[:n])]
    context.memory.copy(1, 2)
    plain.held[2] = dict(plain.held[1])
    before = contents(context)
    calls = []

    def fail(index: int) -> None:
        calls.append(index)
        if len(calls) == call + 1:
            raise error

    batch = Batch()
    batch.extend(PROMPT[:60], 150, seqs=0)  # slides: pages of layer 1 are due to be freed
    batch.extend([1, 2, 3], 40, seqs=(1, 2))
    batch.extend(PROMPT[:50], 43, seqs=2)  # leaves the pages it shares with sequence 1
    batch.extend([4, 4], 43, seqs=1)
    model.family.on_layer = fail
    with pytest.raises(error):
        context.decode(batch)
    model.family.on_layer = lambda index: None
    assert len(calls) == call + 1
    assert_same(before, contents(context))
    bookkeeping(context)
    poison(context)
    for seq, n in ((0, 150), (1, 40), (2, 40)):
        logits = context.decode(prompt([7, 8], seq, start=n)).logits
        assert np.array_equal(logits, [plain.decode(t, n + i, [seq]) for i, t in enumerate([7, 8])])


def test_a_failed_batch_can_be_decoded_again():
    model = ToyModel()
    context, plain = model.context(ubatch=50), Plain(model)
    expected = np.array([plain.decode(t, i, [0]) for i, t in enumerate(PROMPT)])
    batch, calls = prompt(PROMPT), []

    def fail(index: int) -> None:
        calls.append(index)
        if len(calls) == 4:
            raise Stop

    model.family.on_layer = fail
    with pytest.raises(Stop):
        context.decode(batch)
    assert np.array_equal(context.decode(batch).logits, expected)


@pytest.mark.parametrize("failing", [1, 2, 3, 4])
def test_a_failure_while_planning_changes_nothing(monkeypatch, failing):
    context = ToyModel().context(max_sequences=2, ubatch=40)
    context.decode(prompt(PROMPT[:100]))
    context.memory.copy(0, 1)
    before = snapshot(context)
    allocate, calls = RefCounts.allocate, []

    def fail(self, n):
        calls.append(n)
        if len(calls) == failing:
            raise KeyboardInterrupt
        return allocate(self, n)

    monkeypatch.setattr(RefCounts, "allocate", fail)
    batch = prompt(PROMPT, 0, start=100)
    batch.extend(PROMPT, 100, seqs=1)
    with pytest.raises(KeyboardInterrupt):
        context.decode(batch)
    assert snapshot(context)[0] == before[0] and context.memory._now is before[1]
    bookkeeping(context)


@pytest.mark.parametrize("layers", [RECURRENT, ALL_KINDS], ids=["slots", "both"])
def test_no_free_slot_changes_nothing(layers):
    context = ToyModel(layers=layers).context(max_sequences=2, ubatch=40, checkpoint_bytes=0)
    context.decode(prompt(PROMPT[:100]))
    context.memory.copy(0, 1)
    (recurrent,) = (c for c in context.memory.caches if isinstance(c, RecurrentCache))
    recurrent.slots = 2  # of which sequences 0 and 1 have one, and 0 takes the other
    before = contents(context)
    batch = prompt(PROMPT[:90], 0, start=100)
    batch.extend(PROMPT[:90], 100, seqs=1)
    with pytest.raises(CapacityError, match="1 more states of sequences are needed, and 0 of 2"):
        context.decode(batch)
    assert_same(before, contents(context))
    bookkeeping(context)
    context.decode(prompt(PROMPT[:90], 0, start=100))


def test_one_token_too_many_names_both_numbers_and_changes_nothing():
    context = ToyModel().context(max_sequences=2, max_tokens=100)
    context.decode(prompt(PROMPT[:60]))
    before = snapshot(context)
    with pytest.raises(CapacityError, match=r"41 tokens, and 40 of 100"):
        context.decode(prompt(PROMPT[:41], 1))
    after = snapshot(context)
    assert after[0] == before[0] and after[1] is before[1]
    context.decode(prompt(PROMPT[:40], 1))
    with pytest.raises(CapacityError, match=r"1 tokens, and 0 of 100"):
        context.decode(prompt([1], 1, start=40))
    context.memory.remove(0, 59)
    context.decode(prompt([1], 1, start=40))
    bookkeeping(context)


def test_a_sequence_longer_than_the_model_s_context_is_refused():
    context = ToyModel(ToyConfig(context_length=100)).context(max_sequences=2)
    assert context.max_tokens == 200
    with pytest.raises(CapacityError, match=r"sequence 1 would take 101 positions.* 100 tokens"):
        context.decode(prompt(PROMPT[:101], 1))
    assert context.memory.length(1) == 0
    context.decode(prompt(PROMPT[:100], 1))
    with pytest.raises(CapacityError, match="101"):
        context.decode(prompt([1], 1, start=100))
    with pytest.raises(CapacityError, match="position"):
        context.decode(prompt([1], 0, start=(1 << 31) - 1))


def test_bad_batches_change_nothing():
    context = ToyModel().context()
    context.decode(prompt([1, 2]))
    before = snapshot(context)
    for batch in (
        Batch(),
        batch_of((11, 2, 0)),
        batch_of((1, 2, 1)),
        batch_of((1, 1, 0)),
        batch_of((1, 2, 0), (1, 4, 0)),
    ):
        with pytest.raises(BatchError):
            context.decode(batch)
        assert snapshot(context)[0] == before[0] and context.memory._now is before[1]


def test_two_threads_at_once_are_refused():
    model = ToyModel()
    context = model.context()
    inside, go = threading.Event(), threading.Event()

    def wait(index: int) -> None:
        inside.set()
        assert go.wait(10)

    model.family.on_layer = wait
    thread = threading.Thread(target=context.decode, args=[prompt([1, 2, 3])])
    thread.start()
    assert inside.wait(10)
    for action in (
        lambda: context.decode(prompt([1])),
        lambda: context.memory.remove(0),
        lambda: context.memory.copy(0, 0),
        lambda: context.memory.keep(0),
        lambda: context.memory.clear(),
        lambda: context.memory.shift(0, 0, None, 1),
    ):
        with pytest.raises(MotetError, match="another thread"):
            action()
    assert context.memory.length(0) == 0  # looking is allowed
    go.set()
    thread.join()
    model.family.on_layer = lambda index: None
    assert context.memory.length(0) == 3
    context.decode(prompt([1], start=3))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"max_sequences": 0}, OptionError, "max_sequences is 0"),
        ({"max_sequences": 1.5}, OptionError, "max_sequences is 1.5"),
        ({"max_sequences": 10**9}, OptionError, "from 1 to 65536"),
        ({"max_tokens": -1}, OptionError, "max_tokens"),
        ({"max_tokens": 1 << 58, "kv_bytes": 1 << 62}, CapacityError, "smaller max_tokens"),
        ({"max_tokens": 1 << 90, "kv_bytes": 1 << 99}, CapacityError, "smaller max_tokens"),
        ({"ubatch": 0}, OptionError, "ubatch"),
        ({"split": "odd"}, OptionError, "equal"),
        ({"kv_type": "f8"}, OptionError, "q8_0"),
        ({"self_extend": 8}, OptionError, "self_extend is 8"),
    ],
)
def test_options_that_make_no_sense(options, error, match):
    with pytest.raises(error, match=match):
        ToyModel().context(**options)


def test_kv_type_follows_the_weights_unless_given():
    for weights, given, used, stored in (
        ("f32", "auto", "f32", np.float32),
        ("f16", "auto", "f16", np.float16),
        ("f32", "q8_0", "q8_0", np.int8),
    ):
        context = ToyModel(default_kv_type=weights).context(kv_type=given)
        assert context.kv_type == used
        assert context.memory.caches[0].arrays[0, 0]["keys"].dtype == stored


def test_a_large_context_costs_nothing_until_it_is_used():
    model = ToyModel(ToyConfig(context_length=500_000))
    context = model.context(max_sequences=16)
    assert context.max_tokens == 8_000_000
    plain = Plain(model)
    assert np.array_equal(context.decode(prompt([1]))[-1], plain.decode(1, 0, [0]))
    assert len(context.memory._now.sequences.blocks.refs) < 100
