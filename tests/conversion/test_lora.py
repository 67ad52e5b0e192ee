"""Low-rank adapters: what is loaded with one is the model with B · A added."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

import motet
from motet import Batch, Model
from motet.conversion.lora import Adapter, Merged, read_adapter
from motet.errors import ModelFileError, MotetError, OptionError, UnsupportedError
from motet.kernels import CPU
from motet.opening import open_adapter, open_model
from motet.weights.formats import TensorType, dequantize
from tests.models.tiny import metadata, shapes, write
from tests.weights.sources import ArraySource

RANK, ALPHA = 4, 8.0
CONFIG = {
    "peft_type": "LORA",
    "base_model_name_or_path": "org/base",
    "r": RANK,
    "lora_alpha": 8,
    "target_modules": ["q_proj", "down_proj"],
    "lora_dropout": 0.1,
    "bias": "none",
    "use_rslora": False,
    "use_dora": False,
    "modules_to_save": None,
    "task_type": "CAUSAL_LM",
}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "vocab_size": 40,
    "tie_word_embeddings": True,
}
SIZES = {"self_attn.q_proj": (32, 32), "self_attn.k_proj": (16, 32), "mlp.down_proj": (32, 48)}


def base(folder: Path, changed: dict[str, np.ndarray] | None = None) -> Path:
    """A Llama; ``changed``: what is added to its weights."""
    rng = np.random.default_rng(1)
    tensors = {"model.embed_tokens.weight": (40, 32), "model.norm.weight": (32,)}
    for i in range(2):
        block = f"model.layers.{i}."
        sizes = {**SIZES, "self_attn.v_proj": (16, 32), "self_attn.o_proj": (32, 32)}
        sizes |= {"mlp.gate_proj": (48, 32), "mlp.up_proj": (48, 32)}
        sizes |= {"input_layernorm": (32,), "post_attention_layernorm": (32,)}
        tensors |= {f"{block}{name}.weight": size for name, size in sizes.items()}
    values = {n: rng.standard_normal(s, np.float32) * np.float32(0.2) for n, s in tensors.items()}
    for name, added in (changed or {}).items():
        values[name] = values[name] + added
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    save_file(values, folder / "model.safetensors")
    return folder


def parts() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A and B of the modules of every layer."""
    rng = np.random.default_rng(2)
    return {
        f"model.layers.{i}.{name}": (
            rng.standard_normal((RANK, columns), np.float32),
            rng.standard_normal((rows, RANK), np.float32) * np.float32(0.1),
        )
        for i in range(2)
        for name, (rows, columns) in SIZES.items()
    }


