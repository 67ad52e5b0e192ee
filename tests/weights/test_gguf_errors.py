"""Broken and foreign files: each an error that names the file, the field and the byte."""

import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from motet.errors import ModelFileError, MotetError, UnsupportedError
from motet.weights.gguf import GGUFFile
from motet.weights.gguf_metadata import MAX_ELEMENTS, MAX_KEYS, MAX_NESTED
from motet.weights.gguf_tensors import MAX_TENSORS
from tests.weights.gguf_bytes import ARRAY, STRING, Pairs, Tensor, small_file, write
from tests.weights.test_gguf import saved

HUGE = (1 << 64) - 1


def refused(path: Path, error: type[MotetError] = ModelFileError) -> str:
    with pytest.raises(error) as caught:
        GGUFFile.open(path)
    message = str(caught.value)
    assert type(caught.value) is error
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("tensor count", HUGE, f"tensor count: {HUGE} tensors are more than the file can hold"),
        ("tensor count", 5, "tensor 4: the name is empty"),
        ("key count", HUGE, f"metadata key count: {HUGE} keys are more than the file can hold"),
        ("key count", 40, "metadata key 18: the key takes"),
        ("key 0.length", HUGE, f"metadata key 0: the key takes {HUGE} bytes, but only"),
        ("key 0.length", 0, "metadata key 0: the key is empty"),
        ("key 1", 0xFF, "metadata key 1: the key b'\\xffeneral.alignment' is not UTF-8"),
        ("key 0.length", 1 << 16, "metadata key 0: the key takes 65536 bytes, but only"),
        ("type 0", 13, "metadata key 'general.architecture': unknown value type 13"),
        ("type 1", 5, "metadata key 'general.alignment': has value type 5, must be 4 (uint32)"),
        ("value 0.length", HUGE, "metadata key 'general.architecture': string 0 takes"),
        ("value 1", 0, "metadata key 'general.alignment': 0 is not a power of two from 8 to 65536"),
        ("value 1", 48, "metadata key 'general.alignment': 48 is not a power of two"),
        ("value 1", 4, "metadata key 'general.alignment': 4 is not a power of two from 8 to 65536"),
        ("value 8", 2, "metadata key 'yes': a bool of 2, must be 0 or 1"),
        ("value 12.count", HUGE, "metadata key 'words': an array of"),
        ("value 12.count", 1000, "metadata key 'words': 1000 elements of at least 8 bytes"),
        ("value 12[1].length", HUGE, f"metadata key 'words': string 1 takes {HUGE} bytes"),
        ("value 13.element type", 99, "metadata key 'numbers': unknown value type 99"),
        ("value 13.count", 1000, "metadata key 'numbers': the value takes 4000 bytes"),
        ("value 16.count", 1000, "metadata key 'nested': 1000 elements of at least 12 bytes"),
        ("tensor 0.length", HUGE, "tensor 0: the name takes"),
        ("tensor 0", 0xFF, "tensor 0: the name b'\\xffoken_embd.weight' is not UTF-8"),
        ("tensor 0 dimensions", 5, "'token_embd.weight': 5 dimensions, at most 4 are allowed"),
        ("tensor 0 dimension 0", 0, "'token_embd.weight': impossible shape [3, 0]"),
        ("tensor 0 dimension 0", HUGE, "'token_embd.weight': impossible shape"),
        ("tensor 0 dimension 0", 48, "rows of 48 values are not whole Q4_0 blocks of 32"),
        ("tensor 0 dimension 1", 1 << 40, "bytes start at byte 768, but the file has 964"),
        ("tensor 0 dimension 1", 4, "tensor 'output_norm.weight': overlaps tensor 'token_embd"),
        ("tensor 0 type", 99, "tensor 'token_embd.weight': unknown tensor type 99"),
        ("tensor 1 offset", 8, "'output_norm.weight': offset 8 is not a multiple of the alignme"),
        ("tensor 1 offset", 0, "tensor 'output_norm.weight': overlaps tensor 'token_embd.weight'"),
        ("tensor 1 offset", HUGE - 31, "tensor 'output_norm.weight': its 20 bytes start at byte"),
    ],
)
def test_a_broken_field_is_named(tmp_path: Path, field: str, value: int, problem: str) -> None:
    file = small_file()
    message = refused(saved(tmp_path, file.replaced(field, value)))
    assert problem in message
    where = int(message.split("(byte ")[1].split(")")[0])
    assert 0 <= where < len(file.data)


