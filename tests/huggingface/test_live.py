"""Directories that transformers saves, of random models, give what transformers computes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet import Batch, Model, ModelFileError
from motet.huggingface import HuggingFaceDirectory
from tests.huggingface.inverted import write_pooling
from tests.huggingface.sources import logits
from tests.parity.common import KERNELS, tolerance

pytest.importorskip("torch", reason="needs torch, the oracle")
pytest.importorskip("transformers", reason="needs transformers, the oracle")

import torch

from tests.parity import oracle, oracle_layer_norms, oracle_recurrent

# Its types say little of what a configuration takes.
transformers: Any = pytest.importorskip("transformers")
TOKENS = np.random.default_rng(1).integers(3, 48, 130)
DECODERS = [name for name in oracle.CASES if name not in oracle_recurrent.CASES]
SIZES: dict[str, Any] = {
    "vocab_size": 48,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 300,
    "attn_implementation": "eager",
    "dtype": torch.float32,
}
ENCODER: dict[str, Any] = SIZES | {"layer_norm_eps": 1e-3, "num_labels": 3}


def filled(model: Any) -> Any:
    """The model with weights that all matter, each a BF16 number."""
    torch.manual_seed(3)
    kind = model.config.model_type
    one = 0.0 if kind.startswith("gemma") and not kind.startswith("gemma4") else 1.0
    with torch.no_grad():
        for name, p in model.named_parameters():
            if oracle_layer_norms.fill(name, p):
                pass
            elif "norm" in name.lower() and name.endswith("weight"):
                p.copy_(one + 0.3 * torch.randn_like(p))
            elif name.endswith("bias"):
                p.copy_(0.3 * torch.randn_like(p))
            else:
                p.copy_((4 if "embed" in name else 1) * torch.randn_like(p) / p.shape[-1] ** 0.5)
            p.copy_(p.bfloat16())
    return model.eval()


def computed(model: Any) -> Any:
    """What transformers makes of TOKENS."""
    with torch.no_grad():
        return model(torch.from_numpy(TOKENS[None]))


def run(folder: Path, pooling: str | None = None) -> np.ndarray:
    """States of all tokens, or with None what the directory says that becomes of them."""
    with HuggingFaceDirectory.open(folder) as source:
        source.metadata = {**source.metadata, "tokenizer.ggml.model": "none"}
        model = Model(source, KERNELS["native"]())
    context, batch = model.context(pooling=pooling, kv_type="f32"), Batch()
    batch.extend(TOKENS, 0, logits="all")
    encodes = hasattr(model.family, "encode")
    output = (context.encode if encodes else context.decode)(batch)
    if pooling is None:
        return output.pooled[0]
    assert output.hidden is not None
    return output.hidden


def old(folder: Path) -> None:
    """Rewrite config.json as transformers 4 has it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["torch_dtype"] = config.pop("dtype")
    rope = config.pop("rope_parameters", None) or {}
    local = rope.get("sliding_attention")
    full = dict(rope.get("full_attention", rope))
    if config["model_type"] == "modernbert":
        config["global_rope_theta"], config["local_rope_theta"] = full["rope_theta"], 10000.0
        config["global_attn_every_n_layers"] = 3
    elif full:
        config["rope_theta"] = full.pop("rope_theta")
        if local is not None:
            config["rope_local_base_freq"] = local["rope_theta"]
            config["sliding_window_pattern"] = 6
        kind = full.pop("rope_type")
        # Some of 4.x have rope_type, older ones type.
        config["rope_scaling"] = None if kind == "default" else {"type": kind, **full}
    config.pop("layer_types", None)
    path.write_text(json.dumps(config))


def keys(folder: Path) -> dict[str, Any]:
    with HuggingFaceDirectory.open(folder) as source:
        return {k: v for k, v in source.metadata.items() if k != "general.name"}


@pytest.mark.parametrize("name", DECODERS)
def test_decoders(name: str, tmp_path: Path) -> None:
    """In F32, and in BF16 in several files; transformers 4's keys say the same."""
    model = filled(transformers.AutoModelForCausalLM.from_config(oracle.CASES[name]()))
    theirs = computed(model).logits[0].numpy()
    model.save_pretrained(tmp_path / "f32")
    model.bfloat16().save_pretrained(tmp_path / "bf16", max_shard_size="6KB")
    assert len(list((tmp_path / "bf16").glob("*.safetensors"))) > 1
    for folder in ("f32", "bf16"):
        for kernels in KERNELS.values():
            ours = logits(tmp_path / folder, kernels, TOKENS)
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance(name))
    new = keys(tmp_path / "f32")
    old(tmp_path / "f32")
    assert keys(tmp_path / "f32") == new


