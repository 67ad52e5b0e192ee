"""Importance matrices: read and written as llama.cpp's, collected from a model's own inputs."""

import struct
from pathlib import Path

import numpy as np
import pytest

from motet.cli.demo import shipped_model
from motet.conversion.importance import Entry, ImportanceMatrix
from motet.errors import ModelFileError, OptionError
from motet.evals.importance import _Observer, _Watched, importance_matrix
from motet.kernels import CPU
from motet.models.tensors import TensorLoader
from motet.opening import open_model
from motet.weights.formats import dequantize
from motet.weights.gguf import GGUFFile
from tests.weights.sources import ArraySource

DATA = Path(__file__).parent / "data"
"""What llama-imatrix made, of 4 chunks of 64 tokens of STORY, with motet-tiny-mamba."""
STORY = "Once upon a time there was a little dog. He went to the park and saw a red ball. " * 40
TINY = shipped_model()
MAMBA = TINY.with_name("motet-tiny-mamba.gguf")
T5 = TINY.with_name("motet-tiny-t5.gguf")
BERT = TINY.with_name("motet-tiny-embedding.gguf")


def matrix(**entries: Entry) -> ImportanceMatrix:
    named = {f"{name}.weight": entry for name, entry in entries.items()}
    return ImportanceMatrix(named, ("a.txt", "b.txt"), 3, 64)


def entry(values, *counts: int) -> Entry:
    return Entry(np.array(values, np.float32), np.array(counts, np.int64))


def test_written_and_read_again(tmp_path):
    made = matrix(one=entry([[1, 2, 3]], 4), two=entry([[1, 0], [0, 5]], 3, 0))
    made.write(tmp_path / "a.gguf")
    found = ImportanceMatrix.read(tmp_path / "a.gguf")
    assert (found.datasets, found.chunks, found.chunk_size) == (("a.txt", "b.txt"), 3, 64)
    assert list(found.entries) == ["one.weight", "two.weight"]
    for name, each in made.entries.items():
        assert np.array_equal(found.entries[name].sums, each.sums)
        assert np.array_equal(found.entries[name].counts, each.counts)


def test_the_file_is_laid_out_as_llama_cpps(tmp_path):
    found = ImportanceMatrix.read(DATA / "llama-imatrix.gguf")
    found.write(tmp_path / "a.gguf")
    with (
        GGUFFile.open(DATA / "llama-imatrix.gguf") as theirs,
        GGUFFile.open(tmp_path / "a.gguf") as ours,
    ):
        assert ours.metadata == theirs.metadata
        assert ours.metadata_types == theirs.metadata_types
        for name, info in theirs.tensors.items():
            # GGML leaves outermost axes of one out.
            assert ours.tensors[name].shape[-len(info.shape) :] == info.shape
            assert np.array_equal(ours.raw(name), theirs.raw(name))


def test_both_forms_of_llama_cpp_say_the_same():
    new = ImportanceMatrix.read(DATA / "llama-imatrix.gguf")
    old = ImportanceMatrix.read(DATA / "llama-imatrix.dat")
    assert (old.datasets, old.chunks) == (new.datasets, new.chunks) == (("story.txt",), 4)
    assert old.entries.keys() == new.entries.keys()
    for name, each in new.entries.items():
        np.testing.assert_allclose(old.entries[name].means, each.means, rtol=1e-6)


def test_what_is_collected_is_close_to_llama_cpps():
    """Both round activations of quantised layers, in other ways."""
    theirs = ImportanceMatrix.read(DATA / "llama-imatrix.gguf")
    ours = importance_matrix(MAMBA, STORY, ctx=64, chunks=4, dataset="story.txt")
    assert ours.entries.keys() == theirs.entries.keys()
    assert (ours.datasets, ours.chunks, ours.chunk_size) == (("story.txt",), 4, 64)
    for name, each in theirs.entries.items():
        found = ours.entries[name]
        assert np.array_equal(found.counts, each.counts)
        np.testing.assert_allclose(
            found.means, each.means, rtol=0.02, atol=0.01 * each.means.max(), err_msg=name
        )


