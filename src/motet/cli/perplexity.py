"""``motet perplexity``: how well a model predicts a text."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from motet.cli.loading import load_model
from motet.cli.options import json_option, kv_type_option, threads_option, ubatch_option


@click.command("perplexity")
@click.argument("model")
@click.option("-f", "--file", "text_file", required=True, metavar="FILE", help="UTF-8 text.")
@click.option(
    "--ctx",
    type=click.IntRange(4),
    default=512,
    show_default=True,
    metavar="N",
    help="Tokens of a chunk; the second half of each is scored.",
)
@click.option("--chunks", type=click.IntRange(1), metavar="N", help="Only the first N chunks.")
@click.option(
    "--parallel",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Chunks computed at once, as so many sequences.",
)
@ubatch_option
@kv_type_option
@threads_option
@json_option
def command(
    model: str,
    text_file: str,
    ctx: int,
    chunks: int | None,
    parallel: int,
    ubatch: int,
    kv_type: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Perplexity of the model in MODEL (GGUF) on a text, by llama.cpp's definition."""
    from motet.errors import UnsupportedError
    from motet.evals.perplexity import perplexity

    text = _read(text_file)
    loaded = load_model(model, threads)
    if loaded.tokenizer is None:
        raise UnsupportedError(f"{model} has no vocabulary, so a text means nothing to it")
    tokens = loaded.tokenizer.encode(text, add_special=True, parse_special=False)
    total = min(len(tokens) // ctx, chunks or len(tokens))
    result = None
    for result in perplexity(
        loaded,
        tokens,
        ctx=ctx,
        chunks=chunks,
        ubatch=ubatch,
        parallel=parallel,
        kv_type=kv_type,
    ):
        _progress(f"chunk {len(result.chunks)} of {total}: {result.perplexity:.4f}")
    assert result is not None
    _progress("")
    if as_json:
        click.echo(json.dumps(asdict(result) | {"ctx": ctx}))
    else:
        click.echo(f"perplexity {result.perplexity:.4f} ± {result.error:.4f}")


def _read(path: str) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise click.UsageError(f"the text file {path!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{path!r} is not UTF-8 at byte {error.start}") from error


def _progress(text: str) -> None:
    """Replace the line on a terminal; a line each where standard error is a file."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{text}", nl=False, err=True)
    elif text:
        click.echo(text, err=True)
