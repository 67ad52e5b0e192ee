"""Writing GGUF: what is written is what was read, and nothing is left of what fails."""

import errno
import os
from types import SimpleNamespace

import gguf
import numpy as np
import pytest

from motet.errors import CapacityError, ModelFileError, MotetError, OptionError
from motet.weights import gguf_writer
from motet.weights.gguf import GGUFFile
from motet.weights.gguf_writer import write
from tests.weights.sources import ArraySource

Type = gguf.GGUFValueType
KINDS = {
    "a.u8": (200, Type.UINT8),
    "a.i8": (-3, Type.INT8),
    "a.u16": (60000, Type.UINT16),
    "a.i16": (-30000, Type.INT16),
    "a.u32": (4_000_000_000, Type.UINT32),
    "a.i32": (-5, Type.INT32),
    "a.f32": (0.1, Type.FLOAT32),
    "a.u64": (1 << 63, Type.UINT64),
    "a.i64": (-(1 << 40), Type.INT64),
    "a.f64": (0.1, Type.FLOAT64),
    "a.yes": (True, Type.BOOL),
    "a.text": ("naïve\n", Type.STRING),
    "a.empty": ("", Type.STRING),
}
LISTS = {
    "a.bytes": ([1, 255], Type.UINT8),
    "a.longs": ([1, 1 << 40], Type.UINT64),
    "a.reals": ([0.5, 0.1], Type.FLOAT32),
    "a.doubles": ([0.5, 0.1], Type.FLOAT64),
    "a.flags": ([True, False], Type.BOOL),
    "a.texts": ([b"a", b"\xff\xfe", b""], Type.STRING),
    "a.lists": ([[1, 2], [3]], Type.ARRAY),
}


