"""motet.convert: which tensor is written in which type, and in which file."""

from pathlib import Path

import numpy as np
import pytest

import motet
from motet.errors import ModelFileError, OptionError, UnsupportedError
from motet.opening import open_model
from motet.weights.formats import TensorType, dequantize
from motet.weights.gguf import GGUFFile
from motet.weights.gguf_writer import write
from tests.huggingface import making
from tests.models import tiny
from tests.weights.sources import ArraySource

F32, F16, BF16, Q8_0 = TensorType.F32, TensorType.F16, TensorType.BF16, TensorType.Q8_0


@pytest.fixture
def model(tmp_path):
    return tiny.write(tmp_path / "jamba.gguf", tiny.metadata("jamba", embedding_length=32))


@pytest.mark.parametrize(
    ("type", "matrices", "odd", "file_type"),
    [("f32", F32, F32, 0), ("f16", F16, F16, 1), ("bf16", BF16, BF16, 32), ("q8_0", Q8_0, F16, 7)],
)
def test_types(model, tmp_path, type, matrices, odd, file_type):
    made = motet.convert(model, tmp_path / "out.gguf", type)
    types = {each.name: each.after for each in made.tensors}
    assert types["token_embd.weight"] is types["blk.1.attn_q.weight"] is matrices
    assert types["blk.0.ffn_down.weight"] is odd  # rows of 24
    for name in (
        "output_norm.weight",
        "blk.0.attn_norm.weight",
        "blk.0.ssm_conv1d.weight",
        "blk.0.ssm_a",
        "blk.0.ssm_d",
        "blk.0.ssm_dt.bias",
        "blk.1.ffn_gate_inp.weight",
    ):
        assert types[name] is F32, name
    with GGUFFile.open(model) as before, GGUFFile.open(tmp_path / "out.gguf") as after:
        added = {"general.quantization_version": 2, "general.file_type": file_type}
        assert after.metadata == {**before.metadata, **added}
        for name, info in after.tensors.items():
            assert info.type is types[name]
            found = dequantize(after.raw(name), info.type)
            expected = dequantize(before.raw(name), F32)
            np.testing.assert_allclose(found, expected, rtol=0, atol=0.02)
    assert motet.Model.load(tmp_path / "out.gguf", 1).n_vocab == tiny.VOCAB


def test_auto_is_the_type_of_the_first_matrix_of_16_bits(tmp_path):
    def auto(**arrays: np.ndarray) -> str:
        named = {f"{name}.weight": each for name, each in arrays.items()}
        write(ArraySource({"general.architecture": "llama"}, named), tmp_path / "a.gguf")
        made = motet.convert(tmp_path / "a.gguf", tmp_path / "b.gguf", dry_run=True)
        (tmp_path / "a.gguf").unlink()
        return made.type

    single, half = np.ones((2, 4), np.float32), np.ones((2, 4), np.float16)
    assert auto(a=single) == "F16"
    assert auto(a=single, b=half) == "F16"
    write(ArraySource({"general.architecture": "llama"}, {"a.weight": half}), tmp_path / "h.gguf")
    motet.quantize(tmp_path / "h.gguf", tmp_path / "bf16.gguf", "BF16")
    assert motet.convert(tmp_path / "bf16.gguf", tmp_path / "c.gguf", dry_run=True).type == "BF16"


