"""``motet perplexity``: how well a model predicts a text."""

import json
from dataclasses import asdict

import click

from motet.cli.loading import load_model
from motet.cli.options import (
    json_option,
    kv_type_option,
    split_option,
    threads_option,
    ubatch_option,
)
from motet.cli.progress import progress
from motet.cli.reading import read_text


@click.command("perplexity")
@click.argument("model")
@click.option("-f", "--file", "text_file", required=True, metavar="FILE", help="UTF-8 text.")
@click.option(
    "-c",
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
    metavar="N",
    help="Chunks computed together, as so many sequences (default: what a batch holds).",
)
@click.option(
    "-b",
    "--batch",
    type=click.IntRange(1),
    metavar="N",
    help="Tokens of a batch: several chunks, one (default), or a part of one.",
)
@ubatch_option
@split_option
@kv_type_option
@threads_option
@json_option
def command(
    model: str,
    text_file: str,
    ctx: int,
    chunks: int | None,
    parallel: int | None,
    batch: int | None,
    ubatch: int,
    split: str,
    kv_type: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Perplexity of the model in MODEL (GGUF) on a text, by llama.cpp's definition."""
    from motet.errors import UnsupportedError
    from motet.evals.perplexity import perplexity

    text = read_text(text_file)
    loaded = load_model(model, threads)
    if loaded.tokenizer is None:
        raise UnsupportedError(f"{model} has no vocabulary, so a text means nothing to it")
    tokens = loaded.tokenizer.encode(text, add_special=True, parse_special=False)
    total = min(len(tokens) // ctx, chunks or len(tokens))
    result = None
    with progress() as show:
        for result in perplexity(
            loaded,
            tokens,
            ctx=ctx,
            chunks=chunks,
            parallel=parallel,
            batch=batch,
            ubatch=ubatch,
            split=split,
            kv_type=kv_type,
        ):
            show(len(result.chunks), total, f"{result.perplexity:.4f}")
    assert result is not None
    if as_json:
        click.echo(json.dumps(asdict(result) | {"ctx": ctx}))
    else:
        click.echo(f"perplexity {result.perplexity:.4f} ± {result.error:.4f}")
