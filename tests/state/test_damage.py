"""A file that is damaged, forged or of something else is refused, and memory is as before."""

import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as safetensors_save

from motet.errors import CapacityError, MotetError, OptionError, StateFileError
from motet.state.format import Entry
from motet.weights.fingerprint import Fingerprint
from tests.memory.talk import Talk
from tests.shared import SHARED
from tests.state.files import KINDS, everything, forged, restored, saved
from tests.toy import ALL_KINDS, RECURRENT
from tests.weights.gguf_bytes import small_file


def small(layers=ALL_KINDS) -> Talk:
    talk = Talk(layers=layers, max_sequences=3)
    talk.say(5, 2)
    talk.memory.checkpoint(2)
    talk.say(4, 2)
    talk.copy(2, 0)
    talk.say(2, 0)
    return talk


TALK = small()
FILE = saved(TALK, notes={"a": "b"})
HEADER = 8 + int.from_bytes(FILE[:8], "little")


class Target:
    """A context that holds something, and what it holds."""

    def __init__(self, layers=ALL_KINDS, **options) -> None:
        self.talk = Talk(layers=layers, **{"max_sequences": 4, **options})
        self.talk.say(70, 1)
        self.before = everything(self.talk.context)

    def refuses(self, file: bytes | str | Path, error: Any = StateFileError, into=None) -> str:
        now = self.talk.memory._now
        with pytest.raises(error) as caught:
            self.talk.context.restore(io.BytesIO(file) if isinstance(file, bytes) else file, into)
        assert self.talk.memory._now is now
        message = str(caught.value)
        assert len(message) < 500 and "Traceback" not in message
        return message

    def unchanged(self) -> None:
        """All that it held is there, and its books are right."""
        assert everything(self.talk.context) == self.before
        self.talk.check()
        self.talk.say(3, 1)


def flipped(at: int, change: int = 1) -> bytes:
    return FILE[:at] + bytes([FILE[at] ^ change]) + FILE[at + 1 :]


def test_the_file_itself_is_right():
    other = restored(TALK, FILE)
    assert other.memory.checkpoints(0) == other.memory.checkpoints(2) == [5]


@pytest.mark.parametrize("change", [0x01, 0x20, 0x80])
def test_every_byte_of_the_header_and_tables(change):
    target = Target()
    end = FILE.index(np.array([0, 2], "<i8").tobytes(), HEADER) + 700
    for at in range(end):
        target.refuses(flipped(at, change))
    target.unchanged()


def test_bytes_of_every_tensor():
    target = Target()
    table, seen = json.loads(FILE[8:HEADER]), 0
    for name, entry in table.items():
        if name != "__metadata__":
            start, end = (HEADER + at for at in entry["data_offsets"])
            for at in {start, (start + end) // 2, end - 1} if end > start else ():
                target.refuses(flipped(at))
                seen += 1
    assert seen > 60
    target.unchanged()


def test_bytes_anywhere(tmp_path: Path):
    target, path = Target(), tmp_path / "state"
    for at in range(HEADER, len(FILE), 23):
        path.write_bytes(flipped(at, 1 << at % 8))
        message = target.refuses(path)
        assert message.startswith(f"{path}: is damaged: the checksum")
    target.unchanged()


def test_every_truncation(tmp_path: Path):
    target, path = Target(), tmp_path / "state"
    for size in [*range(1, 100), *range(100, len(FILE), 37), len(FILE) - 1]:
        assert "the state file: is cut short: it ends after" in target.refuses(FILE[:size])
        path.write_bytes(FILE[:size])
        assert ("cut short" if size >= 8 else "is not a state file") in target.refuses(path)
    path.write_bytes(FILE + b"\0")
    assert "longer than it should be" in target.refuses(path)
    target.unchanged()


@pytest.mark.parametrize("at", [0, 100, HEADER, HEADER + 50, len(FILE) - 100])
@pytest.mark.parametrize("change", ["delete", "insert", "zeros", "swap"])
def test_larger_damage(at, change):
    data = {
        "delete": FILE[:at] + FILE[at + 8 :],
        "insert": FILE[:at] + b"12345678" + FILE[at:],
        "zeros": FILE[:at] + bytes(64) + FILE[at + 64 :],
        "swap": FILE[:at] + FILE[at + 32 : at + 64] + FILE[at : at + 32] + FILE[at + 64 :],
    }[change]
    target = Target()
    target.refuses(data)
    target.unchanged()


def test_other_files(tmp_path: Path):
    target = Target()
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "model.gguf").write_bytes(small_file().data)
    (tmp_path / "tensors").write_bytes(safetensors_save({"a": np.zeros(3, np.float32)}))
    (tmp_path / "text").write_text("Once upon a time there was a little girl named Lily.")
    (tmp_path / "zeros").write_bytes(bytes(1000))
    (tmp_path / "zip").write_bytes(b"PK\x03\x04" + bytes(range(256)))
    (tmp_path / "closed").write_bytes(FILE)
    (tmp_path / "closed").chmod(0)
    (tmp_path / "pipe.d").mkdir()
    for name, problem in (
        ("empty", "is empty (give a file that save wrote)"),
        ("model.gguf", "is a GGUF model, not a state file"),
        ("tensors", "is a safetensors file, but not a state file of Motet"),
        ("text", "is not a state file"),
        ("zeros", "is not a state file"),
        ("zip", "is not a state file"),
        ("pipe.d", "is a directory"),
        ("missing", "there is no such file (check the path)"),
        ("text/inside", "cannot be opened: Not a directory"),
        ("x" * 300, "cannot be opened: File name too long"),
        ("null\0", "cannot be opened: embedded null byte"),
    ):
        message = target.refuses(tmp_path / name)
        assert message.startswith(f"{tmp_path / name}: {problem}"), message
    target.unchanged()


