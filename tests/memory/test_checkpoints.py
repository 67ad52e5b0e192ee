"""Checkpoints: where they are made, who may use them, when they are dropped, what they cost."""

import numpy as np
import pytest

from motet.batch import Batch
from motet.errors import CannotRewind, CapacityError, OptionError
from motet.memory.checkpoints import CHECKPOINT_EVERY
from motet.memory.kv_cache import SlidingKVCache
from motet.memory.recurrent import RecurrentCache
from motet.spec import FullAttention, SlidingAttention
from tests.memory.talk import Talk
from tests.toy import ALL_KINDS, HYBRID, LAYERS, RECURRENT, assert_same, contents, recurrent_states

SLIDING = (LAYERS[1], SlidingAttention(1, 4, 4, 90))
KINDS = pytest.mark.parametrize(
    "layers",
    [RECURRENT, HYBRID, ALL_KINDS, SLIDING, LAYERS],
    ids=["recurrent", "hybrid", "all", "sliding", "gemma"],
)
WITH_STATES = pytest.mark.parametrize(
    "layers", [RECURRENT, HYBRID, ALL_KINDS], ids=["recurrent", "hybrid", "all"]
)
ROOM = 1 << 20


def state_bytes(layers) -> int:
    caches = Talk(layers=layers).memory.caches
    (cache,) = (cache for cache in caches if isinstance(cache, RecurrentCache))
    return cache.slot_bytes


# Where they are made


@KINDS
@pytest.mark.parametrize("ubatch", [7, 64, 512])
def test_runs_of_several_tokens_are_marked_at_both_ends(layers, ubatch):
    talk = Talk(layers=layers, ubatch=ubatch, max_sequences=2)
    talk.say(30)
    assert talk.memory.checkpoints(0) == [30]
    for _ in range(5):
        talk.say(1)
    assert talk.memory.checkpoints(0) == [30]
    talk.say(20)
    assert talk.memory.checkpoints(0) == [30, 35, 55]
    assert talk.memory.checkpoints(1) == []


@KINDS
def test_long_runs_are_marked_on_the_way_at_the_edges_of_micro_batches(layers):
    talk = Talk(layers=layers, ubatch=100, context_length=4096, checkpoint_bytes=ROOM)
    talk.say(1700)
    assert talk.memory.checkpoints(0) == [600, 1200, 1700]
    for position in (1200, 600):
        talk.remove(0, position)
        assert talk.memory.checkpoints(0)[-1] == position
        talk.say(3)


def test_generated_text_is_marked_now_and_then():
    talk = Talk(layers=RECURRENT)
    for _ in range(2 * CHECKPOINT_EVERY + 40):
        talk.say(1)
    assert talk.memory.checkpoints(0) == [CHECKPOINT_EVERY, 2 * CHECKPOINT_EVERY]


@KINDS
def test_shared_tokens_and_endings_in_one_batch(layers):
    talk = Talk(layers=layers, max_sequences=3, ubatch=9)
    talk.together((20, (0, 1, 2)), (5, (0,)), (1, (1,)), (7, (2,)))
    assert [talk.memory.checkpoints(seq) for seq in range(3)] == [[20, 25], [20], [20, 27]]
    assert len(talk.memory._now.checkpoints.uses) == 3
    for seq in (1, 0, 2):
        talk.remove(seq, 20)
        talk.say(5, seq)


def test_full_attention_alone_needs_none():
    talk = Talk(layers=(FullAttention(1, 4, 4),))
    talk.say(100)
    assert talk.memory.rewinds_anywhere
    before = talk.memory._now
    talk.memory.checkpoint(0)
    assert talk.memory._now is before and talk.memory.checkpoints(0) == []
    assert [talk.memory.reachable(0, p) for p in (0, 17, 100, 500)] == [0, 17, 100, 500]


@KINDS
def test_none_where_nothing_is_held(layers):
    talk = Talk(layers=layers)
    assert not talk.memory.rewinds_anywhere
    before = talk.memory._now
    talk.memory.checkpoint(0)
    assert talk.memory._now is before
    assert talk.memory.reachable(0, 5) == 5


