"""``motet perplexity``: how well a model predicts a text, as a whole or by position."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from motet.cli.inputs import load_text_model, model_name, predicting, read_text
from motet.cli.loading import Loading, loading_options
from motet.cli.options import (
    WholeNumber,
    batch_option,
    context_option,
    json_option,
    kv_type_option,
    model_argument,
    plain_and_extended,
    plot_option,
    self_extend_options,
    split_option,
    ubatch_option,
)
from motet.cli.progress import progress_bar

if TYPE_CHECKING:
    from motet.evals.long_perplexity import Bucket, Likelihoods
    from motet.evals.variants import Variant
    from motet.model import Model
    from motet.self_extend import AutoExtend, SelfExtend

CHUNK = 512
"""Default tokens of a chunk, where the model was trained for so many."""
TIMES = 8
"""Default length of a passage of --by-position, times the trained one."""
PASSAGES = 4
_FROM = 16
"""First position of the table by position; earlier ones say little about long texts."""
_OF_CHUNKS = ("parallel", "batch", "split")
"""Options that --by-position has no use for."""


@click.command("perplexity")
@model_argument
@click.option(
    "-f",
    "--file",
    "text_file",
    type=click.Path(),
    metavar="FILE",
    help="UTF-8 text.",
)
@context_option(
    "Tokens of a chunk; the second half of each is scored (default: 512, or the trained length if"
    " that is less).",
    least=4,
)
@click.option("--chunks", type=WholeNumber(1), metavar="N", help="Only the first N chunks.")
@click.option(
    "--by-position",
    is_flag=True,
    help="Likelihood by position, plain and with Self-Extend (default: auto), of --chunks passages"
    " (default: 4) of --ctx tokens (default: 8 times the trained length) spread over the text.",
)
@plot_option("Draw what --by-position measures (.pdf, .png or .svg).")
@click.option(
    "--parallel",
    type=WholeNumber(1),
    metavar="N",
    help="Chunks computed together, as so many sequences (default: what a batch holds).",
)
@batch_option("Tokens of a batch: several chunks, one (default), or a part of one.")
@self_extend_options
@ubatch_option
@split_option
@kv_type_option
@loading_options
@json_option
def command(
    model: str,
    text_file: str | None,
    ctx: int | None,
    chunks: int | None,
    by_position: bool,
    plot: str | None,
    parallel: int | None,
    batch: int | None,
    self_extend: "SelfExtend | AutoExtend | None",
    ubatch: int,
    split: str,
    kv_type: str,
    loading: Loading,
    as_json: bool,
) -> None:
    """Perplexity of the model in MODEL on a text, by llama.cpp's definition."""
    from motet.evals.perplexity import perplexity
    from motet.evals.predictions import max_positions

    if text_file is None:
        raise click.UsageError("give a text with -f, as in motet perplexity MODEL -f text.txt")
    picture = _picture(by_position, plot)
    text = read_text(text_file)
    loaded = predicting(load_text_model(model, loading))
    tokens = loaded.tokenizer.encode(text, add_special=True, parse_special=False)
    if by_position:
        _by_position(
            loaded,
            tokens,
            plain_and_extended(loaded, self_extend),
            length=ctx,
            passages=chunks,
            ubatch=ubatch,
            kv_type=kv_type,
            picture=picture,
            source=Path(text_file).name,
            as_json=as_json,
        )
        return
    ctx = ctx or min(CHUNK, max_positions(loaded, self_extend))
    total = min(len(tokens) // ctx, chunks or len(tokens))
    result = None
    with progress_bar() as show:
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
    from motet.cli.pictures import check_plot

    return check_plot(plot)


def _by_position(
    model: "Model",
    tokens: list[int],
    variants: "list[Variant]",
    *,
    length: int | None,
    passages: int | None,
    ubatch: int,
    kv_type: str,
    picture: Path | None,
    source: str,
    as_json: bool,
) -> None:
    """Measure, draw to ``picture`` and print. ``source``: the name of the text."""
    from motet.evals.long_perplexity import by_position, passages_of

    trained = model.config.context_length
    bos = model.tokenizer.bos if model.tokenizer and model.tokenizer.add_bos else None
    texts = passages_of(tokens, length or TIMES * trained, passages or PASSAGES, bos)
    result = None
    with progress_bar() as show:
        for result in by_position(model, texts, variants, ubatch=ubatch, kv_type=kv_type):
            means = result.nll.mean(axis=(1, 2))
            running = ", ".join(f"{n} {x:.3f}" for n, x in zip(result.variants, means, strict=True))
            show(result.nll.shape[1], len(texts), f"nats a token: {running}")
    assert result is not None
    if picture is not None:
        title = f"{model_name(model)}: {source}"
        draw_by_position(result.variants, result.means(), trained, picture, title=title)
    if as_json:
        click.echo(json.dumps(_facts(result, trained)))
    else:
        _print_by_position(result, trained, len(texts))


def draw_by_position(
    variants: Sequence[str],
    buckets: "Sequence[Bucket]",
    trained: int,
    picture: Path,
    *,
    title: str | None = None,
) -> None:
    """A curve for each variant, through the middles of the buckets.

    The first ones are left out, as in the table: what they need would flatten all others.
    """
    from motet.cli.pictures import save_curves

    buckets = [bucket for bucket in buckets if bucket.last >= _FROM] or buckets
    middles = [math.sqrt(bucket.first * bucket.last) for bucket in buckets]
    save_curves(
        {name: (middles, [bucket.nll[i] for bucket in buckets]) for i, name in enumerate(variants)},
        picture,
        xlabel="position in the text",
        ylabel="nats a token",
        marks={f"trained length, {trained}": trained},
        title=title,
    )


def _facts(result: "Likelihoods", trained: int) -> dict[str, object]:
    buckets = [
        {
            "first": bucket.first,
            "last": bucket.last,
            "nll": dict(zip(result.variants, bucket.nll, strict=True)),
        }
        for bucket in result.means()
    ]
    _, passages, predicted = result.nll.shape
    return {
        "trained": trained,
        "length": predicted + 1,
        "passages": passages,
        "buckets": buckets,
    }


def _print_by_position(result: "Likelihoods", trained: int, passages: int) -> None:
    widths = [max(len(name), 6) for name in result.variants]
    header = "  ".join(f"{name:>{w}}" for name, w in zip(result.variants, widths, strict=True))
    click.secho(f"{'positions':>15}  {header}", bold=True)
    for bucket in result.means():
        if bucket.last < _FROM:
            continue
        values = "  ".join(f"{x:{w}.3f}" for x, w in zip(bucket.nll, widths, strict=True))
        span = f"{bucket.first} to {bucket.last}"
        mark = click.style("  beyond the trained length", dim=True)
        click.echo(f"{span:>15}  {values}{mark if bucket.first >= trained else ''}")
    click.echo(f"mean nats a token of {passages} passages; trained for {trained} tokens")