def test_experts_in_one_tensor(tmp_path: Path) -> None:
    """As transformers 5 has them in memory, and can save them."""
    model = filled(transformers.AutoModelForCausalLM.from_config(oracle.CASES["mixtral"]()))
    model.save_pretrained(tmp_path / "old")
    model.save_pretrained(tmp_path / "new", save_original_format=False)
    one, other = tmp_path / "old", tmp_path / "new"
    with HuggingFaceDirectory.open(one) as a, HuggingFaceDirectory.open(other) as b:
        assert a.tensors == b.tensors
        for name in a.tensors:
            assert np.array_equal(a.raw(name), b.raw(name))


def test_yarn_in_both_spellings(tmp_path: Path) -> None:
    """Qwen 2.5's; what it was trained for is what it says that it can, where it says no other."""
    rope = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "beta_fast": 16.0}
    rope["original_max_position_embeddings"] = 75
    config = transformers.Qwen2Config(**SIZES, num_key_value_heads=2, rope_parameters=rope)
    model = filled(transformers.Qwen2ForCausalLM(config))
    model.save_pretrained(tmp_path)
    ours = logits(tmp_path, KERNELS["native"], TOKENS)
    np.testing.assert_allclose(ours, computed(model).logits[0].numpy(), rtol=0, atol=2e-4)
    new = keys(tmp_path)
    old(tmp_path)
    assert keys(tmp_path) == new