def test_the_first_layers_inputs_are_the_normed_embeddings():
    found = importance_matrix(TINY, STORY, ctx=32, chunks=2).entries
    with open_model(TINY) as file:
        info = file.tensors["token_embd.weight"]
        table = dequantize(file.raw(info.name), info.type)
        norm = file.raw("blk.0.attn_norm.weight").view(np.float32).reshape(-1)
        from motet.tokenizer import from_gguf

        tokenizer = from_gguf(file.metadata)
        assert tokenizer is not None
        tokens = np.array(tokenizer.encode(STORY, add_special=True)[:64])
    tokens[32] = tokens[0]  # BOS begins a chunk
    x = table[tokens].astype(np.float64)
    x = x / np.sqrt((x**2).mean(axis=1, keepdims=True)) * norm
    for name in "qkv":
        each = found[f"blk.0.attn_{name}.weight"]
        assert each.counts.tolist() == [64]
        np.testing.assert_allclose(each.sums[0], (x**2).sum(axis=0), rtol=1e-3)


def test_threads_do_not_matter_and_the_output_is_asked_for():
    plain = importance_matrix(TINY, STORY, ctx=64, chunks=1, threads=1)
    other = importance_matrix(TINY, STORY, ctx=64, chunks=1, threads=2, process_output=True)
    assert other.entries.keys() - plain.entries.keys() == {"token_embd.weight"}
    for name, each in plain.entries.items():
        assert np.array_equal(other.entries[name].sums, each.sums), name
    assert other.entries["token_embd.weight"].counts.tolist() == [64]


@pytest.mark.parametrize("path", [T5, BERT])
def test_encoders_and_encoder_decoders_too(path):
    found = importance_matrix(path, STORY, ctx=32, chunks=2).entries
    with open_model(path) as file:
        names = [name for name in file.tensors if name.endswith("ffn_down.weight")]
        names += [name for name in file.tensors if "cross_attn_v" in name]
    assert set(names) <= found.keys()
    counts = {32} if path == T5 else {64}
    assert {found[name].counts[0] for name in names} == counts


def observer(**arrays: np.ndarray):
    source = _Watched(ArraySource({}, {f"{name}.weight": each for name, each in arrays.items()}))
    kernels = _Observer(source, 1)
    return kernels, TensorLoader(source, kernels)


def test_experts_are_seen_apart():
    rng = np.random.default_rng(0)
    gate, up = (rng.standard_normal((3, 32, 64)).astype(np.float32) for _ in range(2))
    down = rng.standard_normal((3, 64, 32)).astype(np.float32)
    kernels, loader = observer(gate=gate, up=up, down=down)
    packed = (
        loader.experts("gate.weight", 3, 32, 64),
        loader.experts("up.weight", 3, 32, 64),
        loader.experts("down.weight", 3, 64, 32),
    )
    x = rng.standard_normal((5, 64)).astype(np.float32)
    ids = np.array([[0, 2], [2, 0], [0, 2], [2, 0], [0, 2]], np.int32)
    weights = np.full((5, 2), 0.5, np.float32)
    out = kernels.experts(x, ids, weights, *packed, "silu")
    assert np.array_equal(out, CPU(1).experts(x, ids, weights, *packed, "silu"))
    found = kernels.entries()
    for name in ("gate", "up", "down"):
        assert found[f"{name}.weight"].counts.tolist() == [5, 0, 5]
    for expert in (0, 2):
        for name in ("gate", "up"):
            np.testing.assert_allclose(
                found[f"{name}.weight"].sums[expert], (x.astype(np.float64) ** 2).sum(0), rtol=1e-6
            )
        g = x @ gate[expert].T
        inner = g / (1 + np.exp(-g)) * (x @ up[expert].T)
        np.testing.assert_allclose(found["down.weight"].sums[expert], (inner**2).sum(0), rtol=1e-3)
    assert found["down.weight"].means[1].tolist() == [1.0] * 32