def adapter(folder: Path, **changes: object) -> Path:
    """A PEFT directory."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **changes}))
    tensors = {}
    for name, (a, b) in parts().items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = a
        tensors[f"base_model.model.{name}.lora_B.weight"] = b
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def added(scale: float) -> dict[str, np.ndarray]:
    return {f"{name}.weight": np.float32(scale) * (b @ a) for name, (a, b) in parts().items()}


def logits(model: Model) -> np.ndarray:
    batch = Batch()
    batch.extend([3, 1, 4, 1, 5, 9, 2, 6], 0, 0, "all")
    return model.context().decode(batch).logits


@pytest.mark.parametrize(("strength", "rslora"), [(1.0, False), (0.5, False), (1.0, True)])
def test_loaded_with_it_is_the_merged_model(tmp_path, strength, rslora):
    scale = strength * ALPHA / (RANK**0.5 if rslora else RANK)
    model = base(tmp_path / "base")
    lora = adapter(tmp_path / "lora", use_rslora=rslora)
    ours = logits(Model.load(model, lora=[(lora, strength)]))
    merged = logits(Model.load(base(tmp_path / "merged", added(scale))))
    assert np.abs(merged - logits(Model.load(model))).max() > 0.1
    np.testing.assert_allclose(ours, merged, atol=2e-5)


def test_a_file_of_it_does_the_same(tmp_path, monkeypatch):
    """Of the directory and of the model's file; llama.cpp's names and keys."""
    monkeypatch.chdir(tmp_path)
    model, lora = base(tmp_path / "base"), adapter(tmp_path / "lora")
    (file,) = motet.convert(lora, "lora.gguf", "f32", base=model).files
    reader = gguf.GGUFReader(file)
    assert reader.fields["general.type"].contents() == "adapter"
    assert reader.fields["adapter.type"].contents() == "lora"
    assert reader.fields["adapter.lora.alpha"].contents() == ALPHA
    assert {t.name for t in reader.tensors} >= {"blk.1.ffn_down.weight.lora_a"}
    whole = motet.convert(model, "base.gguf", "f32").files[0]
    one = logits(Model.load(model, lora=lora))
    for path in (model, whole):
        assert np.array_equal(one, logits(Model.load(path, lora=[file])))
    with pytest.raises(UnsupportedError, match="a LoRA adapter"):
        Model.load(file)


def test_quantised_weights_keep_their_type(tmp_path):
    model, file, name = base(tmp_path / "base"), tmp_path / "q8_0.gguf", "blk.0.attn_q.weight"
    motet.quantize(model, file, "Q8_0")
    with open_model(file) as source, open_adapter(adapter(tmp_path / "lora"), model) as lora:
        merged = Merged(source, [read_adapter(lora)], CPU(1))
        assert merged.tensors[name].type is TensorType.Q8_0
        a = lora.raw(f"{name}.lora_a").view(np.float32)
        b = lora.raw(f"{name}.lora_b").view(np.float32)
        wanted = dequantize(source.raw(name), TensorType.Q8_0) + 2 * (b @ a)
        found = dequantize(merged.raw(name), TensorType.Q8_0)
    assert np.abs(found - wanted).max() <= np.abs(wanted).max() / 127 * 0.51
    assert np.abs(found - wanted).max() > 0


def test_two_adapters_add_up(tmp_path):
    model, lora = base(tmp_path / "base"), adapter(tmp_path / "lora")
    twice = logits(Model.load(model, lora=[(lora, 0.25), (lora, 0.75)]))
    np.testing.assert_allclose(twice, logits(Model.load(model, lora=lora)), atol=2e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"use_dora": True}, "use_dora is True"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is"),
        ({"alpha_pattern": {"q_proj": 3}}, "alpha_pattern is"),
        ({"init_lora_weights": "pissa_niter_4"}, "belongs to a changed model"),
        ({"use_rslora": True, "r": 16}, "is of rank 4, and r is 16"),
        ({"lora_alpha": 1e-50}, "lora_alpha 1e-50"),
        ({"base_model_name_or_path": "x" * 5000, "r": True}, "r is True"),
        ({"something_new": 1}, "something_new = 1"),
        ({"r": 0}, "r is 0"),
        ({"lora_alpha": "8"}, "lora_alpha is '8'"),
    ],
)
def test_what_is_more_than_b_a_is_refused(tmp_path, changes, said):
    model, lora = base(tmp_path / "base"), adapter(tmp_path / "lora", **changes)
    with pytest.raises((UnsupportedError, ModelFileError), match=said):
        Model.load(model, lora=lora)


def test_damaged_parts(tmp_path):
    model, sound = base(tmp_path / "base"), parts()
    name, (a, b) = next(iter(sound.items()))
    full = f"base_model.model.{name}.lora"
    for i, (tensors, said) in enumerate(
        (
            ({f"{full}_A.weight": a, f"{full}_B.weight": b * np.inf}, "are not finite"),
            ({f"{full}_A.weight": a, f"{full}_B.weight": np.ones(4, "f")}, "is no matrix"),
            ({f"{full}_A.weight": a, f"{full}_A.zz.weight": a}, "is there twice"),
            ({f"{full}_A.weight": a}, "lacks blk.0.attn_q.weight.lora_b"),
            ({f"{full}_A.weight": a[:2], f"{full}_B.weight": b}, "which have no rank in common"),
        )
    ):
        lora = adapter(tmp_path / str(i))
        save_file(tensors, lora / "adapter_model.safetensors")
        with pytest.raises(MotetError, match=said):
            Model.load(model, lora=lora)


def test_of_another_model(tmp_path):
    lora = adapter(tmp_path / "lora")
    other = write(tmp_path / "other.gguf", metadata("llama"), shapes(metadata("llama")))
    with open_adapter(lora, base(tmp_path / "base")) as source:
        from motet.weights.gguf_writer import write as write_gguf

        write_gguf(source, tmp_path / "lora.gguf")
    with pytest.raises(ModelFileError, match=r"is for another model: it changes blk\.0\.attn_k"):
        Model.load(other, lora=tmp_path / "lora.gguf")
    with pytest.raises(ModelFileError, match=r"of .org/base., whose config\.json is needed"):
        Model.load(other, lora=lora)
    with pytest.raises(UnsupportedError, match="is not a LoRA adapter"):
        Model.load(other, lora=other)


@pytest.mark.parametrize("lora", [3, [("a", "b", "c")], [("x", "strong")], [("x", float("nan"))]])
def test_wrong_use(tmp_path, lora):
    with pytest.raises(OptionError):
        Model.load(base(tmp_path / "base"), lora=lora)


@pytest.mark.parametrize("type", ["q8_0", "Q4_0", "f16", "q4_k_m"])
def test_a_type_while_loading_is_that_of_the_file(tmp_path, type):
    """What is loaded quantised is what ``motet quantize`` writes."""
    model, file = base(tmp_path / "base"), tmp_path / "out.gguf"
    motet.quantize(model, file, type)
    loaded, written = Model.load(model, type=type), Model.load(file)
    assert np.array_equal(logits(loaded), logits(written))
    assert loaded.nbytes == written.nbytes
    assert loaded.fingerprint.weights == written.fingerprint.weights
    again = Model.load(file, type="q8_0")  # what is quantised stays so
    for name, info in written.file.tensors.items():
        assert info.type.block == 1 or again.file.tensors[name].type is info.type
    with pytest.raises(OptionError, match="type is 'q9'"):
        Model.load(model, type="q9")


def test_an_adapter_that_is_written_to_while_it_is_read(tmp_path):
    file = adapter(tmp_path / "lora") / "adapter_model.safetensors"
    with open_adapter(file.parent, base(tmp_path / "base")) as source:
        file.write_bytes(file.read_bytes()[:-8] + bytes(8))
        with pytest.raises(ModelFileError, match="was changed while it was read"):
            read_adapter(source)


def test_a_strange_name_of_the_model_is_shown_safely(tmp_path):
    lora = adapter(tmp_path / "lora", base_model_name_or_path="\x1b[2J\n")
    with pytest.raises(ModelFileError, match=r"whose config\.json is needed") as error:
        open_adapter(lora)
    assert str(error.value).isprintable()


def test_what_is_added_to_a_matrix_with_a_scale_is_not_scaled():
    name, rng = "blk.0.ffn_up.weight", np.random.default_rng(3)
    w, a, b = (rng.standard_normal(size, np.float32) for size in ((24, 16), (16, 2), (24, 2)))
    adapter = Adapter("lora.gguf", "llama", {name: (b, a)}, {name: 2.0})

    def merged(scale: float) -> np.ndarray:
        arrays = {name: w, "blk.0.ffn_up.scale": np.array([scale], np.float32)}
        source = ArraySource({"general.architecture": "llama"}, arrays)
        raw = Merged(source, [adapter], CPU(1)).read_rows(name, 0, 24)
        return raw.view(np.float32) * scale

    np.testing.assert_allclose(merged(0.25), w * 0.25 + 2 * b @ a.T, rtol=1e-5, atol=1e-6)
    for scale in (0.0, np.inf):
        with pytest.raises(ModelFileError, match=r"ffn_up\.scale is (0|inf)"):
            merged(scale)
