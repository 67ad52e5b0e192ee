"""Facts about a model file for ``motet show``: sizes, tensors, memory of a context, positions.

What a model caches and how it encodes positions is read from the configuration of its family, so
both are known of those architectures alone that Motet runs.
"""

import math
from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np

from motet.errors import MotetError, UnsupportedError
from motet.kernels.reference import Reference
from motet.memory.budget import context_memory, default_kv_bytes
from motet.models.config import AttentionConfig, Config, RotaryConfig
from motet.models.family import Family
from motet.models.registry import FAMILIES, declared
from motet.models.tensors import only_f32
from motet.runnable import Decodes, Encodes
from motet.self_extend import AutoExtend, check_reach, require_positions
from motet.weights.gguf_tensors import GGUFTensor
from motet.weights.source import ModelSource, TensorInfo

TIMES = (2, 4, 8, 16)
"""Contexts for which Self-Extend's choice is shown, in trained lengths."""
_ROUTER = ".ffn_gate_inp.weight"
"""Of a layer that is a mixture of experts."""
_ENCODINGS = {
    "alibi": "ALiBi",
    "learned": "learned, a vector for each",
    "relative": "relative, a learned bias by distance",
}
"""Of ``Config.positional``, where more is to be said."""

Facts = dict[str, Any]
"""What ``--json`` prints."""


def model_facts(file: ModelSource, tokens: int | None, kv_type: str) -> Facts:
    """Everything that is shown by default.

    ``tokens``: of the context whose memory is asked; None for the trained length.
    """
    architecture = file.metadata.get("general.architecture")

    def own(name: str) -> Any:
        return file.metadata.get(f"{architecture}.{name}")

    vocabulary = file.metadata.get("tokenizer.ggml.tokens")
    embedding = file.tensors.get("token_embd.weight")
    trained = own("context_length")
    if tokens is None and isinstance(trained, int) and trained > 0:
        tokens = trained
    family: Family[Config] | MotetError
    try:
        family = read_family(file)
    except MotetError as error:
        family = error
    return {
        "path": file.path,
        "files": file.files,
        "bytes": file.nbytes,
        "format": file.format,
        "architecture": architecture,
        "name": file.metadata.get("general.name"),
        "parameters": sum(math.prod(info.shape) for info in file.tensors.values()),
        "layers": own("block_count"),
        "draft_layers": own("nextn_predict_layers") or 0,
        "decoder_layers": own("decoder_block_count"),
        "d_model": own("embedding_length"),
        "feed_forward": own("feed_forward_length"),
        "heads": own("attention.head_count"),
        "kv_heads": own("attention.head_count_kv"),
        "key_length": own("attention.key_length"),
        "value_length": own("attention.value_length"),
        "sliding_window": own("attention.sliding_window"),
        "experts": own("expert_count"),
        "experts_used": own("expert_used_count"),
        "expert_layers": sum(name.endswith(_ROUTER) for name in file.tensors),
        "context_length": trained,
        "vocabulary": (
            len(vocabulary)
            if isinstance(vocabulary, list)
            else own("vocab_size") or (embedding and embedding.rows)
        ),
        "tokenizer": file.metadata.get("tokenizer.ggml.model"),
        "pre_tokenizer": file.metadata.get("tokenizer.ggml.pre"),
        "encoder": None if isinstance(family, MotetError) else _encodes_alone(family),
        "pooling": None if isinstance(family, MotetError) else family.config.pooling,
        "labels": own("classifier.output_labels"),
        "chat_template": "tokenizer.chat_template" in file.metadata,
        "tensor_types": _tensor_types(file),
        "context": _context(file, family, tokens, kv_type),
        "positions": _positions(family),
    }


def tensor_facts(file: ModelSource) -> list[Facts]:
    """A row for each tensor."""
    return [
        {
            "name": info.name,
            "shape": list(info.shape),
            "type": info.type.name,
            "bytes": info.nbytes,
            **_place(info),
        }
        for info in file.tensors.values()
    ]


def _place(info: TensorInfo) -> Facts:
    """Where its bytes lie in a GGUF file; of a directory's tensors many are put together."""
    return {"offset": info.offset, "path": info.path} if isinstance(info, GGUFTensor) else {}


def _encodes_alone(family: Family[Config]) -> bool:
    return isinstance(family, Encodes) and not isinstance(family, Decodes)


def _tensor_types(file: ModelSource) -> list[Facts]:
    types = Counter(info.type for info in file.tensors.values())
    return [
        {
            "type": type.name,
            "tensors": count,
            "parameters": sum(
                math.prod(info.shape) for info in file.tensors.values() if info.type == type
            ),
            "bytes": sum(info.nbytes for info in file.tensors.values() if info.type == type),
        }
        for type, count in types.most_common()
    ]


def read_family(file: ModelSource) -> Family[Config]:
    """What Motet would run the file as, without its weights.

    Raises UnsupportedError for an architecture or a key that Motet does not know, ModelFileError
    for a value that contradicts others or is missing.
    """
    if file.architecture not in FAMILIES:
        raise UnsupportedError("Motet does not run this architecture")
    return declared(file, strict=False)


def _context(
    file: ModelSource, family: Family[Config] | MotetError, tokens: int | None, kv_type: str
) -> Facts:
    """ContextMemory as a dictionary, or why it is ``unknown``."""
    if tokens is None:
        return {"unknown": "the file does not say how long a context the model was trained for"}
    if isinstance(family, MotetError):
        return {"unknown": str(family)}
    if kv_type == "auto":
        kv_type = "f32" if file.tensors and only_f32(file) else "f16"
    memory = context_memory(family.caches, tokens, kv_type, Reference())
    return asdict(memory) | {"allowed": default_kv_bytes()}


def _positions(family: Family[Config] | MotetError) -> Facts:
    """``encoding`` of positions, and either ``auto`` or ``no_self_extend``.

    ``auto``: group and window that Self-Extend would choose at some lengths; ``no_self_extend``:
    why it does not apply to the model, or why this is not known.
    """
    if isinstance(family, MotetError):
        return {"encoding": None, "no_self_extend": str(family)}
    config = family.config
    facts: Facts = {"encoding": _encoding(config)}
    auto, trained = AutoExtend(), config.context_length
    try:
        require_positions(family.caches, config.positional)
        check_reach(auto, trained, trained)
    except MotetError as error:
        return facts | {"no_self_extend": str(error)}
    lengths = trained * np.array(TIMES, np.int64)
    groups = auto.groups_at(lengths - 1, trained)
    window = auto.window_of(trained)
    return facts | {
        "auto": [
            {"tokens": int(tokens), "group": int(group), "window": window}
            for tokens, group in zip(lengths, groups, strict=True)
        ]
    }


def _encoding(config: Config) -> str:
    if not isinstance(config, RotaryConfig):
        return _ENCODINGS.get(config.positional, config.positional)
    rope = config.rope
    text = f"{config.positional}, base {rope.base:.10g}"
    if rope.dimension < config.head_dim:
        text += f", {rope.dimension} of {config.head_dim} channels"
    if rope.scaling != "none":
        text += f", {rope.scaling} scaling by {rope.factor:.10g}"
    if isinstance(config, AttentionConfig) and config.sliding_rope is not None:
        text += f"; in sliding layers base {config.sliding_rope.base:.10g}"
    return text