def test_devices_and_pipes_do_not_hang(tmp_path: Path):
    import os

    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in Target().refuses(tmp_path / "pipe")
    assert "is not a regular file" in Target().refuses("/dev/zero")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "state"
    path.write_bytes(FILE)

    def refuse(self, *args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert Target().refuses(path) == f"{path}: cannot be opened: Permission denied"


class OtherModel:
    """The toy model under another fingerprint."""

    def __init__(self, talk: Talk, **changes: str) -> None:
        self.talk, self.fingerprint = talk, talk.model.fingerprint
        talk.model.fingerprint = Fingerprint(**{**vars(self.fingerprint), **changes})


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"weights": "0"}, "saved with other weights (they are of another model, or of another"),
        ({"settings": "0"}, "saved with other settings of the model: its sizes, scales or rope"),
        ({"tokenizer": "0"}, "saved with another tokenizer"),
        ({"weights": "0", "settings": "0", "tokenizer": "0"}, "saved with other weights"),
    ],
)
def test_another_model(changes, problem):
    target = Target()
    OtherModel(target.talk, **changes)
    assert problem in target.refuses(FILE)
    target.unchanged()


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({"version": "2"}, "is of format version 2, and this Motet reads version 1 (a newer Motet"),
        ({"version": None}, "does not say its version"),
        ({"format": None}, "not a state file of Motet"),
        ({"format": "pt"}, "not a state file of Motet"),
        ({"weights": None}, "does not say its weights"),
        ({"kv_type": "f16"}, "holds keys and values as f16, and this context keeps them as f32"),
        ({"self_extend": "SelfExtend(group=2)"}, "this context's are none (context.self_extend ="),
        ({"layers": "[]"}, "layers that remember something else"),
        ({"notes": "[]"}, "its notes are not strings"),
        ({"notes": '{"a": 1}'}, "its notes are not strings"),
        ({"notes": "["}, "its notes are not strings"),
        ({"notes": "[" * 100_000}, "its notes are not strings"),
    ],
)
def test_other_metadata(metadata, problem):
    target = Target()
    message = target.refuses(forged(FILE, metadata=metadata))
    assert problem in message
    target.unchanged()


def test_keys_and_values_in_another_type():
    target = Target(kv_type="q8_0", layers=RECURRENT)
    restored(small(RECURRENT), saved(small(RECURRENT)), to=target.talk)  # there are none
    other = Talk(kv_type="bf16", layers=ALL_KINDS)
    message = Target().refuses(saved(other))
    assert "kv_type='bf16'" in message and "as bf16, and this context keeps them as f32" in message


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "all"])
def test_other_layers(kind):
    """As the settings differ then, this takes a forged fingerprint, or the same by chance."""
    target = Target(KINDS[kind])
    assert "layers that remember something else" in target.refuses(FILE)
    layers = json.dumps([{"kind": type(s).__name__, **vars(s)} for s in KINDS[kind]])
    kv_type = "none" if kind == "recurrent" else "f32"
    message = target.refuses(forged(FILE, metadata={"layers": layers, "kv_type": kv_type}))
    assert "damaged" in message
    target.unchanged()