def test_experts_without_gates():
    rng = np.random.default_rng(0)
    up, down = (
        rng.standard_normal((2, *shape)).astype(np.float32) for shape in ((32, 64), (64, 32))
    )
    kernels, loader = observer(up=up, down=down)
    packed = loader.experts("up.weight", 2, 32, 64), loader.experts("down.weight", 2, 64, 32)
    x = rng.standard_normal((5, 64)).astype(np.float32)
    ids, weights = np.ones((5, 1), np.int32), np.ones((5, 1), np.float32)
    out = kernels.experts(x, ids, weights, None, *packed, "relu2")
    assert np.array_equal(out, CPU(1).experts(x, ids, weights, None, *packed, "relu2"))
    inner = np.maximum(x @ up[1].T, 0) ** 2
    found = kernels.entries()
    np.testing.assert_allclose(found["down.weight"].sums[1], (inner**2).sum(0), rtol=1e-3)
    assert found["up.weight"].counts.tolist() == [0, 5]


def test_heads_have_columns_of_their_own_and_one_count():
    rng = np.random.default_rng(0)
    kernels, loader = observer(k_b=rng.standard_normal((2, 16, 32)).astype(np.float32))
    heads = loader.experts("k_b.weight", 2, 16, 32)
    x = rng.standard_normal((5, 2, 32)).astype(np.float32)
    kernels.head_linear(x, heads)
    found = kernels.entries()["k_b.weight"]
    assert found.counts.tolist() == [5]
    np.testing.assert_allclose(found.sums.reshape(2, 32), (x**2).sum(0), rtol=1e-6)


def test_parts_of_a_matrix_share_their_input():
    rng = np.random.default_rng(0)
    kernels, loader = observer(qkv=rng.standard_normal((48, 32)).astype(np.float32))
    parts = loader.stacked("qkv.weight", (16, 16, 16), 32)
    x = rng.standard_normal((5, 32)).astype(np.float32)
    kernels.linear(x, *parts)
    found = kernels.entries()["qkv.weight"]
    assert found.counts.tolist() == [5]
    np.testing.assert_allclose(found.sums[0], (x**2).sum(0), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ctx": 2}, "ctx is 2"),
        ({"chunks": 0}, "chunks is 0"),
        ({"ctx": 257}, "trained for 256"),
        ({"ctx": 256, "text": "short"}, "one chunk takes 256"),
    ],
)
def test_bad_use(options, message):
    text = options.pop("text", STORY)
    with pytest.raises(OptionError, match=message):
        importance_matrix(TINY, text, **options)


def legacy(*entries, end: bytes = b"") -> bytes:
    data = struct.pack("<i", len(entries))
    for name, calls, values in entries:
        data += struct.pack("<i", len(name)) + name + struct.pack("<ii", calls, len(values))
        data += np.array(values, np.float32).tobytes()
    return data + end


def read(tmp_path, data: bytes) -> ImportanceMatrix:
    (tmp_path / "a.dat").write_bytes(data)
    return ImportanceMatrix.read(tmp_path / "a.dat")


