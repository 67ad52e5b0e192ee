"""Directories of golden GGUF files of kinds that have none, or no class in transformers."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from motet.weights.formats import dequantize
from motet.weights.gguf import GGUFFile
from tests.huggingface.making import write

_BERT = {
    "token_embd_norm": "embeddings.LayerNorm",
    "position_embd": "embeddings.position_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "token_embd": "embeddings.word_embeddings",
    "attn_output_norm": "attention.output.LayerNorm",
    "layer_output_norm": "output.LayerNorm",
    "attn_output": "attention.output.dense",
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
}
_MPT = {
    "token_embd": "wte",
    "output_norm": "norm_f",
    "attn_qkv": "attn.Wqkv",
    "attn_output": "attn.out_proj",
    "ffn_up": "ffn.up_proj",
    "ffn_down": "ffn.down_proj",
    "attn_norm": "norm_1",
    "ffn_norm": "norm_2",
}
_OPENELM = {
    "token_embd": "token_embeddings",
    "output_norm": "norm",
    "attn_qkv": "attn.qkv_proj",
    "attn_q_norm": "attn.q_norm",
    "attn_k_norm": "attn.k_norm",
    "attn_output": "attn.out_proj",
    "ffn_gate": "ffn.proj_1",
    "ffn_down": "ffn.proj_2",
    "attn_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
}
NAMES = {
    "bert": (_BERT, "", "encoder.layer"),
    "mpt": (_MPT, "transformer.", "transformer.blocks"),
    "openelm": (_OPENELM, "transformer.", "transformer.layers"),
}
"""Names of modules; what stands before those of no layer, and before the number of a layer."""


def values(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a GGUF file, as float32."""
    with GGUFFile.open(path) as file:
        return {
            name: dequantize(file.raw(name), info.type).reshape(info.shape)
            for name, info in file.tensors.items()
        }


def write_inverted(golden: Path, folder: Path, pooling: str | None = None) -> Path:
    """The directory that golden/model.gguf would have come from."""
    config: dict[str, Any] = json.loads((golden / "meta.json").read_text())["config"]
    names, outside, layers = NAMES[config["model_type"]]
    tensors = values(golden / "model.gguf")
    found = {}
    for name, tensor in tensors.items():
        within = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(\w+)", name)
        if within is None:
            module, end = name.rsplit(".", 1)
            found[f"{outside}{names[module]}.{end}"] = tensor
        elif config["model_type"] != "openelm" or within[2] not in ("ffn_gate", "ffn_up"):
            found[f"{layers}.{within[1]}.{names[within[2]]}.{within[3]}"] = tensor
        elif within[2] == "ffn_gate":
            up = tensors[name.replace("ffn_gate", "ffn_up")]
            found[f"{layers}.{within[1]}.ffn.proj_1.weight"] = np.concatenate([tensor, up])
    write(folder, config, found)
    if pooling is not None:
        write_pooling(folder, pooling)
    return folder


def write_pooling(folder: Path, mode: str) -> None:
    """sentence-transformers' files for a pooling, "mean", "cls" or "lasttoken"."""
    kind = "sentence_transformers.models."
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": kind + "Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": kind + "Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": kind + "Normalize"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": mode}))