def test_the_byte_is_that_of_the_field(tmp_path: Path) -> None:
    file = small_file()
    for field in ("type 0", "value 13.element type", "tensor 0 type", "tensor 1 dimensions"):
        message = refused(saved(tmp_path, file.replaced(field, 99)))
        assert f"(byte {file.fields[field][0]})" in message


@pytest.mark.parametrize(
    ("number", "name"), [(4, "Q4_2, removed"), (31, "Q4_0_4_4, removed"), (41, "Q1_0")]
)
def test_a_type_that_is_not_read(tmp_path: Path, number: int, name: str) -> None:
    path = saved(tmp_path, small_file().replaced("tensor 0 type", number))
    message = refused(path, UnsupportedError)
    assert f"tensor 'token_embd.weight': type {number} ({name}" in message


@pytest.mark.parametrize(
    ("version", "error", "problem"),
    [
        (1, UnsupportedError, "GGUF version 1 is not supported"),
        (4, UnsupportedError, "GGUF version 4 is newer than this Motet reads"),
        (0x03000000, UnsupportedError, "big-endian GGUF version 3 is not supported"),
        (0, ModelFileError, "version: 0 is not a GGUF version"),
        (0x12345678, ModelFileError, "version: 305419896 is not a GGUF version"),
    ],
)
def test_versions(tmp_path: Path, version: int, error: type[MotetError], problem: str) -> None:
    path = saved(tmp_path, small_file().replaced("version", version))
    message = refused(path, error)
    assert problem in message
    assert "(byte 4)" in message


def test_repeated_names(tmp_path: Path) -> None:
    twice = write([("key", 4, 1), ("key", 4, 1)], [])
    message = refused(saved(tmp_path, twice.data))
    assert "metadata key 'key': appears twice" in message
    tensors = [Tensor("w", (8,), 0, 0, bytes(32)), Tensor("w", (8,), 0, 32, bytes(32))]
    assert "tensor 'w': appears twice" in refused(saved(tmp_path, write([], tensors).data))


def test_arrays_nested_too_deep(tmp_path: Path) -> None:
    value: tuple = (0, [1])
    for _ in range(3):
        value = (ARRAY, [value])
    path = saved(tmp_path, write([("deep", ARRAY, value)], []).data)
    assert GGUFFile.open(path).metadata == {"deep": [[[[1]]]]}
    path = saved(tmp_path, write([("deep", ARRAY, (ARRAY, [value]))], []).data)
    assert "metadata key 'deep': arrays nest deeper than 4" in refused(path)


