"""Directories made by tests: safetensors files and config.json, without the library."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_NAMES = {"f4": "F32", "f2": "F16", "f8": "F64", "u1": "F8_E4M3", "u2": "BF16", "i8": "I64"}
_NAMES["i1"] = "U8"


def header(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What stands before the tensors' bytes. uint16 is BF16, uint8 is FP8, int8 is bytes."""
    entries, at = {}, 0
    for name, tensor in tensors.items():
        dtype = _NAMES[tensor.dtype.str[1:]]
        offsets = [at, at + tensor.nbytes]
        entries[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        at += tensor.nbytes
    return entries


def safetensors(tensors: Mapping[str, np.ndarray], head: Any = None) -> bytes:
    """A file's bytes; ``head`` in place of its own header."""
    head = head if isinstance(head, bytes) else json.dumps(head or header(tensors)).encode()
    data = b"".join(np.ascontiguousarray(tensor).tobytes() for tensor in tensors.values())
    return len(head).to_bytes(8, "little") + head + data


def write(
    folder: Path, config: dict[str, Any], tensors: Mapping[str, np.ndarray], shards: int = 1
) -> Path:
    """A directory of so many files of tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        (folder / "model.safetensors").write_bytes(safetensors(tensors))
        return folder
    listed = {}
    for i in range(shards):
        name = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        own = {key: tensors[key] for key in list(tensors)[i::shards]}
        (folder / name).write_bytes(safetensors(own))
        listed |= dict.fromkeys(own, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))
    return folder