@pytest.fixture
def model(tmp_path):
    """A file with a value of every type, and tensors of several."""
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    for key, (value, type) in KINDS.items():
        writer.add_key_value(key, value, type)
    for key, (value, type) in LISTS.items():
        writer.add_key_value(key, value, Type.ARRAY, type)
    rng = np.random.default_rng(0)
    for index, type in enumerate((np.float32, np.float16, np.float64, np.int32)):
        values = 100 * rng.standard_normal((7, index + 3))
        writer.add_tensor(f"blk.{index}.weight", values.astype(type))
    values = rng.standard_normal((3, 2, 64)).astype(np.float32)
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor("experts.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "model.gguf"


@pytest.fixture
def source():
    arrays = {f"blk.{i}.weight": np.arange(8, dtype=np.float32).reshape(2, 4) + i for i in range(4)}
    return ArraySource({"general.architecture": "llama"}, arrays)


def same(one, other):
    assert {name: (info.shape, info.type) for name, info in one.tensors.items()} == {
        name: (info.shape, info.type) for name, info in other.tensors.items()
    }
    for name in one.tensors:
        assert np.array_equal(one.raw(name), other.raw(name)), name


def test_a_file_is_written_as_it_is_byte_for_byte(model, tmp_path):
    with GGUFFile.open(model) as file:
        assert write(file, tmp_path / "copy.gguf") == [tmp_path / "copy.gguf"]
    assert (tmp_path / "copy.gguf").read_bytes() == model.read_bytes()


def test_gguf_reads_the_same(model, tmp_path):
    with GGUFFile.open(model) as file:
        write(file, tmp_path / "copy.gguf")
    reader = gguf.GGUFReader(tmp_path / "copy.gguf")
    for key, (value, type) in KINDS.items():
        field = reader.fields[key]
        assert field.types == [type]
        assert field.contents() == (pytest.approx(value) if key == "a.f32" else value)
    with GGUFFile.open(model) as file:
        for tensor in reader.tensors:
            assert tensor.data.tobytes() == file.raw(tensor.name).tobytes()


@pytest.mark.parametrize("size", [1, 200, 460, 10_000])
def test_split_and_joined_again(model, tmp_path, size):
    with GGUFFile.open(model) as file:
        parts = write(file, tmp_path / "part.gguf", split_size=size)
        assert len(parts) == {1: 5, 200: 4, 460: 3, 10_000: 1}[size]
        for index, part in enumerate(parts):
            name = "part" if len(parts) == 1 else f"part-0000{index + 1}-of-0000{len(parts)}"
            assert part.name == f"{name}.gguf"
        with GGUFFile.open(parts[0]) as split:
            same(file, split)
            assert split.files == len(parts)
            if len(parts) > 1:
                assert split.metadata["split.count"] == len(parts)
                assert split.metadata["split.tensors.count"] == 5
            write(split, tmp_path / "joined.gguf")
    assert (tmp_path / "joined.gguf").read_bytes() == model.read_bytes()


def test_alignment_is_the_files_own(tmp_path):
    arrays = {"a.weight": np.ones((1, 3), np.float32), "b.weight": np.ones((1, 3), np.float32)}
    keys = {"general.architecture": "llama", "general.alignment": 128}
    write(ArraySource(keys, arrays), tmp_path / "a.gguf")
    with GGUFFile.open(tmp_path / "a.gguf") as file:
        assert file.alignment == 128
        assert [info.offset % 128 for info in file.stored.values()] == [0, 0]
        assert np.array_equal(file.raw("b.weight").view(np.float32), arrays["b.weight"])


def test_types_where_the_source_has_none(tmp_path):
    keys = {
        "general.architecture": "llama",
        "llama.block_count": 3,
        "llama.eps": 1e-5,
        "llama.flag": True,
        "llama.large": 1 << 40,
        "llama.negative": -1,
        "llama.heads": [1, 2],
        "llama.scales": [0.5, 1.5],
        "llama.nothing": [],
        "llama.text": "a",
        "tokenizer.ggml.tokens": ["a", "\udcff"],
        "tokenizer.ggml.precompiled_charsmap": [1, 2],
        "general.sampling.top_k": 40,
        "split.count": 7,
    }
    write(ArraySource(keys, {"a.weight": np.ones((1, 4), np.float32)}), tmp_path / "a.gguf")
    with GGUFFile.open(tmp_path / "a.gguf") as file:
        del keys["llama.nothing"], keys["split.count"]
        keys["llama.eps"] = float(np.float32(1e-5))
        assert file.metadata == keys
        kinds = {key: [Type(kind).name for kind in t] for key, t in file.metadata_types.items()}
    assert kinds == {
        "general.architecture": ["STRING"],
        "llama.block_count": ["UINT32"],
        "llama.eps": ["FLOAT32"],
        "llama.flag": ["BOOL"],
        "llama.large": ["UINT64"],
        "llama.negative": ["INT32"],
        "llama.heads": ["ARRAY", "INT32"],
        "llama.scales": ["ARRAY", "FLOAT32"],
        "llama.text": ["STRING"],
        "tokenizer.ggml.tokens": ["ARRAY", "STRING"],
        "tokenizer.ggml.precompiled_charsmap": ["ARRAY", "UINT8"],
        "general.sampling.top_k": ["INT32"],
    }


def test_progress_ends_with_all_bytes(model, tmp_path):
    seen = []
    with GGUFFile.open(model) as file:
        total = sum(info.nbytes for info in file.tensors.values())
        write(file, tmp_path / "copy.gguf", progress=lambda *done: seen.append(done))
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)


def test_what_is_there_is_not_replaced_unless_asked(source, tmp_path):
    path = tmp_path / "a.gguf"
    write(source, path)
    before = path.read_bytes()
    with pytest.raises(OptionError, match=r"a.gguf: is there already.*overwrite=True"):
        write(source, path)
    source.metadata = {**source.metadata, "general.name": "other"}
    assert path.read_bytes() == before
    write(source, path, overwrite=True)
    assert path.read_bytes() != before


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_the_source_is_never_replaced(model, tmp_path, link):
    before, path = model.read_bytes(), model
    if link is not None:
        path = tmp_path / "link.gguf"
        link(model, path)
    with (
        GGUFFile.open(model) as file,
        pytest.raises(OptionError, match="is the model that is read"),
    ):
        write(file, path, overwrite=True)
    assert model.read_bytes() == before


