"""``motet tokenize``: the ids of a text, and what each stands for."""

import json
import sys
from typing import TYPE_CHECKING

import click

from motet.cli.inputs import decoded, existing_model, read_standard_input
from motet.cli.options import json_option, model_argument
from motet.cli.output import printable
from motet.errors import TokenizerError

if TYPE_CHECKING:
    from motet.tokenizer import Tokenizer


@click.command("tokenize")
@model_argument
@click.argument("text", required=False)
@click.option("--ids", "only_ids", is_flag=True, help="Print the ids alone, on one line.")
@click.option("--no-special", is_flag=True, help="Add no BOS and EOS.")
@click.option(
    "--parse-special", is_flag=True, help="Let control tokens spelt out in the text be tokens."
)
@json_option
def command(
    model: str,
    text: str | None,
    only_ids: bool,
    no_special: bool,
    parse_special: bool,
    as_json: bool,
) -> None:
    """Show the tokens of TEXT, or of standard input, in the vocabulary of MODEL.

    A table has a line for each token: its id and the text it stands for, quoted. The weights are
    not read.
    """
    from motet.opening import open_model
    from motet.tokenizer import from_gguf

    if only_ids and as_json:
        raise click.UsageError("--ids and --json exclude each other")
    if text is None and sys.stdin.isatty():
        raise click.UsageError("give TEXT, or a text on standard input")
    with open_model(existing_model(model)) as file:
        tokenizer = from_gguf(file.metadata)
    if tokenizer is None:
        raise TokenizerError(f"{model}: the file has no vocabulary")
    if text is None:
        text = decoded(read_standard_input(), "standard input")
    ids = tokenizer.encode(text, add_special=not no_special, parse_special=parse_special)
    if only_ids:
        click.echo(" ".join(map(str, ids)))
    elif as_json:
        click.echo(json.dumps(_described(tokenizer, ids)))
    else:
        width = len(str(tokenizer.n_vocab))
        for token in ids:
            click.echo(f"{token:{width}}  {_quoted(tokenizer.piece(token))}")


def _described(tokenizer: "Tokenizer", ids: list[int]) -> dict[str, object]:
    """``text`` may hold half a character, then U+FFFD; ``hex`` has the bytes."""
    pieces = [tokenizer.piece(token) for token in ids]
    return {
        "ids": ids,
        "pieces": [
            {"text": piece.decode("utf-8", "replace"), "hex": piece.hex()} for piece in pieces
        ],
    }


def _quoted(piece: bytes) -> str:
    """The text in quotes, and bytes that are no characters as \\x escapes."""
    return f'"{printable(piece.decode("utf-8", "backslashreplace"))}"'
