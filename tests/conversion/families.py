"""Models of every family, as keys and shapes, in sizes at which mixtures differ."""

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from xxhash import xxh3_128

from motet.conversion.mixes import Wishes
from motet.weights.formats import TensorType
from motet.weights.gguf import GGUFFile
from motet.weights.source import TensorInfo
from tests.models import tiny

_WIDE = {"embedding_length": 256, "feed_forward_length": 512, "block_count": 9}
_SCAN = {"ssm__inner_size": 512, "ssm__state_size": 16, "ssm__time_step_rank": 16}
_DELTA = {"block_count": 8, "ssm__state_size": 64, "ssm__inner_size": 256}
_OWN: dict[str, dict[str, Any]] = {
    "mamba": _SCAN | {"feed_forward_length": 0},
    "mamba2": _SCAN | {"feed_forward_length": 0, "ssm__time_step_rank": 8},
    "jamba": _SCAN | {"block_count": 8, "attention__head_count_kv": [0, 2, 0, 1, 0, 4, 0, 2]},
    "granitehybrid": _SCAN
    | {"block_count": 8, "attention__head_count_kv": [0, 2, 0, 1, 0, 4, 0, 2]}
    | {"ssm__time_step_rank": 8, "expert_shared_feed_forward_length": 256},
    "falcon-h1": _SCAN | {"ssm__time_step_rank": 8},
    "nemotron_h": _SCAN
    | {"block_count": 8, "attention__head_count_kv": [0, 2, 0, 0, 0, 4, 0, 0]}
    | {"ssm__time_step_rank": 8, "feed_forward_length": [0, 0, 512, 0, 512, 0, 512, 512]},
    "nemotron_h_moe": _SCAN
    | {"block_count": 8, "attention__head_count_kv": [0, 2, 0, 0, 0, 4, 0, 0]}
    | {"ssm__time_step_rank": 8, "feed_forward_length": [0, 0, 256, 0, 256, 0, 256, 256]}
    | {"expert_feed_forward_length": 256, "expert_shared_feed_forward_length": 512}
    | {"moe_latent_size": 256},
    "lfm2": {"block_count": 8, "attention__head_count_kv": [0, 2, 0, 1, 0, 4, 0, 2]},
    "lfm2moe": {"block_count": 8, "attention__head_count_kv": [0, 2, 0, 1, 0, 4, 0, 2]}
    | {"expert_feed_forward_length": 256},
    "qwen3next": {"expert_feed_forward_length": 256, "expert_shared_feed_forward_length": 256}
    | _DELTA,
    "qwen35": _DELTA | {"attention__recurrent_layers": None},
    "qwen35moe": {"expert_feed_forward_length": 256, "expert_shared_feed_forward_length": 256}
    | _DELTA
    | {"feed_forward_length": None},
    "kimi-linear": {
        "block_count": 8,
        "attention__head_count_kv": [0, 1, 0, 1, 0, 1, 0, 1],
        "attention__key_length": 288,
        "attention__key_length_mla": 96,
        "attention__value_length_mla": 64,
        "attention__kv_lora_rank": 256,
        "rope__dimension_count": 32,
        "kda__head_dim": 64,
        "expert_feed_forward_length": 256,
    },
    "qwen3moe": {"expert_feed_forward_length": 256},
    "glm4moe": {"expert_feed_forward_length": 256},
    "gpt-oss": {"expert_feed_forward_length": 256},
    "gemma4": {
        "block_count": 8,
        "feed_forward_length": [512] * 6 + [768] * 2,
        "attention__head_count_kv": [4, 1] * 4,
        "attention__sliding_window_pattern": [True, False] * 4,
        "attention__key_length": 128,
        "attention__value_length": 128,
        "attention__key_length_swa": 64,
        "attention__value_length_swa": 64,
        "embedding_length_per_layer_input": 256,
        "expert_feed_forward_length": 256,
    },
    "rwkv6": {"wkv__head_size": 64},
    "rwkv7": {"wkv__head_size": 64},
    "openelm": {
        "block_count": 2,
        "feed_forward_length": [512, 768],
        "attention__key_length": 64,
    },
    "deepseek2": {
        "attention__key_length": 288,
        "attention__value_length": 256,
        "attention__key_length_mla": 96,
        "attention__value_length_mla": 64,
        "attention__kv_lora_rank": 256,
        "attention__q_lora_rank": 128,
        "rope__dimension_count": 32,
        "expert_feed_forward_length": 256,
    },
    "gemma-embedding": {"block_count": 9},
    "modern-bert": {"block_count": 8},
}
_GROUPED = {"attention__head_count": 8, "attention__head_count_kv": 2}
_SPECIAL: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, grouped": ("llama", _WIDE | _GROUPED | {"block_count": 34}),
    "llama, one head for all": (
        "llama",
        _WIDE | {"attention__head_count": 1, "attention__head_count_kv": 1},
    ),
    "llama, odd rows": ("llama", _WIDE | {"embedding_length": 320, "feed_forward_length": 408}),
    "llama, 70B": ("llama", _WIDE | _GROUPED | {"block_count": 80}),
    "qwen2, 72B": ("qwen2", _WIDE | _GROUPED | {"block_count": 80}),
    "mixtral, 8": ("llama", _WIDE | _GROUPED | {"expert_count": 8, "expert_used_count": 2}),
    "mixtral, 4": ("llama", _WIDE | {"expert_count": 4, "expert_used_count": 2}),
}
_UNTIED = ("llama, grouped", "mixtral, 8", "llama, odd rows")
OPTIONS: dict[str, tuple[list[str], Wishes]] = {
    "pure": (["--pure"], Wishes(pure=True)),
    "leave output": (["--leave-output-tensor"], Wishes(leave_output=True)),
    "output": (["--output-tensor-type", "q5_0"], Wishes(output=TensorType.Q5_0)),
    "embedding": (["--token-embedding-type", "q4_1"], Wishes(embedding=TensorType.Q4_1)),
    "tensors": (
        ["--tensor-type", r"blk\.[13]\.ffn_down=q8_0", "--tensor-type", "ffn_(up|down)=iq4_nl"],
        Wishes(
            tensors=[
                (re.compile(r"blk\.[13]\.ffn_down"), TensorType.Q8_0),
                (re.compile("ffn_(up|down)"), TensorType.IQ4_NL),
            ]
        ),
    ),
}
"""What llama-quantize calls a wish."""
IMPORTANT = "importance matrix"
WISHING = ("llama, grouped", "llama, odd rows", "gemma2")
MIXES_WISHED = ("Q8_0", "Q5_0", "Q4_K_M", "Q4_0", "IQ4_NL", "Q2_K", "MXFP4_MOE", "TQ1_0")
"""Models and mixtures that are asked for with each of these. (Of F32, F16 and BF16 llama-quantize
passes over --tensor-type.)"""


