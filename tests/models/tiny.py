"""Random GGUF models of a few kilobytes, with any key or tensor changed or left out."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np

from motet.kernels.reference import Reference
from motet.model import Model
from motet.models.keys import Keys
from motet.models.registry import family_of
from motet.models.tensors import TensorChecker, TensorReader
from tests.weights.nvfp4 import nvfp4_blocks

Shapes = dict[str, tuple[int, ...]]

VOCAB = 40

_COMMON = {
    "block_count": 2,
    "context_length": 256,
    "embedding_length": 16,
    "feed_forward_length": 24,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.layer_norm_rms_epsilon": 1e-5,
}
_SCAN = {"ssm.conv_kernel": 4, "ssm.inner_size": 24, "ssm.state_size": 5, "ssm.time_step_rank": 3}
_LAYER_NORMS = {"attention.layer_norm_rms_epsilon": None, "attention.layer_norm_epsilon": 1e-5}
_BOTH_WAYS = {
    "attention.causal": False,
    "attention.head_count_kv": None,
    "attention.layer_norm_rms_epsilon": None,
    "attention.layer_norm_epsilon": 1e-12,
    "pooling_type": 2,
}
_LAYER_NORMS = {"attention.layer_norm_rms_epsilon": None, "attention.layer_norm_epsilon": 1e-5}
_ALONE = {"attention.head_count": 0, "attention.head_count_kv": None, "feed_forward_length": 0}
_T5 = {
    "attention.head_count_kv": None,
    "attention.key_length": 8,
    "attention.value_length": 8,
    "attention.relative_buckets_count": 8,
}
_DELTA = {
    "block_count": 4,
    "full_attention_interval": 2,
    "rope.dimension_count": 2,
    "ssm.conv_kernel": 4,
    "ssm.state_size": 12,
    "ssm.group_count": 2,
    "ssm.time_step_rank": 4,
    "ssm.inner_size": 28,
    # What the first tokens find in their states is small, and their rounding would show.
    "attention.layer_norm_rms_epsilon": 1e-3,
}
_DELTA_EXPERTS = {
    "expert_count": 4,
    "expert_used_count": 2,
    "expert_feed_forward_length": 12,
    "expert_shared_feed_forward_length": 8,
}
_OWN = {
    "llama": {"rope.freq_base": 10000.0},
    "qwen2": {"rope.freq_base": 10000.0},
    "qwen3": {"rope.freq_base": 1e6, "attention.key_length": 8, "attention.value_length": 8},
    "qwen3moe": {
        "attention.key_length": 8,
        "attention.value_length": 8,
        "expert_count": 4,
        "expert_used_count": 2,
        "expert_feed_forward_length": 12,
    },
    "smollm3": {"block_count": 4},
    "granite": {
        "attention.scale": 0.3,
        "embedding_scale": 3.0,
        "residual_scale": 0.5,
        "logit_scale": 2.0,
    },
    "mistral3": {
        "attention.temperature_scale": 0.3,
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 4.0,
        "rope.scaling.original_context_length": 8,
        "rope.scaling.yarn_log_multiplier": 1.0,
    },
    "phi3": {"attention.sliding_window": 8, "rope.scaling.original_context_length": 64},
    "glm4": {"rope.dimension_count": 2},
    "olmo2": {"block_count": 4, "attention.sliding_window": 8},
    "gemma": {"attention.key_length": 8, "attention.value_length": 8},
    "gemma2": {"attention.sliding_window": 8},
    "gemma3": {"attention.sliding_window": 8, "rope.freq_base": 1e6},
    "gemma4": {
        "block_count": 4,
        "feed_forward_length": [24, 24, 32, 32],
        "attention.head_count_kv": [2, 1, 2, 1],
        "attention.key_length": 16,
        "attention.value_length": 16,
        "attention.key_length_swa": 8,
        "attention.value_length_swa": 8,
        "attention.sliding_window": 8,
        "attention.sliding_window_pattern": [True, False] * 2,
        "attention.shared_kv_layers": 2,
        "embedding_length_per_layer_input": 16,
        "rope.freq_base": 1e6,
        "rope.freq_base_swa": 10000.0,
        "rope.dimension_count_swa": 8,
        "final_logit_softcapping": 30.0,
        "expert_count": 4,
        "expert_used_count": 2,
        "expert_feed_forward_length": 12,
    },
    "mamba": _SCAN | _ALONE,
    "mamba2": _SCAN | _ALONE | {"ssm.time_step_rank": 6, "ssm.group_count": 2},
    "jamba": _SCAN
    | {"block_count": 4, "attention.head_count_kv": [0, 2, 0, 1]}
    | {"expert_count": 4, "expert_used_count": 2},
    "deepseek2": {
        "block_count": 3,
        "attention.head_count_kv": 1,
        "attention.key_length": 12,
        "attention.value_length": 8,
        "attention.key_length_mla": 10,
        "attention.value_length_mla": 6,
        "attention.kv_lora_rank": 8,
        "attention.q_lora_rank": 6,
        "rope.dimension_count": 4,
        "leading_dense_block_count": 1,
        "expert_count": 8,
        "expert_used_count": 3,
        "expert_feed_forward_length": 12,
        "expert_shared_count": 1,
        "expert_gating_func": 2,
        "expert_group_count": 4,
        "expert_group_used_count": 2,
        "expert_weights_norm": True,
        "expert_weights_scale": 2.5,
    },
    "glm4moe": {
        "rope.dimension_count": 2,
        "leading_dense_block_count": 1,
        "expert_count": 4,
        "expert_used_count": 2,
        "expert_feed_forward_length": 12,
        "expert_shared_count": 1,
        "expert_gating_func": 2,
        "expert_weights_norm": True,
    },
    "gpt-oss": {
        "block_count": 4,
        "attention.key_length": 8,
        "attention.value_length": 8,
        "attention.sliding_window": 8,
        "expert_count": 4,
        "expert_used_count": 2,
        "expert_feed_forward_length": 12,
        "rope.freq_base": 1000.0,
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 4.0,
        "rope.scaling.original_context_length": 64,
    },
    "granitehybrid": _SCAN
    | {"ssm.time_step_rank": 6, "ssm.group_count": 2, "rope.scaling.finetuned": False}
    | {"attention.scale": 0.3, "embedding_scale": 3.0, "residual_scale": 0.5, "logit_scale": 2.0}
    | {"block_count": 4, "attention.head_count_kv": [0, 2, 0, 1]}
    | {"expert_count": 4, "expert_used_count": 2, "expert_shared_feed_forward_length": 12},
    "falcon-h1": _SCAN | {"ssm.time_step_rank": 6, "ssm.group_count": 2},
    "nemotron_h": _SCAN
    | {"ssm.time_step_rank": 6, "ssm.group_count": 2, "rope.scaling.finetuned": False}
    | {"block_count": 4, "attention.head_count_kv": [0, 2, 0, 0]}
    | {"feed_forward_length": [0, 0, 24, 0], "attention.layer_norm_epsilon": 1e-5},
    "nemotron_h_moe": _SCAN
    | {"ssm.time_step_rank": 6, "ssm.group_count": 2, "rope.scaling.finetuned": False}
    | {"block_count": 4, "attention.head_count_kv": [0, 2, 0, 0]}
    | {"feed_forward_length": [0, 0, 12, 0], "attention.layer_norm_epsilon": 1e-5}
    | {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 12}
    | {"expert_shared_feed_forward_length": 20, "expert_shared_count": 1, "moe_latent_size": 8}
    | {"expert_weights_norm": True, "expert_weights_scale": 2.5},
    "lfm2": {
        "block_count": 4,
        "attention.head_count_kv": [0, 2, 0, 1],
        "shortconv.l_cache": 3,
    },
    "lfm2moe": {
        "block_count": 4,
        "attention.head_count_kv": [0, 2, 0, 1],
        "shortconv.l_cache": 3,
        "leading_dense_block_count": 1,
        "expert_count": 4,
        "expert_used_count": 2,
        "expert_feed_forward_length": 12,
        "expert_gating_func": 2,
    },
    "qwen3next": _DELTA | _DELTA_EXPERTS,
    "qwen35": _DELTA
    | {"attention.recurrent_layers": [True, True, False, True]}
    | {"rope.dimension_sections": [1, 0, 0, 0]},
    "qwen35moe": _DELTA
    | _DELTA_EXPERTS
    | {"feed_forward_length": None, "rope.dimension_sections": [1, 0, 0, 0]},
    "kimi-linear": {
        "block_count": 4,
        "attention.head_count_kv": [0, 1, 0, 1],
        "attention.key_length": 12,
        "attention.value_length": 7,
        "attention.key_length_mla": 10,
        "attention.value_length_mla": 6,
        "attention.kv_lora_rank": 8,
        "rope.dimension_count": 4,
        "ssm.conv_kernel": 4,
        "kda.head_dim": 6,
        "attention.layer_norm_rms_epsilon": 1e-3,
        "leading_dense_block_count": 1,
        "expert_count": 4,
        "expert_used_count": 2,
        "expert_feed_forward_length": 12,
        "expert_shared_count": 1,
        "expert_gating_func": 2,
        "expert_weights_scale": 2.5,
    },
    "openelm": {
        "attention.head_count": [2, 4],
        "attention.head_count_kv": [1, 2],
        "attention.key_length": 8,
        "feed_forward_length": [24, 32],
    },
    "mpt": _LAYER_NORMS
    | {"attention.head_count_kv": None}
    | {"attention.max_alibi_bias": 8.0, "attention.clamp_kqv": 1.5},
    "gpt2": _LAYER_NORMS | {"attention.head_count_kv": None},
    "starcoder2": _LAYER_NORMS | {"rope.freq_base": 10000.0},
    "rwkv6": _LAYER_NORMS
    | {
        "attention.head_count": 0,
        "attention.head_count_kv": None,
        "wkv.head_size": 8,
        "time_mix_extra_dim": 3,
        "time_decay_extra_dim": 5,
    },
    "rwkv7": _LAYER_NORMS
    | {
        "attention.head_count": 0,
        "attention.head_count_kv": None,
        "wkv.head_size": 8,
        "attention.decay_lora_rank": 3,
        "attention.iclr_lora_rank": 4,
        "attention.value_residual_mix_lora_rank": 5,
        "attention.gate_lora_rank": 6,
    },
    "bert": _BOTH_WAYS,
    "jina-bert-v2": _BOTH_WAYS | {"pooling_type": 1},
    "nomic-bert": _BOTH_WAYS | {"pooling_type": 1, "rope.freq_base": 1000.0},
    "modern-bert": _BOTH_WAYS | {"block_count": 4, "attention.sliding_window": 8},
    "gemma-embedding": {
        "attention.causal": False,
        "attention.sliding_window": 8,
        "block_count": 7,
        "pooling_type": 1,
        "rope.freq_base": 1e6,
    },
    "t5encoder": _T5 | {"attention.causal": False, "pooling_type": 1},
    "t5": _T5 | {"decoder_block_count": 3, "decoder_start_token_id": 0},
}
ARCHITECTURES = tuple(_OWN)
ENCODERS = ("bert", "jina-bert-v2", "nomic-bert", "modern-bert", "gemma-embedding", "t5encoder")
DECODERS = tuple(name for name in ARCHITECTURES if name not in (*ENCODERS, "t5"))
"""Without encoder-decoders."""
NOT_EXTENDED = {
    "gpt2": "a learned vector for each place",
    **dict.fromkeys(("mamba", "mamba2", "rwkv6", "rwkv7"), "is recurrent"),
    **dict.fromkeys(
        ("jamba", "granitehybrid", "nemotron_h", "nemotron_h_moe", "kimi-linear"),
        "attends without positions",
    ),
    **dict.fromkeys(("gemma3", "phi3"), "has sliding layers alone"),
}
"""Those that Self-Extend means nothing to, and what is said of them."""


def metadata(architecture: str, **changes: Any) -> dict[str, Any]:
    """A tiny model's keys. A change names its key with ``__`` for the dot; None leaves it out."""
    keys: dict[str, Any] = _COMMON | _OWN[architecture]
    keys |= {name.replace("__", "."): value for name, value in changes.items()}
    return {
        "general.architecture": architecture,
        "tokenizer.ggml.model": "no_vocab",
        **{f"{architecture}.{name}": value for name, value in keys.items() if value is not None},
    }