def test_no_part_of_the_source_is_replaced(model, tmp_path):
    with GGUFFile.open(model) as file:
        parts = write(file, tmp_path / "part.gguf", split_size=200)
    with GGUFFile.open(parts[0]) as file, pytest.raises(OptionError, match="is the model"):
        write(file, parts[2], overwrite=True)


def test_another_kind_of_file_is_not_replaced(source, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("GG")
    with pytest.raises(OptionError, match=r"notes.txt: is not a GGUF file"):
        write(source, path, overwrite=True)
    assert path.read_text() == "GG"


def test_where_no_file_can_be(source, tmp_path):
    with pytest.raises(OptionError, match="is a directory"):
        write(source, tmp_path)
    with pytest.raises(OptionError, match=r"there is no directory .*nowhere"):
        write(source, tmp_path / "nowhere" / "a.gguf")


def test_too_many_parts(tmp_path):
    arrays = {f"blk.{i}.weight": np.ones((1, 1), np.float32) for i in range(501)}
    many = ArraySource({"general.architecture": "llama"}, arrays)
    with pytest.raises(OptionError, match=r"split_size is 1, which makes 501 files"):
        write(many, tmp_path / "a.gguf", split_size=1)
    assert not list(tmp_path.iterdir())


class Broken(ArraySource):
    """Fails after a few reads."""

    def __init__(self, source: ArraySource, failure: BaseException) -> None:
        super().__init__(source.metadata, source._arrays)
        self.failure = failure

    def read_rows(self, name, first, last, buffer=None):
        if self.reads == 2:
            raise self.failure
        return super().read_rows(name, first, last, buffer)


@pytest.mark.parametrize("size", [None, 40])
@pytest.mark.parametrize("failure", [ModelFileError("cut short"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_and_what_was_there(source, tmp_path, size, failure):
    path = tmp_path / "a.gguf"
    names = [path.name] if size is None else [f"a-0000{i}-of-00004.gguf" for i in range(1, 5)]
    with pytest.raises(type(failure)):
        write(Broken(source, failure), path, split_size=size)
    assert not list(tmp_path.iterdir())
    write(source, path, split_size=size)
    before = {name: (tmp_path / name).read_bytes() for name in names}
    # Several files can't be replaced as one, so they are not begun.
    with pytest.raises(type(failure) if size is None else OptionError):
        write(Broken(source, failure), path, split_size=size, overwrite=True)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_a_source_that_changes_meanwhile(source, tmp_path):
    source.changed = ModelFileError("was changed while it was read")
    with pytest.raises(ModelFileError, match="was changed"):
        write(source, tmp_path / "a.gguf")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_known_to_be_too_small(source, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_writer.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(CapacityError, match="100 B are free"):
        write(source, tmp_path / "a.gguf")
    assert source.reads == 0 and not list(tmp_path.iterdir())


def test_a_disk_that_becomes_full(source, tmp_path, monkeypatch):
    write_all, left = gguf_writer.write_all, [3]

    def full(file, data):
        left[0] -= 1
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_all(file, data)

    monkeypatch.setattr(gguf_writer, "write_all", full)
    with pytest.raises(MotetError, match=r"a.gguf: cannot be written: No space left"):
        write(source, tmp_path / "a.gguf")
    assert not list(tmp_path.iterdir())


def test_a_source_cut_short(model, tmp_path):
    with GGUFFile.open(model) as file:
        os.truncate(model, model.stat().st_size - 64)
        with pytest.raises(ModelFileError, match="cut short"):
            write(file, tmp_path / "copy.gguf")
    assert [each.name for each in tmp_path.iterdir()] == ["model.gguf"]
