"""``motet show``: what a model file holds, and what a context of it would take."""

import json
import math
from collections import Counter
from typing import TYPE_CHECKING

import click

from motet.cli.text import amount, printable, size
from motet.errors import MotetError

if TYPE_CHECKING:
    from rich.table import Table

    from motet.weights.gguf import GGUFFile

_LONG = 8
"""Elements of an array, and lines of a string, from which it is abbreviated for people."""

_NUMBERS = {"tensors", "parameters", "size", "share", "offset"}
"""Titles of the columns that are aligned as numbers are."""


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
        _print(facts)


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


def _print(facts: dict) -> None:
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console = Console(width=200, markup=False, highlight=False, emoji=False)
    console.print(_overview(facts))
    if facts["tensor_types"]:
        console.print(_types_table(facts["tensor_types"]))
    if "tensors" in facts:
        console.print(_tensors_table(facts["tensors"]))
    if "metadata" in facts:
        rows = [(key, _abbreviated(value)) for key, value in facts["metadata"].items()]
        console.print(_table(["metadata", ""], rows))


def _overview(facts: dict) -> "Table":
    heads = _shown(facts["heads"])
    if facts["kv_heads"] is not None:
        heads += f", {_shown(facts['kv_heads'])} for keys and values"
    if facts["key_length"] is not None:
        heads += f", of {_shown(facts['key_length'])}"
    vocabulary = _shown(facts["vocabulary"]) + " tokens"
    kinds = [_shown(facts[key]) for key in ("tokenizer", "pre_tokenizer") if facts[key]]
    files = f" in {facts['files']} files" if facts["files"] > 1 else ""
    rows = [
        ("file", facts["path"]),
        ("size", f"{size(facts['bytes'])}{files}, {facts['format']}"),
        ("architecture", _shown(facts["architecture"])),
        ("name", _shown(facts["name"])),
        ("parameters", amount(facts["parameters"])),
        ("layers", _shown(facts["layers"])),
        ("model width", _shown(facts["d_model"])),
        ("feed-forward", _shown(facts["feed_forward"])),
        ("attention heads", heads),
        ("trained context", f"{_shown(facts['context_length'])} tokens"),
        ("vocabulary", f"{vocabulary} ({', '.join(kinds)})" if kinds else vocabulary),
        ("chat template", "yes" if facts["chat_template"] else "no"),
        ("context memory", _memory(facts["context"])),
    ]
    return _table(None, rows)


def _memory(context: dict) -> str:
    if "unknown" in context:
        return f"unknown: {context['unknown']}"
    if not context["total"]:
        return "none: the model looks both ways and keeps nothing"
    if context["total"] == context["constant"]:
        return f"{size(context['total'])} a sequence, constant at any length"
    text = f"{size(context['total'])} for one sequence of {context['tokens']} tokens"
    text += f" ({context['kv_type']})"
    if context["sliding_layers"]:
        text += f", a window of {context['window']} in {context['sliding_layers']} of the layers"
    if context["constant"]:
        text += f", {size(context['constant'])} of it constant"
    return text


def _types_table(types: list[dict]) -> "Table":
    total = sum(row["bytes"] for row in types)
    return _table(
        ["type", "tensors", "parameters", "size", "share"],
        [
            (
                row["type"],
                str(row["tensors"]),
                amount(row["parameters"]),
                size(row["bytes"]),
                f"{row['bytes'] / total:.1%}",
            )
            for row in types
        ],
    )


def _tensors_table(tensors: list[dict]) -> "Table":
    return _table(
        ["tensor", "shape", "type", "size", "offset"],
        [
            (
                row["name"],
                " × ".join(map(str, row["shape"])),
                row["type"],
                size(row["bytes"]),
                str(row["offset"]),
            )
            for row in tensors
        ],
    )


def _table(titles: list[str] | None, rows: list[tuple[str, ...]]) -> "Table":
    """Columns side by side without lines; long cells are folded, never cut."""
    from rich.table import Table

    table = Table(box=None, show_header=titles is not None, pad_edge=False, header_style="bold")
    for title in titles or ["", ""]:
        right = title in _NUMBERS
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(printable, row))
    return table


def _shown(value: object) -> str:
    """A metadata value in the overview. Lists, which give a number a layer, by their range."""
    match value:
        case None:
            return "–"
        case [first, *_] if all(isinstance(item, int) for item in value):
            low, high = min(value), max(value)
            return str(first) if low == high else f"{low} to {high} by layer"
        case list():
            return _abbreviated(value)
    return str(value)


def _abbreviated(value: object) -> str:
    """A metadata value in the list of all; ``--json`` has it whole."""
    if isinstance(value, list) and len(value) > _LONG:
        return f"{len(value)} values: [{', '.join(map(repr, value[:_LONG]))}, …]"
    lines = value.split("\n") if isinstance(value, str) else []
    if len(lines) > _LONG:
        return "\n".join(lines[:_LONG]) + f"\n… {len(lines) - _LONG} lines more"
    return value if isinstance(value, str) else repr(value)
