from pathlib import Path

import gguf
import numpy as np
import pytest

from motet.errors import ModelFileError
from motet.weights.gguf import GGUFFile
from tests.weights.gguf_bytes import STRING, Tensor, write

VALUES = {f"w{n}": np.full((2, 32), n, np.float32) for n in range(5)}


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """A model of five tensors in three files, split by the gguf package."""
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama", split_max_tensors=2)
    writer.add_context_length(64)
    for name, values in VALUES.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file(tmp_path / "model.gguf")
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return [tmp_path / f"model-0000{n}-of-00003.gguf" for n in (1, 2, 3)]


def part(number: int, count: int, total: int, tensors: list[str]) -> bytes:
    """One file of a split model; ``number`` counts from 0."""
    pairs = [
        ("general.architecture", STRING, "llama"),
        ("split.no", 2, number),
        ("split.count", 2, count),
        ("split.tensors.count", 5, total),
    ]
    stored = [Tensor(name, (8,), 0, 32 * n, bytes(32)) for n, name in enumerate(tensors)]
    return bytes(write(pairs, stored).data)


def refused(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        GGUFFile.open(path)
    return str(caught.value)


def test_the_first_part_opens_all(parts: list[Path]) -> None:
    with GGUFFile.open(parts[0]) as file:
        assert file.files == 3
        assert file.nbytes == sum(path.stat().st_size for path in parts)
        assert file.metadata["llama.context_length"] == 64
        assert list(file.tensors) == list(VALUES)
        assert {info.path for info in file.stored.values()} == set(map(str, parts))
        for name, values in VALUES.items():
            assert np.array_equal(file.raw(name).view(np.float32), values)


def test_another_part_says_which_to_open(parts: list[Path]) -> None:
    message = refused(parts[1])
    assert f"{parts[1]}: is not the first part of the model (open {parts[0]})" in message


def test_a_missing_part_is_named(parts: list[Path]) -> None:
    parts[2].unlink()
    message = refused(parts[0])
    assert f"{parts[2]}: part 3 of 3 of the model is missing" in message
    assert f"beside {parts[0].name}" in message


def test_a_damaged_part_is_named(parts: list[Path]) -> None:
    parts[1].write_bytes(parts[1].read_bytes()[:-300])
    message = refused(parts[0])
    assert message.startswith(f"{parts[1]}: tensor 'w2': its 256 bytes start at byte")


def test_a_renamed_part(parts: list[Path]) -> None:
    renamed = parts[0].rename(parts[0].with_name("model.gguf"))
    message = refused(renamed)
    assert "'split.count': the model is split into 3 files" in message
    assert "does not end in -00001-of-00003.gguf" in message


def test_parts_in_the_wrong_order(parts: list[Path]) -> None:
    parts[2].replace(parts[1])
    parts[0].with_name("model-00003-of-00003.gguf").write_bytes(parts[1].read_bytes())
    assert f"{parts[1]}: metadata key 'split.no' is 2, expected 1" in refused(parts[0])


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        (part(1, 3, 2, ["b"]), "'split.count' is 3, expected 2"),
        (part(1, 2, 2, ["a"]), "tensor 'a' is also in"),
        (part(1, 2, 2, ["b", "c"]), "'split.tensors.count' is 2, but the 2 parts hold 3"),
        (bytes(write([], []).data), "'split.no' is None, expected 1"),
        (b"", "is empty"),
    ],
)
def test_parts_that_do_not_fit(tmp_path: Path, second: bytes, problem: str) -> None:
    (tmp_path / "m-00001-of-00002.gguf").write_bytes(part(0, 2, 2, ["a"]))
    (tmp_path / "m-00002-of-00002.gguf").write_bytes(second)
    assert problem in refused(tmp_path / "m-00001-of-00002.gguf")


def test_a_hostile_part_count(tmp_path: Path) -> None:
    path = tmp_path / "m-00001-of-65535.gguf"
    path.write_bytes(part(0, 65535, 1, ["a"]))
    assert "m-00002-of-65535.gguf: part 2 of 65535 of the model is missing" in refused(path)


def test_a_part_count_that_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(write([("split.count", STRING, "two")], []).data)
    assert "metadata key 'split.count' is 'two', not an integer" in refused(path)
