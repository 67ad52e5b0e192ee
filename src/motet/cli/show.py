"""``motet show``: what a model file holds, and what a context of it would take."""

import json
import math
from typing import TYPE_CHECKING

import click

from motet.cli.inputs import existing_model
from motet.cli.options import context_option, json_option, kv_type_option, model_argument
from motet.cli.output import amount
from motet.cli.tables import print_tables, table
from motet.machine import format_bytes

if TYPE_CHECKING:
    from rich.table import Table

    from motet.cli.model_facts import Facts

_LONG = 8
"""Elements of an array, and lines of a string, from which it is abbreviated in tables."""
_KEEPS_NOTHING = "none: an encoder reads a text whole, and keeps nothing of it"


@click.command("show")
@model_argument
@click.option("--tensors", "list_tensors", is_flag=True, help="List every tensor.")
@click.option("--metadata", "list_metadata", is_flag=True, help="List every metadata key.")
@context_option(
    "Say what a context of N tokens takes (default: the length the model was trained for).",
    most=1 << 40,
)
@kv_type_option
@json_option
def command(
    model: str,
    list_tensors: bool,
    list_metadata: bool,
    ctx: int | None,
    kv_type: str,
    as_json: bool,
) -> None:
    """Show what MODEL holds: architecture, layers, tensors, memory."""
    from motet.cli.model_facts import model_facts, tensor_facts
    from motet.opening import open_model

    with open_model(existing_model(model)) as file:
        facts = model_facts(file, ctx, kv_type)
        if list_tensors:
            facts["tensors"] = tensor_facts(file)
        if list_metadata:
            facts["metadata"] = dict(file.metadata)
    if as_json:
        click.echo(json.dumps(_finite(facts), indent=2))
    else:
        _print(facts)


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


def _print(facts: "Facts") -> None:
    """Tables on standard output."""
    tables = [_overview(facts)]
    if facts["tensor_types"]:
        tables.append(_types_table(facts["tensor_types"]))
    if "tensors" in facts:
        tables.append(_tensors_table(facts["tensors"]))
    if "metadata" in facts:
        rows = [(key, _abbreviated(value)) for key, value in facts["metadata"].items()]
        tables.append(table(["metadata", ""], rows))
    print_tables(tables)


def _overview(facts: "Facts") -> "Table":
    heads = _shown(facts["heads"] if facts["heads"] != 0 else "none")
    if facts["kv_heads"] is not None:
        heads += f", {_shown(facts['kv_heads'])} for keys and values"
    if facts["key_length"] is not None:
        heads += f", of {_shown(facts['key_length'])}"
    vocabulary = _shown(facts["vocabulary"]) + " tokens"
    kinds = [_shown(facts[key]) for key in ("tokenizer", "pre_tokenizer") if facts[key]]
    files = f" in {facts['files']} files" if facts["files"] > 1 else ""
    rows = [
        ("file", facts["path"]),
        ("size", f"{format_bytes(facts['bytes'])}{files}, {facts['format']}"),
        ("architecture", _shown(facts["architecture"]) + _kind(facts)),
        ("name", _shown(facts["name"])),
        ("parameters", amount(facts["parameters"])),
        ("layers", _layers(facts)),
        ("model width", _shown(facts["d_model"])),
        ("feed-forward", _feed_forward(facts)),
        ("attention heads", heads),
        ("positional encoding", _shown(facts["positions"]["encoding"])),
        ("trained context", f"{_shown(facts['context_length'])} tokens"),
        ("Self-Extend auto", _self_extend(facts["positions"])),
        ("vocabulary", f"{vocabulary} ({', '.join(kinds)})" if kinds else vocabulary),
        ("pooling", _pooling(facts)),
        ("chat template", "yes" if facts["chat_template"] else "no"),
        ("context memory", _memory(facts["context"]) if not facts["encoder"] else _KEEPS_NOTHING),
    ]
    return table(None, rows)


def _kind(facts: "Facts") -> str:
    if facts["encoder"]:
        return ", an encoder"
    return ", an encoder-decoder" if facts["context"].get("encoded") else ""


def _layers(facts: "Facts") -> str:
    """How many, and which of them see a window, or attend where others carry a state."""
    layers, context = facts["layers"], facts["context"]
    if facts["decoder_layers"] is not None:
        return f"{_shown(layers)} of the encoder, {_shown(facts['decoder_layers'])} of the decoder"
    if context.get("sliding_layers"):
        return f"{layers}, {context['sliding_layers']} of them with a window of {context['window']}"
    if facts["draft_layers"]:
        return f"{layers}, the last {facts['draft_layers']} of which draft tokens and are not run"
    if not context.get("constant"):
        return _shown(layers)
    states = f"{format_bytes(context['constant'])} of states a sequence"
    attending = context["attending"]
    if not attending:
        return f"{layers}, all recurrent: {states}"
    which = f"layer{'s' * (len(attending) > 1)} {', '.join(map(str, attending))}"
    verb = "attends" if len(attending) == 1 else "attend"
    return f"{layers}; counted from 0, {which} {verb}, the others are recurrent: {states}"


def _feed_forward(facts: "Facts") -> str:
    width = _shown(facts["feed_forward"] if facts["feed_forward"] != 0 else "none")
    if not facts["expert_layers"]:
        return width
    used, experts = _shown(facts["experts_used"]), _shown(facts["experts"])
    return f"{width}; {used} of {experts} experts a token in {facts['expert_layers']} of the layers"


def _pooling(facts: "Facts") -> str:
    """How texts become vectors, and what a classifier's numbers are."""
    if facts["pooling"] != "rank":
        return _shown(facts["pooling"])
    labels = facts["labels"] or []
    return "rank" + (f": {', '.join(map(str, labels))}" if labels else "")


def _self_extend(positions: "Facts") -> str:
    """What it would choose for longer contexts, or why it does nothing."""
    if "auto" not in positions:
        return f"no: {positions['no_self_extend']}"
    first, *others = positions["auto"]
    text = f"window {first['window']}; groups of {first['group']} at {first['tokens']} tokens"
    return "".join([text, *(f", {each['group']} at {each['tokens']}" for each in others)])


def _memory(context: "Facts") -> str:
    if "unknown" in context:
        return f"unknown: {context['unknown']}"
    if not context["total"]:
        return "none: nothing is kept of a text"
    allowed = f"; {format_bytes(context['allowed'])} are allowed here now"
    if context["total"] == context["constant"]:
        return f"{format_bytes(context['total'])} a sequence, constant at any length{allowed}"
    text = f"{format_bytes(context['total'])} for one sequence of {context['tokens']} tokens"
    text += f" ({context['kv_type']})"
    if context["encoded"]:
        text += f", {format_bytes(context['encoded'])} of it for as many that are encoded"
    if context["constant"]:
        text += f", {format_bytes(context['constant'])} of it constant"
    return text + allowed


def _types_table(types: "list[Facts]") -> "Table":
    total = sum(row["bytes"] for row in types)
    return table(
        ["type", "tensors", "parameters", "size", "share"],
        [
            (
                row["type"],
                str(row["tensors"]),
                amount(row["parameters"]),
                format_bytes(row["bytes"]),
                f"{row['bytes'] / total:.1%}",
            )
            for row in types
        ],
    )


def _tensors_table(tensors: "list[Facts]") -> "Table":
    return table(
        ["tensor", "shape", "type", "size", "offset"],
        [
            (
                row["name"],
                " × ".join(map(str, row["shape"])),
                row["type"],
                format_bytes(row["bytes"]),
                _shown(row.get("offset")),
            )
            for row in tensors
        ],
    )


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
