"""Damaged, stale and hostile packed files: an error that says what is wrong, and quickly."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import motet
from motet.cli.demo import shipped_model
from motet.errors import ModelFileError, MotetError, UnsupportedError
from motet.model import Model
from motet.packed.header import BEGINNING, CHECKED
from tests.packed.files import signed, table_of, with_table, write


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("packed")
    return motet.pack(shipped_model(), folder / "m.packed").read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.packed"


def refused(path: Path, data: bytes, match: str, kind: type[MotetError] = ModelFileError) -> None:
    with pytest.raises(kind, match=match) as found:
        Model.load(write(path, data), 1)
    assert str(found.value).count(str(path)) == 1


def test_every_byte_counts(sound: bytes, path: Path) -> None:
    """But for those of the first 64 that say nothing, a changed byte is found."""
    random = np.random.default_rng(0)
    places = [*range(0, 56, 5), *random.integers(64, len(sound), 40)]
    for place in places:
        data = bytearray(sound)
        data[place] ^= 1 << int(random.integers(8))
        with pytest.raises(MotetError, match=r"m\.packed"):
            Model.load(write(path, bytes(data)), 1)


def test_cut_short_or_too_long(sound: bytes, path: Path) -> None:
    for size in (8, 63, 64, 100, len(sound) // 2, len(sound) - 1):
        refused(path, sound[:size], "is no packed file, or not whole|was written with")
    refused(path, sound + b"\0", "was written with")


def test_weights_that_are_not_what_was_written(sound: bytes, path: Path) -> None:
    at = BEGINNING.size + 1000
    data = sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :]
    refused(path, data, "the 64 MiB from byte 64 are not what was written")


def test_digests_of_many_parts(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    for module in ("header", "file", "writer"):
        monkeypatch.setattr(f"motet.packed.{module}.CHECKED", 1 << 14)
    data = motet.pack(shipped_model(), path).read_bytes()
    table, lists, _ = table_of(data)
    assert len(table["digests"]) == -(-lists // (1 << 14)) > 5
    Model.load(path, 3)
    for at in (64, 1 << 14, (5 << 14) - 1, lists - 1):
        broken = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        refused(path, broken, "are not what was written")
    assert CHECKED == 1 << 26


def test_stale(sound: bytes, path: Path) -> None:
    table, _, _ = table_of(sound)
    refused(
        path,
        with_table(sound, table | {"layout": "motet 0"}),
        "m.packed: is stale",
        UnsupportedError,
    )
    newer = sound[:8] + (2).to_bytes(8, "little") + sound[16:]
    refused(path, newer, "is stale: a packed file of version 2", UnsupportedError)


def test_packed_otherwise_than_used(sound: bytes, path: Path) -> None:
    table, _, _ = table_of(sound)
    for tensor in table["tensors"]:
        if tensor[4:5] == ["matrices"]:
            tensor[5] = [1] * sum(tensor[5])
    refused(path, with_table(sound, table), "is packed otherwise than it is used", UnsupportedError)


def _matrix(table: Any) -> list[Any]:
    return next(each for each in table["tensors"] if each[4:5] == ["matrices"])


def _change(at: int, value: Any) -> Any:
    def change(table: Any) -> None:
        _matrix(table)[at] = value

    return change


WRONG = {
    "no multiple of 64": _change(7, 65),
    "overlaps what comes before": _change(7, 0),
    "beyond its part": _change(8, 1 << 50),
    "other matrices than its shape": _change(5, [1 << 39]),
    "an impossible shape": _change(2, [0, 3]),
    "unknown type 999": _change(1, 999),
    "unknown kind 'sparse'": _change(4, "sparse"),
    "goes on after its end": lambda table: _matrix(table).append(1),
    "is not whole": lambda table: _matrix(table).pop(),
    "has True": _change(1, True),
    "appears twice": lambda table: table["tensors"].append(table["tensors"][0]),
    "appears twice ": lambda table: table["metadata"].append(table["metadata"][0]),
    "has no layout": lambda table: table.pop("layout"),
    "has no tensors": lambda table: table.update(tensors={}),
    "has no metadata": lambda table: table.update(metadata=[1]),
    "digests for": lambda table: table["digests"].append(""),
    "has {}": lambda table: table["metadata"].append(["x", {}]),
}


@pytest.mark.parametrize("problem", WRONG)
def test_tables_that_make_no_sense(problem: str, sound: bytes, path: Path) -> None:
    table, _, _ = table_of(sound)
    WRONG[problem](table)
    refused(path, with_table(sound, table), problem.strip())


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b"nonsense", b"[" * 100_000, b"\xff", b'{"layout": "x"}']
)
def test_tables_that_are_none(text: bytes, sound: bytes, path: Path) -> None:
    _, lists, start = table_of(sound)
    refused(path, signed(sound[lists:start], sound[:lists], text), "its table: ")


def test_overlapping_tensors(sound: bytes, path: Path) -> None:
    table, _, _ = table_of(sound)
    matrices = [each for each in table["tensors"] if each[4:5] == ["matrices"]]
    matrices[1][7] = matrices[0][7]
    refused(path, with_table(sound, table), "overlaps tensor")


@pytest.mark.parametrize("kind", ["text", "int", "json", "odd"])
def test_lists_that_are_not_what_is_said(kind: str, sound: bytes, path: Path) -> None:
    table, _, _ = table_of(sound)
    entry = next(each for each in table["metadata"] if each[0] == "tokenizer.ggml.tokens")
    entry[2] = kind
    entry[3] += kind == "text"
    refused(path, with_table(sound, table), "tokenizer.ggml.tokens' can't be read")


def test_random_tables(sound: bytes, path: Path) -> None:
    """Numbers, texts and lists changed anywhere: refused, or the model is as it was."""
    random = np.random.default_rng(2)
    odd: list[Any] = [0, -1, 1, 1 << 62, 1 << 70, 0.5, "", "x", None, True, [], [[]], {}, [1] * 40]

    def change(value: Any) -> Any:
        if isinstance(value, list | dict) and value and random.random() < 0.95:
            keys = list(value) if isinstance(value, dict) else list(range(len(value)))
            key = keys[random.integers(len(keys))]
            value[key] = change(value[key])
            return value
        return odd[random.integers(len(odd))]

    text = json.dumps(table_of(sound)[0])
    answered = 0
    for _ in range(100):
        data = with_table(sound, change(json.loads(text)))
        try:
            model = Model.load(write(path, data), 1)
        except MotetError as error:
            assert str(path) in str(error) and len(str(error)) < 1000
        else:
            answered += 1
            batch = motet.Batch()
            batch.extend([1, 2, 3], 0, logits="last")
            model.context().decode(batch)
    assert answered < 70


def test_a_directory_and_a_pipe_are_no_packed_files(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    for name in ("", "pipe"):
        with pytest.raises(ModelFileError):
            Model.load(tmp_path / name)
