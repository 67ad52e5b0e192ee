"""What was saved comes back bit for bit, in any other context, and goes on as if never saved."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from motet.batch import Batch
from motet.errors import BatchError, CapacityError, OptionError
from motet.memory.block_table import _blocks, _shared
from motet.spec import Recurrent, SlidingAttention
from tests.memory.talk import Talk
from tests.state.files import KINDS, everything, restored, saved
from tests.toy import ALL_KINDS, block_tables

kinds = pytest.mark.parametrize("layers", KINDS.values(), ids=KINDS)


@kinds
@pytest.mark.parametrize(
    ("count", "options"),
    [
        (1, {"ubatch": 3, "split": "sequence", "max_sequences": 9, "max_tokens": 500}),
        (64, {"ubatch": 64, "split": "simple", "max_sequences": 3, "max_tokens": 142}),
        (65, {}),
        (150, {"ubatch": 5, "split": "simple"}),
    ],
)
def test_one_sequence_into_another_slot(layers, count, options):
    talk = Talk(layers=layers, max_sequences=2)
    talk.say(count, 1)
    other = restored(talk, saved(talk), {1: 2}, **options)
    other.say(7, 2)
    other.say(70, 2)
    talk.say(7, 1)


@kinds
def test_beside_neighbours_that_go_on(layers):
    talk = Talk(layers=layers, max_sequences=3)
    talk.say(100, 2)
    talk.say(30, 0)
    file = saved(talk, 2)
    other = Talk(layers=layers, max_sequences=4, ubatch=7)
    other.say(90, 0)
    other.copy(0, 1)
    other.say(20, 1)
    restored(talk, file, {2: 3}, to=other)
    other.together((5, (0,)), (70, (3,)), (9, (1,)), mixed=True)
    other.remove(0)
    other.say(70, 0)
    other.say(70, 3)


@kinds
def test_all_some_or_one(layers):
    talk = Talk(layers=layers, max_sequences=4)
    for seq in (0, 1, 3):
        talk.say(40 + seq, seq)
    everyone = saved(talk)
    assert restored(talk, everyone).memory.length(3) == 43
    some = restored(talk, everyone, {3: 0, 0: 3})
    assert [some.memory.length(seq) for seq in range(4)] == [43, 0, 0, 40]
    some.say(3, 0)
    assert len(saved(talk, 1)) < len(saved(talk, 1, 3)) < len(everyone)
    file = io.BytesIO()
    talk.context.save(file, 3)
    assert file.getvalue() == saved(talk, 3)
    assert restored(talk, saved(talk, 3, 0)).memory.length(1) == 0


def test_in_the_order_asked_for():
    talk = Talk(max_sequences=4)
    for seq in (0, 1, 3):
        talk.say(1 + seq, seq)
    seen = []

    def into(ids):
        seen.extend(ids)
        return {ids[0]: 1, ids[2]: 0}

    other = restored(talk, saved(talk, 3, 1, 0), into)
    assert seen == [3, 1, 0]
    assert [other.memory.length(seq) for seq in range(4)] == [1, 4, 0, 0]


@kinds
def test_nothing(layers):
    talk = Talk(layers=layers, max_sequences=2)
    file = saved(talk)
    assert talk.context.restore(io.BytesIO(file)).sequences == {}
    assert restored(talk, saved(talk, 1)).memory.length(1) == 0
    other = restored(talk, saved(talk, 0, 1))
    other.say(3, 1)


@kinds
def test_what_is_saved_again_is_the_same(layers):
    talk = Talk(layers=layers, max_sequences=3)
    talk.say(150, 2)
    talk.copy(2, 0)
    talk.say(20, 0)
    file = saved(talk, notes={"a": "b"})
    other = restored(talk, file, ubatch=5, max_sequences=7)
    assert saved(other, notes={"a": "b"}) == file
    assert saved(restored(talk, file), 2) == saved(talk, 2)


@kinds
@pytest.mark.parametrize("length", [1, 64, 100])
def test_forks_share_again(layers, length):
    talk = Talk(layers=layers, max_sequences=4, max_tokens=length + 30)
    talk.say(length, 0)
    for seq in (1, 2, 3):
        talk.copy(0, seq)
    talk.say(10, 1)
    talk.say(10, 2)
    assert len(load(saved(talk))["tokens"]) == length + 20
    other = restored(talk, saved(talk), max_tokens=length + 30)
    for group in range(len(block_tables(other.context))):
        assert other.pages(group) <= talk.pages(group)
    for mine in (talk, other):
        mine.say(10, 3)
        with pytest.raises(CapacityError, match="1 tokens, and 0 of"):
            mine.say(1, 0)
        mine.remove(1)
        mine.say(5, 2)
    other.remove(2)
    other.say(10, 0)


def test_a_fork_that_went_back_shares_its_last_page_again():
    talk = Talk(max_sequences=3)
    talk.say(120)
    talk.copy(0, 1)
    talk.copy(0, 2)
    talk.remove(1, 100)
    talk.remove(2, 70)
    other = restored(talk, saved(talk))
    assert other.pages() == talk.pages() == 2
    for seq in (2, 1, 0):
        other.say(5, seq)


def test_blocks_share_a_page_with_the_one_that_has_all_their_tokens():
    def shared(*held):
        owners = np.repeat(np.arange(len(held)), [len(pairs) for pairs in held])
        positions, rows = np.array([pair for pairs in held for pair in pairs]).T
        return _shared(_blocks(owners, positions), positions, rows).tolist()

    def run(start, end, row=0):
        return [(at, row + at) for at in range(start, end)]

    assert shared(run(0, 60)) == [0]
    assert shared(run(0, 60), run(0, 60)) == [0, 0]
    assert shared(run(0, 10), run(0, 60), run(0, 30)) == [1, 1, 1]
    assert shared(run(0, 10), run(0, 10, 1000)) == [0, 1]
    fork = run(0, 5), [*run(0, 5), *run(5, 9, 100)], [*run(0, 5), *run(5, 7, 200)]
    assert shared(*fork) == [1, 1, 2]
    assert shared(run(10, 20), run(0, 30)) == [1, 1]
    assert shared(run(0, 20), run(10, 30)) == [0, 1]  # each has what the other lacks
    assert shared(run(0, 70), run(0, 66)) == [0, 1, 0, 1]
    assert shared(run(0, 64), run(64, 128, -64)) == [0, 1]  # one token at other positions


def test_shifted_forks_have_the_same_tokens_at_other_positions():
    talk = Talk(layers=KINDS["full"], max_sequences=4)
    talk.say(100)
    talk.copy(0, 1)
    talk.shift(1, 0, None, 150)
    talk.copy(0, 1)
    talk.remove(0, 3, 70)
    file = saved(talk)
    assert len(load(file)["tokens"]) == 100
    other = restored(talk, file, {1: 3, 0: 1})
    other.say(20, 3)
    other.say(20, 1)


@pytest.mark.parametrize("layers", [KINDS["recurrent"], KINDS["hybrid"]])
def test_shifted_states(layers):
    talk = Talk(layers=layers)
    talk.say(40)
    talk.memory.checkpoint(0)
    talk.say(40)
    talk.shift(0, 10, None, 1000)
    other = restored(talk, saved(talk))
    assert other.memory.checkpoints(0) == [1040]
    other.remove(0, 1040)
    other.say(20)


def test_who_agrees_still_does_and_nobody_else():
    """Sequences may share a token where the tokens before it were computed alike."""
    talk = Talk(layers=KINDS["full"], max_sequences=5)
    tokens = talk.tokens(50)
    talk.say(0, 0, tokens=tokens)
    talk.remove(0, 10, 20)
    talk.shift(0, 20, None, -10)
    talk.copy(0, 1)
    talk.say(0, 2, tokens=tokens[:10] + tokens[20:])
    talk.say(0, 3, tokens=tokens[:10] + tokens[20:])
    other = restored(talk, saved(talk), max_sequences=5)
    for mine in (talk, other):
        batch = Batch()
        batch.add(1, 40, (0, 2))
        with pytest.raises(BatchError, match="whose pasts differ"):
            mine.context.decode(batch)
        mine.say(3, 0, 1)
        mine.say(3, 2, 3)
    other.say(0, 4, tokens=tokens[:10] + tokens[20:])
    other.say(0, 4, tokens=[said.token for said in list(other.plain.held[2].values())[40:]])
    other.say(3, 4, 2)  # decoded here and restored: the same bits


@pytest.mark.parametrize("kind", ["full", "hybrid"])
def test_what_was_rounded_elsewhere_is_not_taken_for_what_is_computed_here(kind):
    talk = Talk(layers=KINDS[kind], max_sequences=2)
    tokens = talk.tokens(50)
    talk.say(0, 0, tokens=tokens)
    talk.copy(0, 1)
    talk.model.kernels.arithmetic = "toy with another rounding"
    other = restored(talk, saved(talk))
    other.say(0, 2, tokens=tokens)
    batch = Batch()
    batch.add(1, 50, (0, 2))
    with pytest.raises(BatchError, match="whose pasts differ"):
        other.context.decode(batch)
    other.say(3, 0, 1)
    again = restored(other, saved(other))
    again.say(3, 0, 1)
    again.say(0, 3, tokens=tokens)
    again.say(3, 2, 3)
    for seq in (0, 1):
        again.remove(seq)
        again.say(0, seq, tokens=tokens)
    again.say(3, 0, 1)


@kinds
def test_going_back_as_far_as_before(layers):
    talk = Talk(layers=layers)
    talk.say(300)
    other = restored(talk, saved(talk), {0: 1})
    for position in range(300):
        assert other.memory.reachable(1, position) in (
            talk.memory.reachable(0, position),
            *range(position),
        )
    if not any(isinstance(spec, Recurrent) for spec in layers):
        assert other.memory.reachable(1, 236) == 236
        other.remove(1, 236)
    other.say(70, 1)


def with_checkpoints(layers) -> Talk:
    talk = Talk(layers=layers, max_sequences=4, checkpoint_bytes=1 << 20)
    talk.say(30)
    talk.memory.checkpoint(0)
    talk.say(270)
    talk.memory.checkpoint(0)
    talk.copy(0, 1)
    talk.say(100)
    talk.memory.checkpoint(0)
    talk.say(200)
    return talk


@pytest.mark.parametrize("kind", ["sliding", "both", "recurrent", "hybrid", "all"])
def test_checkpoints_come_along(kind):
    talk = with_checkpoints(KINDS[kind])
    other = restored(talk, saved(talk), {0: 2, 1: 0})
    assert other.memory.checkpoints(2) == [30, 300, 400]
    assert other.memory.checkpoints(0) == [30, 300]
    other.say(100, 2)
    other.say(100, 0)
    other.remove(2, 400)
    other.say(20, 2)
    other.remove(0, 30)
    other.copy(2, 1, 0, 300)
    assert other.memory.checkpoints(1) == [30, 300]
    for seq in (2, 0, 1):
        other.say(20, seq)
    other.remove(2, 30)
    other.remove(1)
    other.remove(0)
    other.say(5, 2)


@pytest.mark.parametrize("kind", ["sliding", "recurrent", "all"])
def test_checkpoints_of_those_chosen(kind):
    talk = with_checkpoints(KINDS[kind])
    assert restored(talk, saved(talk, 1)).memory.checkpoints(1) == [30, 300]
    other = restored(talk, saved(talk), {1: 3})
    assert other.memory.checkpoints(3) == [30, 300]
    other.remove(3, 30)
    other.say(5, 3)


@pytest.mark.parametrize("kind", ["sliding", "recurrent", "all"])
@pytest.mark.parametrize("checkpoint_bytes", [0, 50, 400, 50_000, 1 << 20])
def test_checkpoints_keep_to_the_budget(kind, checkpoint_bytes):
    talk = with_checkpoints(KINDS[kind])
    other = restored(talk, saved(talk), checkpoint_bytes=checkpoint_bytes)
    left = other.memory.checkpoints(0)
    assert left == [30, 300, 400][3 - len(left) :]  # those last used stay
    if checkpoint_bytes == 0:
        assert left == []
    for position in left[::-1]:
        other.remove(0, position)
        other.say(3, 0)


def test_checkpoints_nobody_asked_for_stay_behind():
    talk = Talk(layers=KINDS["recurrent"])
    talk.say(600)
    talk.say(600)
    assert talk.memory.checkpoints(0)
    other = restored(talk, saved(talk))
    assert other.memory.checkpoints(0) == []
    assert len(load(saved(talk))["layers.0.state.0"]) == 1


def test_a_sliding_layer_saves_what_it_holds():
    talk = Talk(layers=(SlidingAttention(1, 4, 4, 5), *KINDS["full"]))
    talk.say(1000)
    tensors = load(saved(talk))
    assert len(tensors["layers.1.keys"]) == 1000
    assert len(tensors["layers.0.keys"]) <= 5 + 64 + 63
    assert tensors["sliding_5.positions"][-1] == 999


def test_any_safetensors_reader_can_read_it():
    talk = Talk(layers=ALL_KINDS, max_sequences=2)
    talk.say(70, 1)
    talk.copy(1, 0)
    talk.say(5, 0)
    file = saved(talk, notes={"prompt": "Grüße"})
    tensors = load(file)
    assert tensors["sequences.ids"].tolist() == [0, 1]
    assert tensors["full.lengths"].tolist() == [75, 70]
    held = list(talk.plain.held[0].values())
    rows = tensors["full.rows"][:75]
    assert tensors["full.positions"][:75].tolist() == list(range(75))
    assert tensors["tokens"][rows].tolist() == [said.token for said in held]
    keys, values = tensors["layers.1.keys"][rows], tensors["layers.1.values"][rows]
    assert keys.shape == (75, 2, 4) and values.shape == (75, 2, 3)
    assert keys[:, 0, 0].tolist() == [said.kept[1][0] for said in held]
    assert values[:, 1, 2].tolist() == [said.kept[1][1] for said in held]
    state = tensors["layers.0.state.0"][tensors["states.rows"][0]]
    assert state[:, 0].tolist() == list(held[-1].kept[0][:3])
    size = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + size])
    assert json.loads(header["__metadata__"]["notes"]) == {"prompt": "Grüße"}
    assert (8 + size) % 64 == 0
    for name, entry in header.items():
        if name != "__metadata__":
            width = {"I64": 8, "F32": 4, "I32": 4, "U8": 1}[entry["dtype"]]
            assert entry["data_offsets"][0] % width == 0


@pytest.mark.parametrize(
    "notes", [None, {}, {"a": ""}, {"": "x", "transcript": 'né 😀 \x00 "\ud800"\n' * 1000}]
)
def test_notes(notes):
    talk = Talk()
    talk.say(3)
    file = saved(talk, notes=notes)
    assert Talk().context.restore(io.BytesIO(file)).notes == (notes or {})


def test_a_file_object_is_left_right_after_the_state(tmp_path: Path):
    talk = Talk(max_sequences=2)
    talk.say(10)
    path = tmp_path / "several"
    with path.open("wb") as file:
        file.write(b"before")
        talk.context.save(file)
        talk.say(90)
        talk.context.save(file)
        file.write(b"after")
    with path.open("rb") as file:
        assert file.read(6) == b"before"
        other = Talk(max_sequences=2)
        assert other.context.restore(file, {0: 1}).sequences == {0: 1}
        other.context.restore(file)
        assert file.read() == b"after"
    assert other.memory.length(0) == 100 and other.memory.length(1) == 10


class Grudging:
    """Bytes in pieces of at most 1,000, without seeking."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def write(self, data) -> int:
        self.data += bytes(data[:1000])
        return min(len(data), 1000)

    def read(self, count: int) -> bytes:
        out, self.data = self.data[: min(count, 1000)], self.data[min(count, 1000) :]
        return out


