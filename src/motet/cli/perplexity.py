"""``motet perplexity``: how well a model predicts a text."""

import json
from dataclasses import asdict
from pathlib import Path

import click
from click.core import ParameterSource

from motet.cli.arms import plain_and_extended
from motet.cli.extending import chosen_self_extend, self_extend_options
from motet.cli.loading import load_reader
from motet.cli.options import (
    json_option,
    kv_type_option,
    split_option,
    threads_option,
    ubatch_option,
)
from motet.cli.progress import progress
from motet.cli.reading import read_text

CHUNK = 512
_OF_CHUNKS = ("parallel", "batch", "split")
"""Options that --by-position has no use for."""


@click.command("perplexity")
@click.argument("model")
@click.option("-f", "--file", "text_file", required=True, metavar="FILE", help="UTF-8 text.")
@click.option(
    "-c",
    "--ctx",
    type=click.IntRange(4),
    metavar="N",
    help="Tokens of a chunk; the second half of each is scored (default: 512).",
)
@click.option("--chunks", type=click.IntRange(1), metavar="N", help="Only the first N chunks.")
@click.option(
    "--by-position",
    is_flag=True,
    help="Likelihood by position, plain and with Self-Extend (default: auto), of --chunks passages"
    " (default: 4) of --ctx tokens (default: 8 times the trained length) spread over the text.",
)
@click.option("--plot", metavar="FILE", help="Draw what --by-position measures (.png or .svg).")
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
@self_extend_options
@ubatch_option
@split_option
@kv_type_option
@threads_option
@json_option
def command(
    model: str,
    text_file: str,
    ctx: int | None,
    chunks: int | None,
    by_position: bool,
    plot: str | None,
    parallel: int | None,
    batch: int | None,
    ubatch: int,
    split: str,
    kv_type: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Perplexity of the model in MODEL (GGUF) on a text, by llama.cpp's definition."""
    from motet.evals.perplexity import perplexity

    self_extend, picture = chosen_self_extend(), _picture(by_position, plot)
    text = read_text(text_file)
    loaded = load_reader(model, threads)
    tokens = loaded.tokenizer.encode(text, add_special=True, parse_special=False)
    if by_position:
        from motet.cli.by_position import show_by_position

        show_by_position(
            loaded,
            tokens,
            plain_and_extended(loaded),
            length=ctx,
            passages=chunks,
            ubatch=ubatch,
            kv_type=kv_type,
            picture=picture,
            as_json=as_json,
        )
        return
    ctx = ctx or CHUNK
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
            self_extend=self_extend,
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


def _picture(by_position: bool, plot: str | None) -> Path | None:
    """Where to draw. Raises UsageError for options that do not go together."""
    context = click.get_current_context()
    if not by_position:
        if plot is not None:
            raise click.UsageError("--plot draws what --by-position measures; give that too")
        return None
    for name in _OF_CHUNKS:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} has no meaning with --by-position")
    if plot is None:
        return None
    from motet.cli.plots import check_plot

    return check_plot(plot)