def test_sequences_that_are_not_there():
    memory = Talk(layers=RECURRENT).memory
    for call in (memory.checkpoint, memory.checkpoints, lambda seq: memory.reachable(seq, 0)):
        with pytest.raises(OptionError, match="there is no sequence 1"):
            call(1)
    for position in (-1, 1.5):
        with pytest.raises(OptionError):
            memory.reachable(0, position)  # type: ignore[arg-type]


# Going back


@WITH_STATES
def test_going_back_is_exact_at_checkpoints_and_refused_elsewhere(layers):
    talk = Talk(layers=layers, max_sequences=2)
    talk.say(30)
    talk.say(3)
    talk.memory.checkpoint(0)
    for _ in range(7):
        talk.say(1)
    talk.memory.checkpoint(0)
    for _ in range(4):
        talk.say(1)
    assert talk.memory.checkpoints(0) == [30, 33, 40]
    for position in range(44):
        nearest = max(p for p in (0, 30, 33, 40) if p <= position)
        assert talk.memory.reachable(0, position) == nearest
        if position != nearest:
            with pytest.raises(CannotRewind, match=f"sequence 0 .* {position}: .*{nearest}") as e:
                talk.memory.remove(0, position)
            assert (e.value.seq, e.value.position, e.value.nearest) == (0, position, nearest)
            with pytest.raises(CannotRewind, match=f"sequence 0 .*copied.*{position} only") as e:
                talk.memory.copy(0, 1, 0, position)
            assert (e.value.seq, e.value.position, e.value.nearest) == (0, position, nearest)
    talk.check()
    for position in (40, 33, 30, 0):
        talk.remove(0, position)
        assert talk.memory.reachable(0, position) == position
        talk.say(1)
        talk.remove(0, position)
    assert talk.memory.checkpoints(0) == []


@KINDS
def test_going_back_twice_to_one_checkpoint(layers):
    talk = Talk(layers=layers, ubatch=16)
    talk.say(200)
    for _ in range(3):
        talk.say(150)
        assert 200 in talk.memory.checkpoints(0)
        talk.remove(0, 200)
    talk.say(3)


@KINDS
def test_forks_at_a_checkpoint(layers):
    talk = Talk(layers=layers, max_sequences=3, context_length=4096)
    talk.say(130)
    talk.say(150)
    talk.copy(0, 1, 0, 130)
    assert talk.memory.checkpoints(1) == [130]
    talk.say(80, 1)
    talk.copy(1, 2)
    assert talk.memory.checkpoints(2) == [130, 210]
    talk.remove(0)
    talk.say(1, 2)
    for seq in (2, 1):
        talk.remove(seq, 130)
        talk.say(4, seq)
    talk.remove(1)
    talk.remove(2)
    assert talk.memory._now.checkpoints.uses == {}


@KINDS
def test_who_meets_another_may_use_its_checkpoints(layers):
    talk = Talk(layers=layers, max_sequences=2, checkpoint_bytes=ROOM)
    tokens = talk.tokens(120)
    talk.say(0, 0, tokens=tokens[:90])
    talk.say(0, 0, tokens=tokens[90:])
    for token in tokens:
        talk.say(0, 1, tokens=[token])
    talk.memory.checkpoint(1)
    talk.say(100, 0, 1)
    assert talk.memory.checkpoints(1) == [90, 120, 220]
    talk.remove(1, 90)
    talk.say(3, 1)
    talk.remove(0, 120)
    talk.say(3, 0)


@KINDS
def test_what_was_said_differently_has_no_checkpoint(layers):
    talk = Talk(layers=layers)
    talk.say(90)
    talk.say(90)
    talk.remove(0, 90)
    assert talk.memory.checkpoints(0) == [90]
    talk.say(95)
    assert talk.memory.checkpoints(0) == [90, 185]
    talk.remove(0)
    assert talk.memory.checkpoints(0) == []


@KINDS
def test_keep_and_clear_drop_those_of_nobody(layers):
    talk = Talk(layers=layers, max_sequences=2)
    talk.say(20)
    talk.say(20, 1)
    talk.memory.keep(1)
    talk.plain.held.pop(0)
    talk.check()
    assert (talk.memory.checkpoints(0), talk.memory.checkpoints(1)) == ([], [20])
    talk.memory.clear()
    talk.plain.held.clear()
    talk.check()
    assert talk.memory._now.checkpoints.uses == {}


