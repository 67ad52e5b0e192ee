"""``motet show``: what a model file holds, and what a context of it would take."""

import json
import math
from collections import Counter
from typing import TYPE_CHECKING

import click

from motet.cli.positions import positions
from motet.cli.show_tables import print_facts
from motet.errors import MotetError

if TYPE_CHECKING:
    from motet.weights.gguf import GGUFFile

_ROUTER = ".ffn_gate_inp.weight"
"""Of a layer that is a mixture of experts."""


@click.command("show")
@click.argument("file")
@click.option("--tensors", "list_tensors", is_flag=True, help="List every tensor.")
@click.option("--metadata", "list_metadata", is_flag=True, help="List every metadata key.")
@click.option(
    "--context",
    "tokens",
    type=click.IntRange(1, 1 << 40),
    metavar="N",
    help="Say what a context of N tokens takes (default: the length the model was trained for).",
)
@click.option(
    "--kv-type",
    type=click.Choice(["auto", "f32", "f16", "bf16", "q8_0"]),
    default="auto",
    help="How keys and values are stored; auto is f32 for F32 weights, else f16.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with nothing abbreviated.")
def command(
    file: str,
    list_tensors: bool,
    list_metadata: bool,
    tokens: int | None,
    kv_type: str,
    as_json: bool,
) -> None:
    """Show what the model FILE (GGUF) holds: architecture, layers, tensors, memory."""
    from motet.weights.gguf import GGUFFile

    with GGUFFile.open(file) as model:
        facts = _facts(model, tokens, kv_type)
        if list_tensors:
            facts["tensors"] = _tensors(model)
        if list_metadata:
            facts["metadata"] = dict(model.metadata)
    if as_json:
        click.echo(json.dumps(_finite(facts), indent=2))
    else:
        print_facts(facts)


def _facts(model: "GGUFFile", tokens: int | None, kv_type: str) -> dict:
    """Everything that is shown without being asked for; keys are those of ``--json``."""
    architecture = model.metadata.get("general.architecture")

    def own(name: str) -> object:
        return model.metadata.get(f"{architecture}.{name}")

    vocabulary = model.metadata.get("tokenizer.ggml.tokens")
    embedding = model.tensors.get("token_embd.weight")
    types = Counter(info.type for info in model.tensors.values())
    trained = own("context_length")
    if tokens is None and isinstance(trained, int) and trained > 0:
        tokens = trained
    return {
        "path": model.path,
        "files": model.files,
        "bytes": model.nbytes,
        "format": f"GGUF version {model.version}",
        "architecture": architecture,
        "name": model.metadata.get("general.name"),
        "parameters": sum(math.prod(info.shape) for info in model.tensors.values()),
        "layers": own("block_count"),
        "d_model": own("embedding_length"),
        "feed_forward": own("feed_forward_length"),
        "heads": own("attention.head_count"),
        "kv_heads": own("attention.head_count_kv"),
        "key_length": own("attention.key_length"),
        "value_length": own("attention.value_length"),
        "sliding_window": own("attention.sliding_window"),
        "experts": own("expert_count"),
        "experts_used": own("expert_used_count"),
        "expert_layers": sum(name.endswith(_ROUTER) for name in model.tensors),
        "context_length": trained,
        "vocabulary": (
            len(vocabulary)
            if isinstance(vocabulary, list)
            else own("vocab_size") or (embedding and embedding.rows)
        ),
        "tokenizer": model.metadata.get("tokenizer.ggml.model"),
        "pre_tokenizer": model.metadata.get("tokenizer.ggml.pre"),
        "chat_template": "tokenizer.chat_template" in model.metadata,
        "tensor_types": [
            {
                "type": type.name,
                "tensors": count,
                "parameters": sum(
                    math.prod(info.shape) for info in model.tensors.values() if info.type == type
                ),
                "bytes": sum(info.nbytes for info in model.tensors.values() if info.type == type),
            }
            for type, count in types.most_common()
        ],
        "context": _context(model, tokens, kv_type),
        "positions": positions(model),
    }


def _context(model: "GGUFFile", tokens: int | None, kv_type: str) -> dict:
    from dataclasses import asdict

    from motet.cli.context_memory import context_memory
    from motet.models.tensors import only_f32

    if tokens is None:
        return {"unknown": "the file does not say how long a context the model was trained for"}
    if kv_type == "auto":
        kv_type = "f32" if model.tensors and only_f32(model) else "f16"
    try:
        return asdict(context_memory(model, tokens, kv_type))
    except MotetError as error:
        return {"unknown": str(error)}


def _tensors(model: "GGUFFile") -> list[dict]:
    return [
        {
            "name": info.name,
            "shape": list(info.shape),
            "type": info.type.name,
            "bytes": info.nbytes,
            "offset": info.offset,
            "path": info.path,
        }
        for info in model.tensors.values()
    ]


def _finite(value: object) -> object:
    """JSON has no infinity and no NaN; they become strings."""
    match value:
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list():
            return [_finite(item) for item in value]
        case float() if not math.isfinite(value):
            return str(value)
    return value