def models() -> Iterator[tuple[str, dict[str, Any], dict[str, tuple[int, ...]]]]:
    """Name, keys and shapes of each."""
    chosen = {name: (name, _WIDE | _OWN.get(name, {})) for name in tiny.ARCHITECTURES} | _SPECIAL
    for name, (architecture, changes) in chosen.items():
        keys = tiny.metadata(architecture, **changes)
        shapes = tiny.shapes(keys)
        if name in _UNTIED:
            shapes["output.weight"] = shapes["token_embd.weight"]
        yield name, keys, shapes


def infos(shapes: dict[str, tuple[int, ...]]) -> dict[str, TensorInfo]:
    """Tensors of these shapes, in F32."""
    return {name: TensorInfo(name, shape, TensorType.F32) for name, shape in shapes.items()}


def spelled(types: Mapping[str, str]) -> str:
    """Types by name as one text: of each kind of tensor those of its layers, ``3*Q4_K 2*Q6_K``."""

    def kind(name: str) -> tuple[str, list[int]]:
        return re.sub(r"\d+", "#", name), [int(number) for number in re.findall(r"\d+", name)]

    runs = groupby(types[name] for name in sorted(types, key=kind))
    return " ".join(f"{len(list(run))}*{type}" for type, run in runs)


_SMALL = {"embedding_length": 64, "feed_forward_length": 96, "block_count": 2}
_RANDOM = {
    "llama": ("llama", {}),
    "llama, wide": ("llama", {"embedding_length": 256, "block_count": 1}),
    "mixtral": ("llama", {"expert_count": 8, "expert_used_count": 2}),
    "gemma2": ("gemma2", {}),
    "mamba": ("mamba", {"ssm__inner_size": 128, "feed_forward_length": 0}),
    "rwkv6": ("rwkv6", {}),
    "deepseek2": ("deepseek2", {}),
    "bert": ("bert", {}),
    "t5": ("t5", {}),
}


def random_models(folder: Path) -> Iterator[tuple[str, Path]]:
    """Files of random weights in F32."""
    for name, (architecture, changes) in _RANDOM.items():
        keys = tiny.metadata(architecture, **(_SMALL | changes))
        yield name, tiny.write(folder / f"{name}.gguf", keys)


def wide_model(folder: Path, name: str) -> Path:
    """A file of random weights in F32, of rows that K-quants fit."""
    architecture, changes = _RANDOM[name]
    changes = _WIDE | _OWN.get(name, {}) | changes | {"block_count": 2}
    return tiny.write(folder / f"{name}.gguf", tiny.metadata(architecture, **changes))


def digest(path: Path) -> str:
    """Of the names, types, shapes and bytes of a file's tensors."""
    found = xxh3_128()
    with GGUFFile.open(path) as file:
        for name, info in sorted(file.tensors.items()):
            found.update(f"{name} {info.type.name} {info.shape}".encode())
            found.update(file.raw(name).tobytes())
    return found.hexdigest()
