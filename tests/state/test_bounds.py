"""What a file claims costs no more than it has: budgets of items, tables, rows and checkpoints."""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet import bounded_json
from motet.errors import CapacityError, OptionError, StateFileError
from motet.memory.recurrent import RecurrentCache
from motet.memory.saved import TokenRows
from motet.state import encoded, writing
from tests.memory.talk import Talk
from tests.state.files import KINDS, packed, saved, unpacked
from tests.toy import ALL_KINDS, RECURRENT


def refused(file: bytes | Path, error: Any = StateFileError, layers=ALL_KINDS, **options) -> str:
    talk = Talk(layers=layers, **{"max_sequences": 4, **options})
    with pytest.raises(error) as caught:
        talk.context.restore(file if isinstance(file, Path) else io.BytesIO(file))
    assert len(str(caught.value)) < 500
    talk.check()
    talk.say(3)
    return str(caught.value)


def small(layers=ALL_KINDS) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Sequence 0 of nine tokens, with a checkpoint after five."""
    talk = Talk(layers=layers)
    talk.say(5)
    talk.memory.checkpoint(0)
    talk.say(4)
    return unpacked(saved(talk))


def headed(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


def test_a_file_packed_again_is_the_same():
    talk = Talk(layers=ALL_KINDS)
    talk.say(70)
    assert packed(*unpacked(saved(talk))) == saved(talk)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":[' + b"[]," * 300_000 + b"[]]}",
        b"{" + b",".join(b'"%d":0' % i for i in range(200_000)) + b"}",
        b'{"a":[' + b'"",' * 300_000 + b"0]}",
        b'{"a":[' + b'"\\\\","\\"",' * 150_000 + b"0]}",
    ],
)
def test_a_header_of_too_many_items(text):
    assert "it has more than 131072 items" in refused(headed(text))


@pytest.mark.parametrize("text", ["{}", '{"a":1}'])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_a_header_in_another_encoding(text, encoding):
    """Python's reader would guess it, and quotes be found where there are none."""
    assert "is not JSON" in refused(headed(text.encode(encoding)))


def test_notes_of_too_many_items():
    metadata, tensors = small()
    for notes in ("[" + "[]," * 300_000 + "[]]", "{" * 200_000, '{"a": "' + "\ud800" * 3):
        message = refused(packed({**metadata, "notes": notes}, tensors))
        assert "its notes are not strings" in message
    with pytest.raises(OptionError, match="there are 131073 notes, and 131072"):
        encoded({str(i): "" for i in range(bounded_json.MOST_ITEMS + 1)})
    most = {str(i): ',[{"\\' for i in range(bounded_json.MOST_ITEMS)}
    file = packed({**metadata, "notes": encoded(most)}, tensors)
    assert Talk(layers=ALL_KINDS).context.restore(io.BytesIO(file)).notes == most


json_values = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(alphabet='a\\"[{,]}:é\n', max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(alphabet='\\",[', max_size=4), inner, max_size=4),
    ),
)


@given(json_values)
def test_items_are_counted_outside_of_strings(value: Any):
    def count(part: Any) -> int:
        if not isinstance(part, list | dict):
            return 0
        inner = part.values() if isinstance(part, dict) else part
        return 1 + max(len(part) - 1, 0) + sum(map(count, inner))

    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only).encode()
        assert bounded_json.items(text) == count(value)
        assert bounded_json.parse(text) == value


@pytest.mark.parametrize("key", ["version", "kv_type", "self_extend", "weights", "layers"])
def test_errors_repeat_little_of_what_a_file_says(key):
    metadata, tensors = small()
    message = refused(packed({**metadata, key: "\x1b[31m\n" + "x" * 100_000}, tensors))
    assert message.isprintable()


def test_errors_repeat_little_of_a_name():
    refused(headed(b'{"' + b"\\u001b" * 10_000 + b'":{"dtype":0}}'))