@pytest.mark.parametrize(
    ("into", "problem"),
    [
        ({1: 0}, "into names sequence 1, which was not saved (saved were 0, 2)"),
        ({0: 1}, "sequence 0 would be restored into sequence 1, which holds 70 tokens"),
        ({0: 4}, "sequence 0 would be restored into sequence 4, and this context has sequences"),
        ({0: -1}, "into sequence -1"),
        ({0: 2, 2: 2}, "two sequences would be restored into sequence 2"),
        ({0: "2"}, "a target in into is '2' (use a whole number)"),
        ({True: 2}, "a saved number in into is True"),
        ([0], "into is [0] (use a dictionary {saved number: number here}"),
        (lambda saved: 2, "into is 2"),
        (lambda saved: dict.fromkeys(saved, 3), "two sequences"),
    ],
)
def test_places_that_are_none(into, problem):
    target = Target()
    assert problem in target.refuses(FILE, OptionError, into)
    target.unchanged()
    assert "restore elsewhere: into={0: …}" in target.refuses(FILE, OptionError, {0: 1})


def test_a_place_that_there_is_not():
    target = Target(max_sequences=2)
    message = target.refuses(FILE, OptionError)
    assert (
        "sequence 2 would be restored into sequence 2, and this context has sequences 0" in message
    )
    target.refuses(FILE, OptionError, {2: 1})
    assert restored(TALK, FILE, {2: 0}, to=target.talk).memory.length(0) == 9


@pytest.mark.parametrize("kind", KINDS)
def test_too_little_room(kind):
    talk = Talk(layers=KINDS[kind], max_sequences=2)
    talk.say(100)
    talk.copy(0, 1)
    talk.say(50, 1)
    target = Target(KINDS[kind], max_tokens=70 + 149)
    message = target.refuses(saved(talk), CapacityError, {0: 0, 1: 2})
    assert "150 tokens were saved, and 149 of 219 that this context can hold are free" in message
    target.unchanged()
    target.talk.remove(1)
    restored(talk, saved(talk), {0: 0, 1: 2}, to=target.talk)


def test_too_short_a_context():
    talk = Talk(layers=KINDS["full"])
    talk.say(100)
    target = Target(KINDS["full"], context_length=99)
    message = target.refuses(saved(talk), CapacityError)
    assert "goes to position 99, and the model's context is 99 tokens" in message
    target.unchanged()


def replaced(index: int, value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values[index] = value
        return values

    return change


HUGE = np.iinfo(np.int64).max
FORGERIES = {
    "a sequence twice": {"sequences.ids": replaced(1, 0)},
    "a negative sequence": {"sequences.ids": replaced(1, -2)},
    "broken at a negative position": {"sequences.broken": replaced(0, -1)},
    "a token out of the vocabulary": {"tokens": replaced(0, 11)},
    "a negative token": {"tokens": replaced(0, -1)},
    "a negative length": {"full.lengths": lambda v: [-1, v.sum() + 1]},
    "a huge length": {"full.lengths": replaced(0, HUGE)},
    "huge lengths that come to the right sum": {"full.lengths": lambda v: [HUGE, HUGE]},
    "a length too many": {"full.lengths": lambda v: [*v, 0]},
    "no lengths": {"full.lengths": lambda v: []},
    "another split of the same tokens": {"full.lengths": lambda v: v[::-1]},
    "a negative position": {"full.positions": replaced(0, -1)},
    "a position twice": {"full.positions": replaced(1, 0)},
    "a position beyond the context": {"full.positions": replaced(-1, 2**31 - 1)},
    "a row beyond the pool": {"full.rows": replaced(0, 99)},
    "a negative row": {"full.rows": replaced(0, -1)},
    "rows too few": {"full.rows": lambda v: v[1:]},
    "a sliding row beyond the pool": {"sliding_5.rows": replaced(0, 99)},
    "a sliding position that its sequence lacks": {"sliding_5.positions": replaced(-7, 100)},
    "a sliding layer without its window": {
        "sliding_5.lengths": lambda v: [0, *v[1:]],
        "sliding_5.positions": lambda v: v[11:],
        "sliding_5.rows": lambda v: v[11:],
    },
    "a state beyond the pool": {"states.rows": replaced(0, 3)},
    "a state below the pool": {"states.rows": replaced(0, -2)},
    "no state": {"states.rows": replaced(0, -1)},
    "a checkpoint without a state": {"states.rows": replaced(2, -1)},
    "states too few": {"states.rows": lambda v: v[:1]},
    "a checkpoint too many": {"states.rows": lambda v: [*v, 0]},
    "a checkpoint that there is not": {"checkpoints.rows": replaced(0, 1)},
    "a checkpoint at no position": {"checkpoints.positions": replaced(0, 0)},
    "a checkpoint after the end": {"checkpoints.positions": replaced(0, 12)},
    "a checkpoint of tokens not there": {"checkpoints.positions": replaced(0, 3)},
    "checkpoints of nobody": {"checkpoints.lengths": lambda v: [0, 0]},
    "one checkpoint at two positions": {
        "checkpoints.lengths": lambda v: v + (np.arange(len(v)) == np.argmax(v > 0)),
        "checkpoints.positions": lambda v: [v[0], v[0] + 1, *v[1:]],
        "checkpoints.rows": lambda v: [v[0], *v],
    },
    "no tokens": {"tokens": lambda v: []},
    "a table of another shape": {"tokens": lambda v: v.reshape(-1, 1)},
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_tables(name):
    target = Target()
    message = target.refuses(forged(FILE, FORGERIES[name]), (StateFileError, CapacityError))
    assert "contradicts itself" in message or "damaged" in message or "context is" in message
    target.unchanged()


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e[:-1],
        lambda e: e[:1],
        lambda e: [],
        lambda e: e[1:],
        lambda e: [*e, Entry("more", "U8", (0,))],
        lambda e: e[::-1],
        lambda e: [*e[:-1], Entry("checksums.layers", "U8", (0, 16))],
        lambda e: [Entry(x.name, x.dtype, (*x.shape, 1)) for x in e],
        lambda e: [Entry(x.name, x.dtype, (1 << 40, *x.shape[1:])) for x in e],
        lambda e: [Entry(x.name, x.dtype, (1 << 61,) * 8) for x in e],
        lambda e: [Entry(x.name, x.dtype, (0, 1 << 61)) for x in e],
        lambda e: [Entry(x.name, "F16" if x.dtype == "F32" else x.dtype, x.shape) for x in e],
        lambda e: [Entry(x.name, "I32" if x.dtype == "I64" else x.dtype, x.shape) for x in e],
    ],
)
def test_forged_tensors(change):
    target = Target()
    target.refuses(forged(FILE, entries=change))
    target.unchanged()


