"""Directories made by tests: safetensors files and config.json, without the library."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from motet.weights.source import ModelSource

_NAMES = {"f4": "F32", "f2": "F16", "f8": "F64", "u1": "F8_E4M3", "u2": "BF16", "i8": "I64"}


def header(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What stands before the tensors' bytes. uint16 is BF16, uint8 is FP8."""
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


def write_gguf(source: ModelSource, path: Path) -> Path:
    """The source's keys and tensors, as a GGUF file."""
    writer = gguf.GGUFWriter(path, source.architecture)
    for key, value in source.metadata.items():
        if key == "general.architecture":
            continue
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
    for name, info in source.tensors.items():
        shape = (*info.shape[:-1], info.row_bytes)
        raw = source.raw(name).reshape(shape)
        writer.add_tensor(name, raw, raw_dtype=gguf.GGMLQuantizationType(info.type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