def test_split_and_default_name(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = motet.convert(model, type="bf16", split_size=4000)
    count = len(made.files)
    assert count > 1
    assert made.files[0] == Path(f"jamba-BF16-00001-of-{count:05}.gguf")
    with GGUFFile.open(made.files[0]) as file:
        assert file.files == count
    assert motet.convert(model, type="bf16").files == (Path("jamba-BF16.gguf"),)


def test_what_is_quantised_stays_what_it_is(model, tmp_path):
    motet.quantize(model, tmp_path / "q.gguf", "Q8_0")
    with pytest.raises(OptionError, match=r"q.gguf: is quantised already, in Q8_0.*motet quantize"):
        motet.convert(tmp_path / "q.gguf", tmp_path / "f.gguf", "f16")


def test_refusals(model, tmp_path):
    with pytest.raises(OptionError, match="type is 'q4_k'"):
        motet.convert(model, tmp_path / "out.gguf", "q4_k")
    with pytest.raises(OptionError, match="is the model that is read"):
        motet.convert(model, model, overwrite=True)
    with pytest.raises(ModelFileError, match="no such file"):
        motet.convert(tmp_path / "nothing", tmp_path / "out.gguf")
    named = {"general.architecture": "llama", "general.type": "adapter"}
    write(ArraySource(named, {"a.weight": np.ones((1, 4), np.float32)}), tmp_path / "lora.gguf")
    with pytest.raises(UnsupportedError, match="is a LoRA adapter"):
        motet.convert(tmp_path / "lora.gguf", tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


@pytest.fixture
def directory(tmp_path):
    """A Llama of two layers, stored in BF16."""
    rng = np.random.default_rng(0)
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": tiny.VOCAB,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
    }
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (tiny.VOCAB, 64),
        "model.norm.weight": (64,),
    }
    for i in range(2):
        layer = f"model.layers.{i}"
        for name, rows, columns in (
            ("self_attn.q_proj", 64, 64),
            ("self_attn.k_proj", 32, 64),
            ("self_attn.v_proj", 32, 64),
            ("self_attn.o_proj", 64, 64),
            ("mlp.gate_proj", 96, 64),
            ("mlp.up_proj", 96, 64),
            ("mlp.down_proj", 64, 96),
        ):
            shapes[f"{layer}.{name}.weight"] = rows, columns
        shapes[f"{layer}.input_layernorm.weight"] = (64,)
        shapes[f"{layer}.post_attention_layernorm.weight"] = (64,)
    tensors = {
        name: (rng.standard_normal(shape).astype(np.float32).view(np.uint32) >> 16).astype(
            np.uint16
        )
        for name, shape in shapes.items()
    }
    return making.write(tmp_path / "my model", config, tensors)


def test_a_directory(directory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = motet.convert(directory)
    assert made.type == "BF16" and made.files == (Path("my-model-BF16.gguf"),)
    types = {each.name: (each.before, each.after) for each in made.tensors}
    assert types["blk.0.attn_q.weight"] == (BF16, BF16)
    assert types["blk.0.attn_norm.weight"][1] is F32
    with open_model(directory) as source, GGUFFile.open(made.files[0]) as file:
        named = {**source.metadata, "general.name": "My Model"}
        assert file.metadata.items() >= named.items()
        assert file.metadata["general.size_label"]
        for name, info in source.tensors.items():
            before = dequantize(source.raw(name), info.type)
            after = dequantize(file.raw(name), file.tensors[name].type)
            assert np.array_equal(before, after), name


def test_a_directory_is_quantised_as_the_file_of_it(directory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = motet.convert(directory).files[0]
    for type in ("Q8_0", "Q4_0", "F16"):
        motet.quantize(directory, "one.gguf", type, pure=True, overwrite=True)
        motet.quantize(file, "other.gguf", type, pure=True, overwrite=True)
        assert Path("one.gguf").read_bytes() == Path("other.gguf").read_bytes()
    assert motet.quantize(directory, None, "Q8_0").files == (Path("my-model-Q8_0.gguf"),)


def test_nothing_in_the_directory_is_replaced(directory):
    (weights,) = directory.glob("*.safetensors")
    before = weights.read_bytes()
    with pytest.raises(OptionError, match="is not a GGUF file, and is not overwritten"):
        motet.convert(directory, weights, overwrite=True)
    assert weights.read_bytes() == before


def test_a_file_without_tensors_has_no_bits(tmp_path):
    write(ArraySource({"general.architecture": "llama"}, {}), tmp_path / "empty.gguf")
    made = motet.convert(tmp_path / "empty.gguf", tmp_path / "out.gguf")
    assert made.bits_per_weight == 0
