"""Directories of DeepSeek V2 and V3, of T5 kinds, and of FP8 weights."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet import Batch, Model
from motet.errors import MotetError, UnsupportedError
from motet.huggingface import HuggingFaceDirectory
from motet.weights.formats import dequantize
from motet.weights.gguf_writer import write as write_gguf
from tests.huggingface.making import write
from tests.huggingface.sources import differing, logits
from tests.parity.common import KERNELS
from tests.parity.test_t5 import CASES as T5_CASES
from tests.parity.test_t5 import NEAR, run
from tests.parity.test_t5 import random_model as random_t5
from tests.shared import SHARED, needs_shared

PARITY = SHARED / "parity"
TOKENS = np.random.default_rng(1).integers(0, 48, 130)


@needs_shared
def test_a_directory_is_its_conversion(tmp_path: Path) -> None:
    folder = PARITY / "deepseek3"
    assert differing(folder / "hf", folder / "model.gguf") == (set(), {})
    tokens = np.load(folder / "tokens.npy")
    with HuggingFaceDirectory.open(folder / "hf") as source:
        (path,) = write_gguf(source, tmp_path / "m.gguf")
    ours = logits(folder / "hf", KERNELS["native"], tokens)
    assert np.array_equal(ours, logits(path, KERNELS["native"], tokens))
    np.testing.assert_allclose(ours, np.load(folder / "logits_hf.npy"), rtol=0, atol=1e-4)


_SIZES = {
    "vocab_size": 48,
    "hidden_size": 24,
    "intermediate_size": 24,
    "moe_intermediate_size": 8,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "kv_lora_rank": 12,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 5,
    "num_experts_per_tok": 3,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "routed_scaling_factor": 1.5,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-3,  # of norms within latent attention it is another
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 100.0,
    "factor": 4.0,
    "original_max_position_embeddings": 48,
    "beta_fast": 16,
    "beta_slow": 2,
    "mscale": 0.7,
    "mscale_all_dim": 0.7,
}
_PLAIN = {"rope_type": "default", "rope_theta": 1000.0}
DEEPSEEK: dict[str, tuple[str, dict[str, Any]]] = {
    "lite": ("V2", {"q_lora_rank": None, "rope_parameters": _PLAIN, "first_k_dense_replace": 1}),
    "v2": (
        "V2",
        {
            "q_lora_rank": 7,
            "topk_method": "group_limited_greedy",
            "n_group": 4,
            "topk_group": 2,
            "rope_parameters": _YARN,
            "first_k_dense_replace": 0,
        },
    ),
    "yarn_alone": (
        "V2",
        {
            "q_lora_rank": 7,
            "rope_parameters": {k: v for k, v in _YARN.items() if "mscale" not in k},
            "first_k_dense_replace": 2,
            "tie_word_embeddings": True,
        },
    ),
    "v3": (
        "V3",
        {
            "q_lora_rank": 7,
            "n_group": 2,
            "topk_group": 1,
            "norm_topk_prob": True,
            "rope_parameters": _YARN,
            "first_k_dense_replace": 1,
            "num_nextn_predict_layers": 0,
        },
    ),
    "v3_unnormalised": (
        "V3",
        {
            "q_lora_rank": None,
            "n_group": 1,
            "topk_group": 1,
            "norm_topk_prob": False,
            "rope_parameters": _PLAIN,
            "first_k_dense_replace": 0,
            "num_nextn_predict_layers": 0,
        },
    ),
}


@pytest.mark.parametrize("name", DEEPSEEK)
def test_deepseek(name: str, tmp_path: Path) -> None:
    """Saved by transformers; with experts in one tensor; as transformers 4 wrote config.json."""
    model, theirs = saved_deepseek(name, tmp_path)
    for kernels in KERNELS.values():
        ours = logits(tmp_path, kernels, TOKENS)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    config = json.loads((tmp_path / "config.json").read_text())
    tensors = _tensors(model)
    assert any(key.endswith("experts.gate_up_proj") for key in tensors)
    in_one = write(tmp_path / "5", config, tensors, shards=3)
    assert np.array_equal(logits(in_one, KERNELS["native"], TOKENS), ours)
    for file in tmp_path.glob("*.safetensors*"):
        (tmp_path / "4").mkdir(exist_ok=True)
        (tmp_path / "4" / file.name).write_bytes(file.read_bytes())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    rope["type"] = rope.pop("rope_type")
    config["rope_scaling"] = rope if rope["type"] != "default" else None
    three = config["model_type"] == "deepseek_v3"
    config |= {
        "scoring_func": "sigmoid" if three else "softmax",
        "topk_method": "noaux_tc" if three else config["topk_method"],
        "moe_layer_freq": 1,
        "ep_size": 1,
        "aux_loss_alpha": 0.001,
        "seq_aux": True,
        "auto_map": {"AutoModel": "modeling_deepseek.DeepseekModel"},
    }
    (tmp_path / "4" / "config.json").write_text(json.dumps(config))
    assert np.array_equal(logits(tmp_path / "4", KERNELS["native"], TOKENS), ours)


def test_layers_that_draft_tokens_are_left_aside(tmp_path: Path) -> None:
    model, theirs = saved_deepseek("v3", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    tensors = _tensors(model)
    draft = {
        key.replace("layers.2.", "layers.3."): value
        for key, value in tensors.items()
        if "layers.2." in key
    }
    draft["model.layers.3.eh_proj.weight"] = np.zeros((24, 48), np.float32)
    config["num_nextn_predict_layers"] = 1
    path = write(tmp_path / "drafts", config, tensors | draft)
    ours = logits(path, KERNELS["native"], TOKENS)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


_V2 = _SIZES | {"model_type": "deepseek_v2", "q_lora_rank": None, "rope_theta": 100.0}
_V3 = _V2 | {"model_type": "deepseek_v3", "n_group": 1, "topk_group": 1}
_SCALING = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
_T5 = {"model_type": "t5", "num_layers": 1, "d_kv": 4, "d_model": 8, "d_ff": 8, "num_heads": 2}
_FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}


@pytest.mark.parametrize(
    ("config", "changes", "named"),
    [
        (_V2, {"norm_topk_prob": True}, "norm_topk_prob is True"),
        (_V2, {"scoring_func": "sigmoid"}, "scoring_func is 'sigmoid'"),
        (_V2, {"topk_method": "noaux_tc"}, "topk_method is 'noaux_tc'"),
        (_V2, {"attention_bias": True}, "attention_bias is True"),
        (_V2, {"num_key_value_heads": 1}, "num_key_value_heads is 1"),
        (_V2, {"moe_layer_freq": 2}, "moe_layer_freq is 2"),
        (_V2, {"rope_scaling": _SCALING | {"mscale": 0.5}}, "mscale is 0.5"),
        (_V2, {"rope_scaling": _SCALING | {"mscale_all_dim": 1.0}}, "mscale is None"),
        (_V3, {"scoring_func": "softmax"}, "scoring_func is 'softmax'"),
        (_V3, {"rope_interleave": False}, "rope_interleave is False"),
        (_V3, {"num_nextn_predict_layers": 10**6}, "1000000 layers that draft"),
        (_T5, {"relative_attention_max_distance": 64}, "relative_attention_max_distance is 64"),
        (_T5, {"feed_forward_proj": "gated-silu"}, "feed_forward_proj is 'gated-silu'"),
        (_T5, {"dense_act_fn": "silu"}, "dense_act_fn is 'silu'"),
        (_V2, {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "'gptq'"),
        (_V2, {"quantization_config": {"quant_method": "bitsandbytes"}}, "'bitsandbytes'"),
        (_V2, {"quantization_config": {"load_in_4bit": True}}, "quant_method is None"),
        (_V2, {"quantization_config": _FP8 | {"weight_block_size": [128, 0]}}, "[128, 0]"),
        (_V2, {"quantization_config": _FP8 | {"fmt": "e5m2"}}, "fmt is 'e5m2'"),
        (_V2, {"quantization_config": _FP8 | {"group": 3}}, "group = 3"),
        (_V2, {"compression_config": {"quant_method": "compressed-tensors"}}, "compressed"),
    ],
)
def test_keys_that_change_the_arithmetic_are_refused_by_name(
    config: dict[str, Any], changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    path = write(tmp_path, config | changes, {"x.weight": np.zeros((2, 2), np.float32)})
    with pytest.raises(MotetError, match=re.escape(named)):
        HuggingFaceDirectory.open(path)


@pytest.mark.parametrize("name", [*T5_CASES, "mt5"])
def test_t5(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs torch, the oracle")
    theirs = random_t5("t5_1_1" if name == "mt5" else name)
    rng = np.random.default_rng(1)
    text, tokens = rng.integers(0, 48, 200), rng.integers(0, 48, 150)
    with torch.no_grad():
        out = theirs(
            input_ids=torch.tensor(text[None]), decoder_input_ids=torch.tensor(tokens[None])
        )
    config = theirs.config.to_dict() | {"torch_dtype": "float32", "dtype": None}
    config = {key: value for key, value in config.items() if value not in (None, {}, [])}
    config["tie_word_embeddings"] = T5_CASES.get(name, T5_CASES["t5_1_1"])["tie_word_embeddings"]
    config["model_type"] = name.removesuffix("_1_1")
    tensors = _tensors(theirs)
    # The embedding stands there under several names, or not under the first.
    tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"]
    tensors["decoder.embed_tokens.weight"] = tensors["shared.weight"]
    if name == "t5":
        del tensors["shared.weight"]
        tensors["lm_head.weight"] = tensors["encoder.embed_tokens.weight"]
    path = write(tmp_path / "whole", config, tensors, shards=2)
    hidden, got = run(_model(path), text, tokens)
    np.testing.assert_allclose(hidden, out.encoder_last_hidden_state[0].numpy(), **NEAR)
    np.testing.assert_allclose(got, out.logits[0].numpy(), **NEAR)
    config["architectures"] = ["T5EncoderModel"]
    alone = {key: value for key, value in tensors.items() if not key.startswith("decoder")}
    alone.pop("lm_head.weight", None)
    batch = Batch()
    batch.extend(text, 0, logits="all")
    encoder = _model(write(tmp_path / "alone", config, alone))
    states = encoder.context().encode(batch).hidden
    assert states is not None and np.array_equal(states, hidden)


@pytest.mark.parametrize("activation", ["relu", "gated-gelu"])
def test_networks_are_of_the_kind_that_is_said(activation: str, tmp_path: Path) -> None:
    own, other = ("wi", "wi_0") if activation == "relu" else ("wi_1", "wi")
    start = "encoder.block.0.layer.1.DenseReluDense."
    config = _T5 | {"feed_forward_proj": activation, "vocab_size": 16}
    matrix = np.zeros((8, 8), np.float32)
    HuggingFaceDirectory.open(write(tmp_path, config, {f"{start}{own}.weight": matrix}))
    with pytest.raises(UnsupportedError, match=f"{other}, of a network with"):
        HuggingFaceDirectory.open(write(tmp_path, config, {f"{start}{other}.weight": matrix}))


def test_heads_that_are_the_embedding_without_its_scale(tmp_path: Path) -> None:
    """As transformers 5 ties them: GGUF says it with a head of its own."""
    rng = np.random.default_rng(0)
    config = _T5 | {"vocab_size": 16, "scale_decoder_outputs": False, "tie_word_embeddings": True}
    tensors = {"shared.weight": rng.normal(size=(16, 8)).astype(np.float32)}
    with HuggingFaceDirectory.open(write(tmp_path, config, tensors)) as source:
        assert np.array_equal(source.raw("output.weight"), source.raw("token_embd.weight"))


@pytest.mark.parametrize("block", [(4, 8), (128, 128), None])
def test_fp8(block: tuple[int, int] | None, tmp_path: Path) -> None:
    """Every byte times its tile's scale, in float32; experts in one tensor; what is left float."""
    rng = np.random.default_rng(0)
    config = _V2 | {"first_k_dense_replace": 1, "num_hidden_layers": 2}
    config["quantization_config"] = {
        "quant_method": "fp8",
        "activation_scheme": "static",
        "weight_block_size": block and list(block),
        "modules_to_not_convert": ["lm_head"],
    }
    name, experts = "model.layers.0.mlp.down_proj.weight", "model.layers.1.mlp.experts.gate_up_proj"
    tensors: dict[str, np.ndarray] = {
        name: rng.integers(0, 0x7F, (16, 24), np.uint8),
        experts: rng.integers(0, 0x7F, (8, 16, 16), np.uint8),
        "lm_head.weight": rng.normal(size=(48, 16)).astype(np.float32),
        "model.layers.0.mlp.down_proj.activation_scale": np.ones((), np.float32),
        "model.layers.1.mlp.experts.gate_up_proj_activation_scale": np.ones((), np.float32),
    }
    rows, columns = block or (1 << 20, 1 << 20)
    scales = {}
    for key in (name, experts):
        *start, n, m = tensors[key].shape
        shape = (*start, -(-n // rows), -(-m // columns)) if block else tuple(start)
        scale = rng.uniform(0.1, 1, shape).astype(np.float32)
        tensors[key + "_scale_inv"] = scale
        whole = scale.reshape(*start, -(-n // rows), -(-m // columns))
        whole = whole.repeat(min(rows, n), axis=-2).repeat(min(columns, m), axis=-1)
        scales[key] = whole[..., :n, :m]
    with HuggingFaceDirectory.open(write(tmp_path, config, tensors)) as source:
        for key, ours in ((name, "blk.0.ffn_down.weight"), (experts, "blk.1.ffn_up_exps.weight")):
            info = source.tensors[ours]
            right = _e4m3(tensors[key]) * scales[key]
            right = right[:, 8:] if key == experts else right
            assert info.shape == right.shape
            values = dequantize(source.raw(ours), info.type).reshape(info.shape)
            assert np.array_equal(values, right)
            assert np.array_equal(source.read_rows(ours, 3, 5), source.raw(ours)[3:5])
        assert "output.weight" in source.tensors


def test_fp8_is_not_read_without_scales(tmp_path: Path) -> None:
    name = "model.layers.0.mlp.down_proj.weight"
    config = _V2 | {"quantization_config": _FP8}
    fp8 = {name: np.zeros((16, 24), np.uint8)}
    with pytest.raises(MotetError, match="F8_E4M3, which holds no weights alone"):
        HuggingFaceDirectory.open(write(tmp_path, config, fp8))
    wrong = fp8 | {name + "_scale_inv": np.ones((3, 2), np.float32)}
    with pytest.raises(MotetError, match=r"has scales \[3, 2\], not \[1, 1\]"):
        HuggingFaceDirectory.open(write(tmp_path, config, wrong))
    floats = {name: np.zeros((16, 24), np.float32), name + "_scale_inv": np.ones((), np.float32)}
    with pytest.raises(MotetError, match="weight_scale_inv"):
        HuggingFaceDirectory.open(write(tmp_path, config, floats))


def _e4m3(codes: np.ndarray) -> np.ndarray:
    exponent, mantissa = codes >> 3, (codes & 7) / 8
    large = (1 + mantissa) * 2.0 ** (exponent.astype(int) - 7)
    return np.where(exponent > 0, large, mantissa * 2.0**-6).astype(np.float32)


def _model(path: Path) -> Model:
    with HuggingFaceDirectory.open(path) as source:
        source.metadata = {**source.metadata, "tokenizer.ggml.model": "no_vocab"}
        return Model(source, KERNELS["native"]())


def saved_deepseek(name: str, folder: Path) -> tuple[Any, np.ndarray]:
    """A random model, saved by transformers, and its logits."""
    torch = pytest.importorskip("torch", reason="needs torch, the oracle")
    transformers = pytest.importorskip("transformers", reason="needs transformers, the oracle")
    from tests.parity.oracle import oracle_logits, random_model

    kind, changes = DEEPSEEK[name]
    config = getattr(transformers, f"Deepseek{kind}Config")(
        **_SIZES, **changes, attn_implementation="eager", dtype=torch.float32
    )
    model = random_model(config, 1)
    with torch.no_grad():
        for key, buffer in model.named_buffers():
            if key.endswith("e_score_correction_bias"):
                buffer.copy_(0.2 * torch.randn_like(buffer))
    model.save_pretrained(folder, max_shard_size="16KB")
    return model, oracle_logits(model, TOKENS)


def _tensors(model: Any) -> dict[str, np.ndarray]:
    tensors = {name: p.detach().numpy() for name, p in model.named_parameters()}
    kept = [key for key, _ in model.named_buffers() if key.endswith("correction_bias")]
    return tensors | {key: dict(model.named_buffers())[key].numpy() for key in kept}