def test_too_many_arrays_in_arrays(tmp_path: Path) -> None:
    """Empty ones take next to nothing in the file, and much in memory."""
    arrays = [(0, [])] * (MAX_NESTED // 2)
    pairs: Pairs = [(name, ARRAY, (ARRAY, arrays)) for name in ("a", "b")]
    metadata = GGUFFile.open(saved(tmp_path, write(pairs, []).data)).metadata
    assert metadata["b"] == [[]] * len(arrays)
    pairs.append(("c", ARRAY, (ARRAY, arrays[:1])))
    message = refused(saved(tmp_path, write(pairs, []).data))
    assert f"'c': 1 arrays in an array are past the limit of {MAX_NESTED} in all" in message


@pytest.mark.parametrize(
    ("field", "most"), [("key count", MAX_KEYS), ("tensor count", MAX_TENSORS)]
)
def test_too_many(tmp_path: Path, field: str, most: int) -> None:
    path = saved(tmp_path, small_file().replaced(field, most + 1))
    with path.open("r+b") as out:
        out.truncate(1 << 34)
    assert f"{most + 1} {field.split()[0]}s are past the limit of {most} (byte" in refused(path)


def test_names_without_end(tmp_path: Path) -> None:
    most = (1 << 16) - 1
    path = saved(tmp_path, write([("k" * most, 4, 1)], []).data)
    assert list(GGUFFile.open(path).metadata) == ["k" * most]
    for name in ("k" * (most + 1), "k" * most):
        message = refused(saved(tmp_path, write([(name, 4, 1), (name, 4, 2)], []).data))
        assert len(message) < 400
        assert f"takes {most + 1} bytes, at most {most}" in message or "'kkk" in message


def test_a_count_that_would_read_the_weights_as_metadata(tmp_path: Path) -> None:
    file = write([("numbers", ARRAY, (0, [1]))], [])
    path = saved(tmp_path, file.replaced("value 0.count", MAX_ELEMENTS + 1))
    with path.open("r+b") as out:
        out.truncate(1 << 34)  # sparse: a file as large as a model
    message = refused(path)
    assert f"an array of {MAX_ELEMENTS + 1} elements is past the limit of {MAX_ELEMENTS}" in message
    assert f"(byte {file.fields['value 0.count'][0]})" in message


def test_a_string_that_would_read_the_weights_as_metadata(tmp_path: Path) -> None:
    path = saved(tmp_path, write([("name", STRING, "x")], []).replaced("value 0.length", 1 << 30))
    with path.open("r+b") as out:
        out.truncate(1 << 34)
    assert f"string 0 takes {1 << 30} bytes, but only" in refused(path)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"x")


def test_missing_file(tmp_path: Path) -> None:
    assert "there is no such file (check the path)" in refused(tmp_path / "model.gguf")


def test_directories(tmp_path: Path) -> None:
    assert "is a directory without a config.json, and no GGUF file" in refused(tmp_path)
    saved(tmp_path, b"x", "a.gguf")
    assert f"is a directory (give a file in it, such as {tmp_path / 'a.gguf'}" in refused(tmp_path)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    safetensors = struct.pack("<Q", 2) + b"{}" + bytes(100)
    np.save(tmp_path / "array.npy", np.zeros(3))
    _zip(tmp_path / "pytorch_model.bin")
    kinds = {
        "array.npy": "looks like a NumPy array",
        "pytorch_model.bin": "looks like a PyTorch checkpoint or another zip archive",
    }
    for name, data, problem in (
        ("empty", b"", "is empty"),
        ("model.safetensors", safetensors, "looks like a safetensors file"),
        ("old.bin", b"\x80\x04\x95" + bytes(60), "looks like a pickle"),
        ("ggml.bin", b"tjgg" + bytes(60), "looks like a GGML file from before GGUF"),
        ("lfs", b"version https://git-lfs.github.com/spec/v1\n", "looks like a Git LFS pointer"),
        ("page", b"\n<!DOCTYPE html><html>", "looks like a web page"),
        ("config.json", b'{"a": 1}', "looks like JSON"),
        ("zeros", bytes(4096), "begins with zeros, as an unfinished download does"),
        ("text", b"hello", "it begins with b'hell', not b'GGUF'"),
        ("short", b"GG", "it begins with b'GG', not b'GGUF'"),
    ):
        saved(tmp_path, data, name)
        kinds[name] = problem
    for name, problem in kinds.items():
        message = refused(tmp_path / name)
        assert problem in message
        assert "(byte 0)" in message


def test_special_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refused(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot be opened: Too many levels of symbolic links" in refused(tmp_path / "loop")
    with pytest.raises(ModelFileError, match="cannot be opened: embedded null byte"):
        GGUFFile.open("a\0b")