def test_the_old_form(tmp_path):
    found = read(tmp_path, legacy((b"a.weight", 4, [4.0, 8.0]), (b"b.weight", 0, [3.0])))
    assert found.entries["a.weight"].means.tolist() == [[1.0, 2.0]]
    assert found.entries["b.weight"].means.tolist() == [[3.0]]
    assert (found.datasets, found.chunks) == ((), 0)
    end = struct.pack("<ii", 7, 5) + b"a.txt"
    found = read(tmp_path, legacy((b"a.weight", 1, [1.0]), end=end))
    assert (found.datasets, found.chunks) == (("a.txt",), 7)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"abc", "4 bytes are expected, 3 are left"),
        (struct.pack("<i", 0), "0 entries"),
        (struct.pack("<i", -1), "-1 entries"),
        (struct.pack("<i", 1 << 30), "0 are left"),
        (struct.pack("<ii", 1, 1 << 30), "are left"),
        (legacy((b"", 1, [1.0])), "is empty or comes twice"),
        (legacy((b"a", 1, [1.0]), (b"a", 1, [1.0])), "is empty or comes twice"),
        (legacy((b"\xff", 1, [1.0])), "not UTF-8"),
        (legacy((b"a", -1, [1.0])), "-1 calls"),
        (legacy((b"a", 1, [])), "0 values"),
        (legacy((b"a", 1, [1.0]))[:-1], "3 are left"),
        (legacy((b"a", 1, [np.nan])), "has the value nan"),
        (legacy((b"a", 1, [np.inf])), "has the value inf"),
        (legacy((b"a", 1, [-1.0])), "has the value -1"),
        (legacy((b"a", 1, [1.0]), end=b"abc"), "4 bytes are expected, 3 are left"),
        (legacy((b"a", 1, [1.0]), end=struct.pack("<ii", 1, 0) + b"x"), "1 bytes follow the end"),
        (b"PK\x03\x04" + bytes(100), "is no importance matrix, or a damaged one"),
    ],
)
def test_damaged_files_of_the_old_form(tmp_path, data, message):
    with pytest.raises(ModelFileError, match=message):
        read(tmp_path, data)


def gguf_file(tmp_path, **arrays: np.ndarray) -> Path:
    from motet.weights.gguf_writer import write

    named = {name.replace("__", "."): each for name, each in arrays.items()}
    write(ArraySource({"general.type": "imatrix"}, named), tmp_path / "a.gguf")
    return tmp_path / "a.gguf"


ONES = np.ones((1, 4), np.float32)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a__weight": ONES}, "is GGUF, but no importance matrix"),
        ({"a__in_sum2": ONES}, "has a.in_sum2, but no a.counts"),
        ({"a__in_sum2": ONES, "a__counts": np.ones((3, 1), np.float32)}, "4 values for 3 counts"),
        ({"a__in_sum2": ONES.astype(np.float16), "a__counts": ONES}, "is F16, must be F32"),
        ({"a__in_sum2": ONES, "a__counts": np.full((1, 1), 0.5, np.float32)}, "than counts"),
        ({"a__in_sum2": ONES, "a__counts": np.full((1, 1), np.nan, np.float32)}, "than counts"),
        ({"a__in_sum2": ONES * np.nan, "a__counts": np.ones((1, 1), np.float32)}, "value nan"),
    ],
)
def test_damaged_files(tmp_path, arrays, message):
    with pytest.raises(ModelFileError, match=message):
        ImportanceMatrix.read(gguf_file(tmp_path, **arrays))


def test_a_matrix_of_another_model_is_refused_by_both_names():
    arrays = {
        "one.weight": np.ones((4, 8), np.float32),
        "experts.weight": np.ones((3, 4, 8), np.float32),
    }
    source = ArraySource({}, arrays)
    fits = matrix(one=entry([[8] * 8], 4), experts=entry([[6] * 8] * 3, 3, 2, 0))
    found = fits.weights_for(source, arrays)
    assert found["one.weight"].tolist() == [[2] * 8]
    assert found["experts.weight"].tolist() == [[2] * 8, [3] * 8, [1] * 8]
    assert fits.weights_for(source, ["one.weight"]).keys() == {"one.weight"}
    with pytest.raises(ModelFileError, match=r"an importance of two.weight, which arrays lacks"):
        matrix(two=entry([[1] * 8], 1)).weights_for(source, arrays)
    with pytest.raises(ModelFileError, match=r"7 values for one.weight, and in arrays .* 8 col"):
        matrix(one=entry([[1] * 7], 1)).weights_for(source, arrays)
    with pytest.raises(ModelFileError, match=r"8 values for experts.weight, .* 24 columns"):
        matrix(experts=entry([[1] * 8], 1)).weights_for(source, arrays)