def test_a_file_object_that_gives_and_takes_little():
    talk = Talk(layers=ALL_KINDS)
    talk.say(200)
    file = Grudging()
    talk.context.save(file)  # type: ignore[arg-type]
    assert file.data == saved(talk)
    other = Talk(layers=ALL_KINDS)
    other.context.restore(file)  # type: ignore[arg-type]
    assert everything(other.context) == everything(talk.context)


def test_file_objects_that_cannot_be_used():
    talk = Talk()
    talk.say(5)
    with pytest.raises(OptionError, match="binary mode"):
        talk.context.restore(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="binary mode"):
        talk.context.save(io.StringIO())  # type: ignore[arg-type]
    talk.check()


@pytest.mark.parametrize("seqs", [[2], [-1], ["0"], [0, 0], 7])
def test_sequences_that_cannot_be_saved(seqs):
    talk = Talk(max_sequences=2)
    talk.say(5)
    file = io.BytesIO()
    with pytest.raises(OptionError, match="seq"):
        talk.context.save(file, seqs)
    assert file.getvalue() == b""


@pytest.mark.parametrize("notes", [{"a": 1}, {1: "a"}, {"a": b"b"}, {"a": "x" * (1 << 24)}])
def test_notes_that_cannot_be_saved(notes):
    with pytest.raises(OptionError, match="notes"):
        Talk().context.save(io.BytesIO(), notes=notes)