CLASSIFIERS = {
    "llama": lambda: transformers.LlamaForSequenceClassification(
        transformers.LlamaConfig(**SIZES, num_labels=3, pad_token_id=0)
    ),
    "qwen2": lambda: transformers.Qwen2ForSequenceClassification(
        transformers.Qwen2Config(**SIZES, num_key_value_heads=2, num_labels=3, pad_token_id=0)
    ),
    "gemma2": lambda: transformers.Gemma2ForSequenceClassification(
        transformers.Gemma2Config(
            **SIZES, head_dim=8, query_pre_attn_scalar=8, num_labels=2, pad_token_id=0
        )
    ),
    "gpt2": lambda: transformers.GPT2ForSequenceClassification(
        transformers.GPT2Config(
            vocab_size=48,
            n_embd=24,
            n_layer=2,
            n_head=3,
            n_positions=300,
            num_labels=3,
            pad_token_id=0,
            bos_token_id=0,
            eos_token_id=0,
            attn_implementation="eager",
        )
    ),
    "bert": lambda: transformers.BertForSequenceClassification(transformers.BertConfig(**ENCODER)),
    "roberta": lambda: transformers.RobertaForSequenceClassification(
        transformers.RobertaConfig(**ENCODER)
    ),
    "xlm-roberta": lambda: transformers.XLMRobertaForSequenceClassification(
        transformers.XLMRobertaConfig(**ENCODER | {"num_labels": 1})
    ),
    "modernbert": lambda: transformers.ModernBertForSequenceClassification(
        transformers.ModernBertConfig(
            **SIZES,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            cls_token_id=1,
            sep_token_id=2,
            local_attention=40,
            classifier_bias=True,
            num_labels=3,
        )
    ),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(name: str, tmp_path: Path) -> None:
    """Their numbers, and what these stand for."""
    model = filled(CLASSIFIERS[name]())
    count = model.config.num_labels
    model.config.id2label = {i: f"kind {9 - i}" for i in range(count)}
    model.save_pretrained(tmp_path)
    np.testing.assert_allclose(run(tmp_path), computed(model).logits[0].numpy(), rtol=0, atol=1e-4)
    with HuggingFaceDirectory.open(tmp_path) as source:
        labels = source.metadata[f"{source.architecture}.classifier.output_labels"]
    assert labels == [f"kind {9 - i}" for i in range(count)]


ENCODERS = {
    "bert": lambda: transformers.BertModel(transformers.BertConfig(**ENCODER)),
    "bert_masked": lambda: transformers.BertForPreTraining(transformers.BertConfig(**ENCODER)),
    "roberta": lambda: transformers.RobertaForMaskedLM(transformers.RobertaConfig(**ENCODER)),
    "xlm-roberta": lambda: transformers.XLMRobertaModel(
        transformers.XLMRobertaConfig(**ENCODER | {"pad_token_id": 2, "type_vocab_size": 1})
    ),
    "modernbert": lambda: transformers.ModernBertForMaskedLM(
        transformers.ModernBertConfig(
            **SIZES,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            cls_token_id=1,
            sep_token_id=2,
            local_attention=40,
            norm_bias=True,
            attention_bias=True,
            classifier_pooling="mean",
            hidden_activation="silu",
            norm_eps=1e-3,
        )
    ),
    "nomic_bert": lambda: transformers.NomicBertModel(
        transformers.NomicBertConfig(**SIZES, layer_norm_eps=1e-3)
    ),
    "gemma_embedding": lambda: transformers.Gemma3TextModel(
        transformers.Gemma3TextConfig(
            **SIZES | {"num_hidden_layers": 7},
            head_dim=8,
            num_key_value_heads=2,
            sliding_window=20,
            query_pre_attn_scalar=8,
            use_bidirectional_attention=True,
        )
    ),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders(name: str, tmp_path: Path) -> None:
    """States and vectors, in F32 and F16; heads for other tasks are left aside."""
    model = filled(ENCODERS[name]())
    with torch.no_grad():
        base = getattr(model, model.base_model_prefix, model)
        theirs = base(torch.from_numpy(TOKENS[None])).last_hidden_state[0].numpy()
    model.save_pretrained(tmp_path / "f32")
    model.half().save_pretrained(tmp_path / "f16", max_shard_size="6KB")
    for mode, made in (("mean", theirs.mean(0)), ("cls", theirs[0]), ("lasttoken", theirs[-1])):
        write_pooling(tmp_path / "f32", mode)
        np.testing.assert_allclose(run(tmp_path / "f32"), made, rtol=0, atol=5e-5)
    np.testing.assert_allclose(run(tmp_path / "f32", "none"), theirs, rtol=0, atol=1e-4)
    # F16 has less of the smallest numbers.
    np.testing.assert_allclose(run(tmp_path / "f16", "none"), theirs, rtol=0, atol=2e-3)
    if name in ("modernbert", "gemma_embedding", "nomic_bert"):
        new = keys(tmp_path / "f32")
        old(tmp_path / "f32")
        assert keys(tmp_path / "f32") == new


def test_dense_modules(tmp_path: Path) -> None:
    """EmbeddingGemma's: a mean goes through two matrices, in folders of their own."""
    from safetensors.torch import save_file

    model = filled(ENCODERS["gemma_embedding"]())
    model.save_pretrained(tmp_path)
    write_pooling(tmp_path, "mean")
    modules = json.loads((tmp_path / "modules.json").read_text())
    up, down = torch.randn(56, 24), torch.randn(24, 56)
    for i, matrix in ((2, up), (3, down)):
        folder = tmp_path / f"{i}_Dense"
        folder.mkdir()
        save_file({"linear.weight": matrix}, folder / "model.safetensors")
        outs, ins = matrix.shape
        identity = "torch.nn.modules.linear.Identity"
        config = {"in_features": ins, "out_features": outs, "bias": False}
        (folder / "config.json").write_text(json.dumps(config | {"activation_function": identity}))
        kind = "sentence_transformers.models.Dense"
        modules.insert(i, {"idx": i, "name": str(i), "path": f"{i}_Dense", "type": kind})
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    theirs = computed(model).last_hidden_state[0].mean(0) @ up.T @ down.T
    np.testing.assert_allclose(run(tmp_path), theirs.numpy(), rtol=0, atol=2e-3)


def test_a_gemma_that_sees_is_run_without_its_eyes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = transformers.Gemma3Config(
        text_config={
            **{key: value for key, value in SIZES.items() if key != "dtype"},
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "num_key_value_heads": 1,
            "num_hidden_layers": 7,
            "sliding_window": 20,
        },
        vision_config={**sizes, "num_attention_heads": 2, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=1,
    )
    model = filled(transformers.Gemma3ForConditionalGeneration(config))
    model.save_pretrained(tmp_path, max_shard_size="6KB")
    theirs = computed(model).logits[0].numpy()
    with caplog.at_level("INFO", "motet"):
        ours = logits(tmp_path, KERNELS["native"], TOKENS)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-4)
    assert "vision_tower.*" in caplog.text and "multi_modal_projector.*" in caplog.text


@pytest.mark.parametrize("tied", [True, False])
def test_output_heads(tied: bool, tmp_path: Path) -> None:
    """A tied one that is saved again is left out; a missing one is missed."""
    from safetensors.torch import load_file, save_file

    config = transformers.LlamaConfig(**SIZES, tie_word_embeddings=tied)
    model = filled(transformers.LlamaForCausalLM(config))
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    if not tied:
        del tensors["lm_head.weight"]
        save_file(tensors, path)
        with pytest.raises(ModelFileError, match=r"no output head \(lm_head"):
            HuggingFaceDirectory.open(tmp_path)
        return
    theirs = computed(model).logits[0].numpy()
    for other in (False, True):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + other
        save_file(tensors, path)
        with HuggingFaceDirectory.open(tmp_path) as source:
            assert ("output.weight" in source.tensors) == other
        same = np.allclose(logits(tmp_path, KERNELS["native"], TOKENS), theirs, atol=1e-4)
        assert same != other
