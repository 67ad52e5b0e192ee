"""Whatever a file holds, opening it works or raises a MotetError: soon, and in little memory."""

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motet.errors import MotetError
from motet.weights.formats import dequantize
from motet.weights.gguf import GGUFFile
from tests.weights.gguf_bytes import Bytes, small_file
from tests.weights.test_gguf import saved

FILE = small_file()
SIZE = len(FILE.data)
HOSTILE = [
    0,
    1,
    7,
    255,
    SIZE,
    SIZE + 1,
    *((1 << bits) + d for bits in (31, 32, 63) for d in (-1, 0)),
]
HOSTILE += [1 << 40, (1 << 64) - 32, (1 << 64) - 1]

fields = st.sampled_from(sorted(FILE.fields))
offsets = st.integers(0, SIZE - 1)
edits = st.one_of(
    st.tuples(st.just("truncate"), offsets, st.just(0)),
    st.tuples(st.just("byte"), offsets, st.integers(0, 255)),
    st.tuples(st.just("field"), fields, st.sampled_from(HOSTILE)),
    st.tuples(st.just("delete"), offsets, st.integers(1, 64)),
    st.tuples(st.just("repeat"), offsets, st.integers(1, 64)),
)


def edited(file: Bytes, changes: list[tuple]) -> bytes:
    data = bytearray(file.data)
    for kind, where, amount in changes:
        if kind == "truncate":
            del data[where:]
        elif kind == "byte":
            data[where : where + 1] = bytes([amount])
        elif kind == "field":
            at, code = file.fields[where]
            length = struct.calcsize(code)
            data[at : at + length] = (amount % (1 << 64)).to_bytes(8, "little")[:length]
        elif kind == "delete":
            del data[where : where + amount]
        else:
            data[where:where] = data[where : where + amount]
    return bytes(data)


def touched(path: Path) -> bool:
    """Open the file and read every tensor; False if it was refused."""
    try:
        with GGUFFile.open(path) as file:
            for name, info in file.tensors.items():
                raw = file.raw(name)
                assert raw.shape == (info.rows, info.row_bytes)
    except MotetError as error:
        assert str(path) in str(error)
        assert "(byte " in str(error)
        return False
    return True


@pytest.mark.filterwarnings("error")
def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = bytes(FILE.data)
    for length in range(SIZE):
        assert not touched(saved(tmp_path, data[:length])), f"the first {length} bytes"
    assert touched(saved(tmp_path, data))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "change",
    [lambda b: b ^ 1, lambda b: b ^ 0x80, lambda b: 0xFF, lambda b: 0],
    ids=["low bit", "high bit", "255", "0"],
)
def test_every_byte_of_the_header_changed(tmp_path: Path, change: Callable[[int], int]) -> None:
    data = bytes(FILE.data)
    for at in range(SIZE - 196):
        touched(saved(tmp_path, data[:at] + bytes([change(data[at])]) + data[at + 1 :]))


@pytest.mark.filterwarnings("error")
def test_every_number_set_to_every_hostile_value(tmp_path: Path) -> None:
    for name in FILE.fields:
        for value in HOSTILE:
            touched(saved(tmp_path, edited(FILE, [("field", name, value)])))


@pytest.mark.filterwarnings("error")
@settings(
    max_examples=1000,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(changes=st.lists(edits, min_size=1, max_size=6))
def test_any_changes_together(tmp_path: Path, changes: list[tuple]) -> None:
    touched(saved(tmp_path, edited(FILE, changes)))


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(noise=st.binary(max_size=400))
def test_noise_after_a_sound_beginning(tmp_path: Path, noise: bytes) -> None:
    touched(saved(tmp_path, bytes(FILE.data[:24]) + noise))


def test_memory_stays_near_the_size_of_the_file(tmp_path: Path) -> None:
    touched(saved(tmp_path, FILE.data))  # imports and caches are not what is measured
    tracemalloc.start()
    try:
        for name in FILE.fields:
            for value in HOSTILE:
                path = saved(tmp_path, edited(FILE, [("field", name, value)]))
                tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                touched(path)
                _, peak = tracemalloc.get_traced_memory()
                assert peak - before < 200_000, f"{name} = {value}"
    finally:
        tracemalloc.stop()


@pytest.mark.filterwarnings("error")
def test_damaged_weights_still_dequantise(tmp_path: Path) -> None:
    """Their values may be infinite or no numbers; that is for whoever computes with them."""
    for byte in (0x00, 0x7C, 0xFF):
        data = FILE.data[:-196] + bytes([byte]) * 196
        with GGUFFile.open(saved(tmp_path, data)) as file:
            for name, info in file.tensors.items():
                assert dequantize(file.raw(name), info.type).shape == (info.rows, info.columns)