_IN_SOME = "ffn_gate_inp.weight", "attn_v.weight", "layer_output_scale.weight"


class Required(TensorChecker):
    """Records the tensors that a model has to have, and some others in every other layer."""

    def __init__(self) -> None:
        super().__init__({})
        self.index = 0

    def block(self, index: int, half: str = "") -> TensorReader:
        reader = super().block(index, half)
        assert isinstance(reader, Required)
        reader.index = index
        return reader

    def has(self, name: str) -> bool:
        return name in _IN_SOME and self.index % 2 == 1


def declare(config: Any) -> tuple[Any, Shapes]:
    """The family with these settings, without weights, and the tensors that it has to have."""
    required = Required()
    family = family_of(config.architecture)(config, required, Reference())
    return family, required.declared


def shapes(keys: dict[str, Any]) -> Shapes:
    """The tensors that a model with these keys has to have."""
    architecture = keys["general.architecture"]
    n_vocab = len(keys.get("tokenizer.ggml.tokens", range(VOCAB)))
    config = family_of(architecture).read_config(Keys(keys, architecture), n_vocab)
    return declare(config)[1]


def write(
    path: Path,
    keys: dict[str, Any],
    tensors: Shapes | None = None,
    types: Mapping[str, type | gguf.GGMLQuantizationType] = MappingProxyType({}),
) -> Path:
    """A GGUF file with random tensors: by default those that the keys call for.

    They are F32 unless ``types`` says otherwise. A scan's rates are negative, and what frequencies
    are divided by is positive, as always.
    """
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, keys["general.architecture"])
    add_keys(writer, keys)
    for name, shape in (shapes(keys) if tensors is None else tensors).items():
        values = rng.standard_normal(shape) / np.sqrt(shape[-1])
        values += "norm" in name
        if name.endswith("ssm_a"):
            values = -np.abs(values)
        if name == "rope_freqs.weight":
            values = 1 + np.abs(values)
        kind = types.get(name, np.float32)
        if isinstance(kind, gguf.GGMLQuantizationType):
            is_nvfp4 = kind is gguf.GGMLQuantizationType.NVFP4  # which gguf does not make
            blocks = nvfp4_blocks(values) if is_nvfp4 else gguf.quants.quantize(values, kind)
            writer.add_tensor(name, blocks, raw_dtype=kind)
        else:
            writer.add_tensor(name, values.astype(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def load(folder: Path, architecture: str, threads: int = 1, **changes: Any) -> Model:
    """The tiny model of an architecture, loaded; ``changes`` as in ``metadata``."""
    path = folder / f"{architecture}.gguf"
    return Model.load(write(path, metadata(architecture, **changes)), threads)


def add_keys(writer: gguf.GGUFWriter, keys: Mapping[str, Any]) -> None:
    """All but the architecture, which the writer has."""
    for key, value in keys.items():
        if key != "general.architecture":
            _add(writer, key, value)


def _add(writer: Any, key: str, value: Any) -> None:
    kinds = {
        bool: gguf.GGUFValueType.BOOL,
        int: gguf.GGUFValueType.UINT32,
        float: gguf.GGUFValueType.FLOAT32,
        str: gguf.GGUFValueType.STRING,
    }
    if isinstance(value, list):
        writer.add_key_value(key, value, gguf.GGUFValueType.ARRAY)
    else:
        writer.add_key_value(key, value, kinds[type(value)])