@pytest.mark.parametrize(
    "header",
    [
        b"{}",
        b"[]",
        b"7",
        b"null",
        b"{",
        b"\xff\xfe",
        b"[" * 50_000,
        b'{"a":' * 50_000,
        b'{"a":1}',
        b'{"a":{}}',
        b'{"a":{"dtype":["F32"],"shape":[1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,-4]}}',
        b'{"a":{"dtype":"F32","shape":{},"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}',
        b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}',
        b'{"__metadata__":[]}',
        b'{"__metadata__":{"format":1}}',
        b'{"__metadata__":{"format":"motet-state"}}',
    ],
)
def test_headers_of_others(header):
    target = Target()
    for length in (len(header), len(header) + 1, len(header) - 1, 1 << 24, 1 << 63):
        target.refuses(length.to_bytes(8, "little") + header + bytes(100))
    target.unchanged()


numbers = st.one_of(
    st.integers(-3, 20), st.sampled_from([63, 64, 2047, 2048, 2**31 - 1, 2**32, 2**62, HUGE])
)
tables = st.sampled_from(sorted({name for forgery in FORGERIES.values() for name in forgery}))


@settings(max_examples=150)
@given(edits=st.lists(st.tuples(tables, st.integers(0, 40), numbers), min_size=1, max_size=5))
def test_any_numbers_in_the_tables(edits):
    target, data = Target(), FILE
    for name, index, number in edits:

        def change(values: np.ndarray, index=index, number=number) -> np.ndarray:
            most = np.iinfo(values.dtype).max
            return replaced(index % len(values), min(number, most))(values)

        data = forged(data, {name: change})
    try:
        target.talk.context.restore(io.BytesIO(data), lambda ids: {ids[0]: 3})
    except MotetError:
        target.unchanged()
    else:
        target.talk.plain.held[3] = {}
        assert target.talk.memory.length(3) <= 20
        target.talk.memory.remove(3)
        target.unchanged()


def test_memory_stays_near_the_size_of_the_file():
    target = Target()
    files = [forged(FILE, forgery) for forgery in FORGERIES.values()]
    files += [size.to_bytes(8, "little") + b'{"a":1}' for size in (1 << 24, 1 << 40, 1 << 63)]
    target.refuses(files[0])
    tracemalloc.start()
    try:
        for file in files:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            target.refuses(file, MotetError)
            assert tracemalloc.get_traced_memory()[1] - before < 3_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared test data")
def test_real_models_are_no_states():
    for path in sorted(SHARED.glob("**/*.gguf"))[:3] + sorted(SHARED.glob("**/*.safetensors"))[:3]:
        assert "not a state file" in Target().refuses(path)