@pytest.mark.parametrize("layers", [RECURRENT, HYBRID], ids=["recurrent", "hybrid"])
def test_shifts_move_checkpoints_that_no_page_belongs_to(layers):
    talk = Talk(layers=layers)
    for count in (20, 20, 20):
        talk.say(count)
    talk.shift(0, 35, None, 7)
    assert talk.memory.checkpoints(0) == [20, 47, 67]
    talk.shift(0, 0, 35, 3)
    assert talk.memory.checkpoints(0) == [23, 47, 67]
    talk.say(2)
    for position in (67, 47, 23):
        talk.remove(0, position)
        talk.say(2)


@pytest.mark.parametrize("layers", [SLIDING, LAYERS, ALL_KINDS], ids=["sliding", "gemma", "all"])
def test_shifts_drop_checkpoints_of_sliding_layers(layers):
    talk = Talk(layers=layers)
    for count in (20, 20, 20):
        talk.say(count)
    talk.shift(0, 35, None, 7)
    assert talk.memory.checkpoints(0) == [20]
    talk.remove(0, 20)
    talk.say(4)


@pytest.mark.parametrize("layers", [SLIDING, LAYERS], ids=["sliding", "gemma"])
@pytest.mark.parametrize("edit", ["remove", "insert"])
def test_edits_drop_the_checkpoints_behind_them(layers, edit):
    talk = Talk(layers=layers, max_sequences=2)
    for count in (20, 20, 20):
        talk.say(count)
    if edit == "remove":
        talk.remove(0, 30, 35)
    else:
        talk.memory.remove(0, 30, 35)
        talk.memory.copy(0, 1, 20, 30)
        talk.plain.held[0] = {p: s for p, s in talk.plain.held[0].items() if not 30 <= p < 35}
        talk.plain.held[1] = {p: s for p, s in talk.plain.held[0].items() if 20 <= p < 30}
        talk.check()
        assert talk.memory.checkpoints(1) == []
    assert talk.memory.checkpoints(0) == [20]
    talk.say(30)


def test_a_rewind_by_checkpoint_leaves_memory_as_it_was():
    """So the tokens that could be taken back then can be taken back again."""
    talk = Talk(layers=SLIDING, ubatch=64)
    talk.say(300)
    for _ in range(3):
        talk.say(200)
        talk.remove(0, 300)
        talk.remove(0, 300 - 64)
        talk.say(64)
        assert talk.memory.checkpoints(0)[-1] == 300


# What they cost


@WITH_STATES
def test_one_is_a_state_and_nothing_else(layers):
    talk = Talk(layers=layers)
    talk.say(10)
    states = recurrent_states(talk.context)[0][2]
    assert np.count_nonzero(states.refs) == 1  # the sequence has not gone on
    talk.say(1)
    states = recurrent_states(talk.context)[0][2]
    assert np.count_nonzero(states.refs) == 2
    assert talk.pages(0) == 1


@WITH_STATES
@pytest.mark.parametrize("count", [1, 3])
def test_the_budget_is_kept_and_the_longest_unused_goes_first(layers, count):
    talk = Talk(layers=tuple(s for s in layers if not isinstance(s, SlidingAttention)))
    talk = Talk(layers=talk.model.layers, checkpoint_bytes=count * state_bytes(talk.model.layers))
    for _ in range(5):
        talk.say(10)
    assert talk.memory.checkpoints(0) == [50, 40, 30][:count][::-1]
    if count == 3:
        talk.remove(0, 40)  # of use: now the latest
        talk.say(1)
        talk.say(9)
        assert talk.memory.checkpoints(0) == [40, 41, 50]


def test_those_asked_for_stay_longer():
    talk = Talk(layers=RECURRENT, max_sequences=2, checkpoint_bytes=2 * state_bytes(RECURRENT))
    talk.say(10)
    talk.memory.checkpoint(0)  # the automatic one becomes one that was asked for
    talk.say(10)
    talk.say(10)
    assert talk.memory.checkpoints(0) == [10, 30]
    talk.memory.checkpoint(0)
    talk.say(10)
    assert talk.memory.checkpoints(0) == [10, 30]
    talk.memory.checkpoint(0)
    assert talk.memory.checkpoints(0) == [30, 40]
    talk.say(5, 1)
    assert talk.memory.checkpoints(1) == []
    talk.memory.checkpoint(1)
    assert (talk.memory.checkpoints(0), talk.memory.checkpoints(1)) == ([40], [5])


