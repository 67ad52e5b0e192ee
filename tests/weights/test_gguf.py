from pathlib import Path

import gguf
import numpy as np
import pytest

from motet.errors import ModelFileError
from motet.weights.formats import TensorType, dequantize
from motet.weights.gguf import GGUFFile
from tests.shared import SHARED, needs_shared
from tests.weights.gguf_bytes import ARRAY, STRING, Tensor, small_file, write


def saved(tmp_path: Path, data: bytes | bytearray, name: str = "model.gguf") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_everything_in_a_small_file(tmp_path: Path, version: int) -> None:
    path = saved(tmp_path, small_file(version).data)
    with GGUFFile.open(path) as file:
        assert (file.path, file.version, file.files) == (str(path), version, 1)
        assert (file.architecture, file.alignment) == ("llama", 32)
        assert file.nbytes == path.stat().st_size
        metadata = dict(file.metadata)
        words = metadata.pop("words")
        assert isinstance(words, list)
        assert words[:3] == ["", "a", "né 😀"]
        assert words[3].encode("utf-8", "surrogateescape") == b"\xff\xfe"
        assert metadata == {
            "general.architecture": "llama",
            "general.alignment": 32,
            "u8": 200,
            "i8": -5,
            "u16": 60000,
            "i16": -30000,
            "i32": -2_000_000_000,
            "f32": 0.5,
            "yes": True,
            "u64": 2**64 - 1,
            "i64": -(2**63),
            "f64": 0.1,
            "numbers": [1, -2, 3],
            "flags": [True, False],
            "empty": [],
            "nested": [[1, 2], [], ["x"]],
        }
        assert {type(value) for value in metadata.values()} == {str, int, float, bool, list}
        shapes = {name: (info.shape, info.type.name) for name, info in file.tensors.items()}
        assert shapes == {
            "token_embd.weight": ((3, 64), "Q4_0"),
            "output_norm.weight": ((5,), "F32"),
            "blk.0.deep.weight": ((2, 3, 2), "F16"),
            "scalar": ((), "F32"),
        }
        assert file.raw("token_embd.weight").tobytes() == bytes(range(108))
        assert file.raw("token_embd.weight").shape == (3, 36)
        assert file.raw("output_norm.weight").shape == (1, 20)
        assert file.raw("blk.0.deep.weight").shape == (6, 4)
        assert dequantize(file.raw("scalar"), TensorType.F32) == [[1.0]]


