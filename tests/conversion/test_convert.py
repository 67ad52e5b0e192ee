"""motet.convert: which tensor is written in which type, and in which file."""

from pathlib import Path

import numpy as np
import pytest

import motet
from motet.errors import ModelFileError, OptionError, UnsupportedError
from motet.weights.formats import TensorType, dequantize
from motet.weights.gguf import GGUFFile
from motet.weights.gguf_writer import write
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
        added["general.size_label"] = "4x23K"
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
