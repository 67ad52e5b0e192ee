"""Directories with NVFP4 matrices, as ModelOpt and compressed-tensors store them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet.errors import MotetError
from motet.huggingface import HuggingFaceDirectory
from motet.kernels.reference import Reference
from motet.model import Model
from motet.weights.formats import TensorType, dequantize
from tests.huggingface.making import write

CONFIG = {
    "model_type": "qwen3_moe",
    "hidden_size": 64,
    "intermediate_size": 64,
    "moe_intermediate_size": 32,
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "norm_topk_prob": True,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "vocab_size": 40,
    "tie_word_embeddings": True,
}
MODELOPT = {
    "quant_method": "modelopt",
    "quant_algo": "NVFP4",
    "ignore": ["lm_head"],
    "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 16}}},
    "kv_cache_scheme": {"num_bits": 8, "type": "float"},
    "producer": {"name": "modelopt", "version": "0.29"},
}
COMPRESSED = {
    "quant_method": "compressed-tensors",
    "format": "nvfp4-pack-quantized",
    "quantization_status": "compressed",
    "global_compression_ratio": None,
    "config_groups": {"group_0": {"format": "nvfp4-pack-quantized"}},
    "ignore": ["lm_head"],
    "version": "0.11",
}
SIZES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])


def matrix(rows: int, columns: int, seed: int) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Values two in a byte, scales, the matrix's, and what they stand for in float64."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 16, (rows, columns))
    scales = rng.integers(0, 0x7F, (rows, columns // 16)).astype(np.uint8)
    whole = float(np.float32(rng.uniform(1e-4, 1e-3)))
    pairs = (codes[:, ::2] | codes[:, 1::2] << 4).astype(np.uint8).view(np.int8)
    exponent, mantissa = scales >> 3, (scales & 7) / 8
    steps = np.where(exponent > 0, (1 + mantissa) * 2.0 ** (exponent - 7.0), mantissa * 2.0**-6)
    values = np.where(codes > 7, -SIZES[codes % 8], SIZES[codes % 8])
    return pairs, scales, whole, values * steps.repeat(16, axis=1)


def checkpoint(compressed: bool) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Tensors, and by GGUF's names what the quantised ones stand for."""
    block = "model.layers.0."
    sizes = {f"self_attn.{x}_proj": ((64, 64), f"attn_{y}")
             for x, y in zip("qkvo", ("q", "k", "v", "output"), strict=True)}  # fmt: skip
    for e in range(2):
        for name, size in {"gate": (32, 64), "up": (32, 64), "down": (64, 32)}.items():
            sizes[f"mlp.experts.{e}.{name}_proj"] = size, f"ffn_{name}_exps"
    ones = {"input_layernorm": 64, "post_attention_layernorm": 64}
    ones |= {"self_attn.q_norm": 32, "self_attn.k_norm": 32}
    rng = np.random.default_rng(1)
    tensors = {f"{block}{name}.weight": np.ones(n, np.float32) for name, n in ones.items()}
    tensors["model.norm.weight"] = np.ones(64, np.float32)
    tensors["model.embed_tokens.weight"] = rng.standard_normal((40, 64)).astype(np.float32)
    tensors[f"{block}mlp.gate.weight"] = rng.standard_normal((2, 64)).astype(np.float32)
    tensors |= {f"{block}self_attn.k_proj.k_scale": np.asarray(np.float32(1))}
    expected: dict[str, Any] = {}
    for seed, (name, (size, ours)) in enumerate(sizes.items()):
        pairs, scales, whole, values = matrix(*size, seed)
        stem, number = f"{block}{name}.", np.float32(whole)
        if compressed:
            number = 1 / number
            parts = {"weight_packed": pairs, "weight_global_scale": number.reshape(1)}
            parts["input_global_scale"] = np.ones(1, np.float32)
            number = 1 / number
        else:
            parts = {"weight": pairs, "weight_scale_2": number, "input_scale": np.float32(1)}
        tensors |= {stem + end: np.asarray(part) for end, part in parts.items()}
        tensors[f"{stem}weight_scale"] = scales
        values = (values * np.float64(number)).astype(np.float32)
        expected.setdefault(f"blk.0.{ours}.weight", []).append(values)
    return tensors, {n: np.stack(v) if "exps" in n else v[0] for n, v in expected.items()}


@pytest.mark.parametrize("compressed", [False, True])
def test_values(compressed: bool, tmp_path: Path) -> None:
    tensors, expected = checkpoint(compressed)
    config = CONFIG | {"quantization_config": COMPRESSED if compressed else MODELOPT}
    with HuggingFaceDirectory.open(write(tmp_path, config, tensors)) as source:
        for name, values in expected.items():
            info = source.tensors[name]
            assert (info.type, info.shape) == (TensorType.F32, values.shape)
            found = dequantize(source.raw(name), info.type).reshape(info.shape)
            if name.endswith(("attn_q.weight", "attn_k.weight")):
                assert np.array_equal(np.sort(found, axis=0), np.sort(values, axis=0))
            else:
                assert np.array_equal(found, values), name
            assert np.array_equal(source.read_rows(name, 3, 5), source.raw(name)[3:5])
        source.metadata = {**source.metadata, "tokenizer.ggml.model": "no_vocab"}
        assert Model(source, Reference()).n_vocab == 40


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (MODELOPT | {"quant_algo": "FP8"}, "quant_algo is 'FP8'"),
        (MODELOPT | {"quant_algo": "W4A8_AWQ"}, "quant_algo is 'W4A8_AWQ'"),
        (COMPRESSED | {"format": "pack-quantized"}, "format is 'pack-quantized'"),
        (COMPRESSED | {"transform_config": {"config_groups": {"u": {}}}}, "transform_config is"),
        (MODELOPT | {"pre_quant_scale": True}, "pre_quant_scale = True"),
    ],
)
def test_other_ways_are_refused(changes: dict[str, Any], named: str, tmp_path: Path) -> None:
    compressed = changes["quant_method"] == "compressed-tensors"
    folder = write(tmp_path, CONFIG | {"quantization_config": changes}, checkpoint(compressed)[0])
    with pytest.raises(MotetError, match=named):
        HuggingFaceDirectory.open(folder)


@pytest.mark.parametrize(
    ("end", "tensor", "named"),
    [
        ("weight_scale", np.ones((64, 5), np.uint8), "no NVFP4"),
        ("weight_scale", np.ones((64, 4), np.float32), "no NVFP4"),
        ("weight_scale_2", np.ones(3, np.float32), "is 3 numbers"),
        ("weight_scale_2", None, "no weights alone|weight_scale"),
        ("pre_quant_scale", np.ones(64, np.float32), "pre_quant_scale"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    end: str, tensor: np.ndarray | None, named: str, tmp_path: Path
) -> None:
    tensors, _ = checkpoint(False)
    name = f"model.layers.0.self_attn.v_proj.{end}"
    tensors = {n: each for n, each in (tensors | {name: tensor}).items() if each is not None}
    with pytest.raises(MotetError, match=named):
        HuggingFaceDirectory.open(
            write(tmp_path, CONFIG | {"quantization_config": MODELOPT}, tensors)
        )