@KINDS
def test_without_a_budget_there_are_none(layers):
    talk = Talk(layers=layers, checkpoint_bytes=0)
    talk.say(100)
    assert talk.memory.checkpoints(0) == []
    before = talk.memory._now
    with pytest.raises(CapacityError, match=r"sequence 0 takes \d+ bytes.* checkpoint_bytes is 0"):
        talk.memory.checkpoint(0)
    assert talk.memory._now is before
    talk.check()


@pytest.mark.parametrize("layers", [SLIDING, LAYERS, ALL_KINDS], ids=["sliding", "gemma", "all"])
def test_pages_that_several_checkpoints_share_count_once(layers):
    talk = Talk(layers=layers, ubatch=64, context_length=4096, checkpoint_bytes=1 << 15)
    for _ in range(12):
        talk.say(70)
        for _ in range(5):
            talk.say(1)
    kept = talk.memory.checkpoints(0)
    assert 0 < len(kept) < 24
    for position in reversed(kept):
        talk.remove(0, position)
        talk.say(1)


def test_no_more_than_is_sensible(monkeypatch):
    for module in ("recurrent", "transaction"):
        monkeypatch.setattr(f"motet.memory.{module}.MOST_CHECKPOINTS", 5)
    talk = Talk(layers=RECURRENT, checkpoint_bytes=ROOM)
    for _ in range(9):
        talk.say(2)
    assert talk.memory.checkpoints(0) == [10, 12, 14, 16, 18]


def test_a_decode_that_makes_more_than_the_budget_keeps_the_last():
    talk = Talk(layers=RECURRENT, ubatch=64, context_length=8192)
    talk = Talk(
        layers=RECURRENT,
        ubatch=64,
        context_length=8192,
        checkpoint_bytes=2 * state_bytes(RECURRENT),
    )
    talk.say(2000)
    assert talk.memory.checkpoints(0) == [1536, 2000]
    talk.say(2000)
    assert talk.memory.checkpoints(0) == [3536, 4000]
    assert len(recurrent_states(talk.context)[0][2].refs) <= 2 + 2 * 2 + 3


@KINDS
def test_a_failed_decode_leaves_checkpoints_as_they_were(layers):
    talk = Talk(layers=layers, ubatch=16, checkpoint_bytes=3000)
    talk.say(100)
    talk.say(40)
    before, calls = talk.memory._now, []

    def fail(index: int) -> None:
        calls.append(index)
        if len(calls) == 2 * len(layers):
            raise KeyboardInterrupt

    talk.model.family.on_layer = fail
    with pytest.raises(KeyboardInterrupt):
        talk.say(90)
    talk.model.family.on_layer = lambda index: None
    assert talk.memory._now is before
    talk.check()
    for position in reversed(talk.memory.checkpoints(0)):
        talk.remove(0, position)
        talk.say(20)
        talk.remove(0, position)


def test_a_page_is_not_written_over_that_a_checkpoint_has_to_itself():
    """It is dropped for another in the batch that fails, and has to be as it was afterwards."""
    layers = (SlidingAttention(1, 4, 4, 90),)
    (cache,) = Talk(layers=layers).memory.caches
    assert isinstance(cache, SlidingKVCache)
    page = cache.page_bytes
    talk = Talk(layers=layers, max_sequences=3, ubatch=8, checkpoint_bytes=page)
    talk.say(60)
    talk.copy(0, 1)
    talk.remove(1, 30)  # still in the page that the checkpoint refers to
    for _ in range(2):
        talk.say(1, 0)  # no longer in it
    assert (talk.memory.checkpoints(0), talk.memory.checkpoints(1)) == ([60], [])
    before, calls = contents(talk.context), []

    def fail(index: int) -> None:
        calls.append(index)
        if len(calls) == 2:
            raise KeyboardInterrupt

    batch = Batch()
    batch.extend([1] * 8, 0, 2)  # the end of this run takes the place of the checkpoint
    batch.add(1, 30, 1)
    talk.model.family.on_layer = fail
    with pytest.raises(KeyboardInterrupt):
        talk.context.decode(batch)
    talk.model.family.on_layer = lambda index: None
    assert len(calls) == 2
    assert_same(before, contents(talk.context))
    talk.remove(0, 60)
    talk.say(5)