def test_tables_are_not_read_where_they_are_too_large(tmp_path: Path, monkeypatch):
    metadata, tensors = small()
    file = packed(metadata, tensors)
    size = int.from_bytes(file[:8], "little")
    table = json.loads(file[8 : 8 + size])
    more = 1 << 37
    for name in list(table)[list(table).index("tokens") :]:
        table[name]["data_offsets"] = [
            at + more * (name != "tokens" or i) for i, at in enumerate(table[name]["data_offsets"])
        ]
    table["tokens"]["shape"] = [table["tokens"]["shape"][0] + more // 4]
    (tmp_path / "holes").write_bytes(headed(json.dumps(table).encode()))
    last = max(entry["data_offsets"][1] for n, entry in table.items() if n != "__metadata__")
    os.truncate(tmp_path / "holes", (tmp_path / "holes").stat().st_size + last)
    assert "its tables would take 137" in refused(tmp_path / "holes")
    talk = Talk()
    talk.say(100)
    monkeypatch.setattr(writing, "MAX_TABLES", 800)
    with pytest.raises(OptionError, match=r"tables .* 800 are the most \(save fewer sequences"):
        talk.context.save(io.BytesIO())
    talk.check()


@pytest.mark.parametrize("pool", ["tokens", "sliding", "states"])
def test_rows_that_nobody_has_are_refused(pool):
    """Else a file could claim as many as it likes, and be a hole on the disk."""
    layers = {"tokens": KINDS["full"], "sliding": KINDS["sliding"], "states": RECURRENT}[pool]
    metadata, tensors = small(layers)
    for name in list(tensors):
        if name.startswith("layers.") or (pool == "tokens" and name == "tokens"):
            tensors[name] = np.concatenate([tensors[name], tensors[name][-1:]])
    if pool == "sliding":
        tensors["sliding_90.rows"][-1] = len(tensors["layers.1.keys"]) - 1
    message = refused(packed(metadata, tensors), layers=layers)
    assert "there is a row that nothing refers to" in message


def test_a_checkpoint_that_nobody_has_is_refused():
    metadata, tensors = small(RECURRENT)
    tensors["checkpoints.rows"][:] = 1
    tensors["states.rows"] = np.array([0, 1, 1], np.int32)
    message = refused(packed(metadata, tensors), layers=RECURRENT)
    assert "there is a checkpoint that no sequence can go back to" in message


def crowd(count: int, sequences: int) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Sequences that can all go back to all of their positions, by the same checkpoints."""
    metadata, tensors = small(RECURRENT)
    here = np.arange(count)
    tensors |= {
        "sequences.ids": np.arange(sequences),
        "sequences.broken": np.full(sequences, np.iinfo(np.int64).max),
        "full.lengths": np.full(sequences, count),
        "full.positions": np.tile(here, sequences).astype(np.int32),
        "full.rows": np.tile(here, sequences).astype(np.int32),
        "tokens": (here % 11).astype(np.int32),
        "checkpoints.lengths": np.full(sequences, count),
        "checkpoints.positions": np.tile(here + 1, sequences).astype(np.int32),
        "checkpoints.rows": np.tile(here, sequences).astype(np.int32),
        "states.rows": np.arange(sequences + count, dtype=np.int32),
    }
    for name in tensors:
        if name.startswith("layers."):
            tensors[name] = np.repeat(tensors[name][:1], sequences + count, axis=0)
    return metadata, tensors


def test_as_many_checkpoints_as_the_budget_has_room_for():
    """Of a crowd of them: it took a minute, as each was dropped by itself."""
    file = packed(*crowd(1000, 8))
    talk = Talk(layers=RECURRENT, max_sequences=8, checkpoint_bytes=20_000)
    (cache,) = talk.memory.caches
    assert isinstance(cache, RecurrentCache)
    size = cache.slot_bytes
    talk.context.restore(io.BytesIO(file))
    expected = list(range(1000 - 20_000 // size + 1, 1001))
    assert [talk.memory.checkpoints(seq) for seq in range(8)] == [expected] * 8
    talk.memory.remove(3, expected[0])
    assert talk.memory.checkpoints(3) == expected[:1]


def test_no_more_checkpoints_than_a_memory_ever_has():
    file = packed(*crowd(5000, 1))
    talk = Talk(5000, RECURRENT, max_sequences=2, checkpoint_bytes=1 << 24)
    talk.context.restore(io.BytesIO(file), {0: 1})
    assert talk.memory.checkpoints(1) == list(range(5000 - 4096 + 1, 5001))


def test_a_position_far_beyond_takes_no_page_tables():
    metadata, tensors = small(RECURRENT)
    tensors["full.positions"][-1] = (1 << 31) - 2
    message = refused(packed(metadata, tensors), CapacityError, RECURRENT, max_sequences=1)
    assert "page tables" in message


def test_rows_of_some_of_many_owners():
    rows = TokenRows(
        np.array([2, 0, 3, 1]),
        np.array([4, 5, 1, 2, 9, 7], np.int32),
        np.array([0, 1, 2, 3, 4, 5], np.int32),
    )
    chosen = rows.only(np.array([2, 1, 0]))
    assert chosen.lengths.tolist() == [3, 0, 2]
    assert chosen.positions.tolist() == [1, 2, 9, 4, 5]
    assert chosen.rows.tolist() == [2, 3, 4, 0, 1]
    assert rows.owners.tolist() == [0, 0, 2, 2, 2, 3]
    assert rows.only(np.arange(0)).positions.size == 0