def test_reads_what_the_gguf_package_writes(tmp_path: Path) -> None:
    path = tmp_path / "written.gguf"
    writer = gguf.GGUFWriter(path, "gemma2")
    writer.add_context_length(8192)
    writer.add_token_list(["<s>", "▁the", "\n"])
    writer.add_token_scores([0.0, -1.5, -2.25])
    writer.add_custom_alignment(64)
    rng = np.random.default_rng(0)
    values = rng.standard_normal((5, 64), np.float32)
    writer.add_tensor("plain", values)
    packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("packed", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with GGUFFile.open(path) as file:
        assert file.architecture == "gemma2"
        assert file.alignment == 64
        assert file.metadata["gemma2.context_length"] == 8192
        assert file.metadata["tokenizer.ggml.tokens"] == ["<s>", "▁the", "\n"]
        assert file.metadata["tokenizer.ggml.scores"] == [0.0, -1.5, -2.25]
        assert file.tensors["packed"].shape == (5, 64)
        assert np.array_equal(dequantize(file.raw("plain"), TensorType.F32), values)
        assert np.array_equal(file.raw("packed"), packed)


def test_a_large_vocabulary(tmp_path: Path) -> None:
    tokens = [f"▁{n:x}" for n in range(262_144)]
    scores = list(map(float, range(262_144)))
    pairs = [("tokens", ARRAY, (STRING, tokens)), ("scores", ARRAY, (6, scores))]
    with GGUFFile.open(saved(tmp_path, write(pairs, []).data)) as file:
        assert file.metadata == {"tokens": tokens, "scores": scores}


def test_some_rows(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (64, 4096), np.uint8)
    tensor = Tensor("w", (4096, 64), int(TensorType.I8), 0, rows.tobytes())
    with GGUFFile.open(saved(tmp_path, write([], [tensor]).data)) as file:
        assert np.array_equal(file.raw("w"), rows)
        assert np.array_equal(file.read_rows("w", 3, 17), rows[3:17])
        assert file.read_rows("w", 5, 5).shape == (0, 4096)
        buffer = np.zeros(3 * 4096, np.uint8)
        assert np.array_equal(file.read_rows("w", 62, 64, buffer), rows[62:])
        assert np.array_equal(buffer, [*rows[62], *rows[63], *bytes(4096)])


def test_what_was_read_outlives_close(tmp_path: Path) -> None:
    file = GGUFFile.open(saved(tmp_path, small_file().data))
    rows = file.raw("token_embd.weight")
    file.close()
    file.close()
    assert rows.tobytes() == bytes(range(108))
    assert file.metadata["u8"] == 200 and "scalar" in file.tensors
    with pytest.raises(ModelFileError, match="the file has been closed"):
        file.raw("scalar")


def test_a_tensor_that_is_not_there(tmp_path: Path) -> None:
    file = GGUFFile.open(saved(tmp_path, small_file().data))
    with pytest.raises(ModelFileError, match=r"there is no tensor 'output\.weight'"):
        file.raw("output.weight")


@pytest.mark.parametrize(
    ("pairs", "problem"),
    [([], "is missing"), ([("general.architecture", 4, 7)], "is 7, must be a name")],
)
def test_architecture_has_to_be_a_name(tmp_path: Path, pairs: list, problem: str) -> None:
    file = GGUFFile.open(saved(tmp_path, write(pairs, []).data))
    with pytest.raises(ModelFileError, match=f"'general.architecture' {problem}"):
        _ = file.architecture


@needs_shared
@pytest.mark.parametrize(
    "path", sorted(SHARED.rglob("*.gguf")), ids=lambda p: str(p.relative_to(SHARED))
)
def test_real_files_read_as_the_gguf_package_reads_them(path: Path) -> None:
    if path.name.startswith("ggml-vocab"):
        pytest.skip("the gguf package takes long over a whole vocabulary")
    reader = gguf.GGUFReader(path)
    with GGUFFile.open(path) as file:
        assert list(file.tensors) == [tensor.name for tensor in reader.tensors]
        assert list(file.metadata) == [k for k in reader.fields if not k.startswith("GGUF.")]
        for key, value in file.metadata.items():
            assert value == (reader.fields[key].contents() or type(value)())
        for tensor in reader.tensors:
            info = file.stored[tensor.name]
            assert info.shape == tuple(tensor.shape.tolist()[::-1])
            assert (info.type, info.offset) == (tensor.tensor_type, tensor.data_offset)
            assert np.array_equal(file.raw(info.name).reshape(-1), tensor.data.view(np.uint8).flat)
        for tensor in reader.tensors[::7]:
            values = dequantize(file.raw(tensor.name), file.tensors[tensor.name].type)
            expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            assert np.array_equal(values, expected.reshape(values.shape))


@needs_shared
@pytest.mark.parametrize("path", sorted(SHARED.rglob("ggml-vocab-*.gguf")), ids=lambda p: p.name)
def test_real_vocabularies(path: Path) -> None:
    with GGUFFile.open(path) as file:
        tokens = file.metadata["tokenizer.ggml.tokens"]
        kinds = file.metadata["tokenizer.ggml.token_type"]
    assert isinstance(tokens, list)
    assert isinstance(kinds, list)
    assert len(tokens) == len(kinds) > 30_000
    assert len(set(tokens)) > 0.99 * len(tokens)
