"""``motet perplexity --by-position``: likelihood by position, plain and with Self-Extend."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from motet.cli.progress import progress

if TYPE_CHECKING:
    from motet.evals.long_perplexity import Bucket, Likelihoods
    from motet.evals.needle import Arm
    from motet.model import Model

TIMES = 8
"""Default length of a passage, times the trained one."""
PASSAGES = 4
_FROM = 16
"""The table's first position; what comes before says little of long texts."""


def show_by_position(
    model: "Model",
    tokens: list[int],
    arms: "list[Arm]",
    *,
    length: int | None,
    passages: int | None,
    ubatch: int,
    kv_type: str,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Measure, draw to ``picture`` and print."""
    from motet.evals.long_perplexity import by_position, passages_of

    trained = model.config.context_length
    bos = model.tokenizer.bos if model.tokenizer and model.tokenizer.add_bos else None
    texts = passages_of(tokens, length or TIMES * trained, passages or PASSAGES, bos)
    result = None
    with progress() as show:
        for result in by_position(model, texts, arms, ubatch=ubatch, kv_type=kv_type):
            means = result.nll.mean(axis=(1, 2))
            running = ", ".join(f"{n} {x:.3f}" for n, x in zip(result.arms, means, strict=True))
            show(result.nll.shape[1], len(texts), f"nats a token: {running}")
    assert result is not None
    if picture is not None:
        draw_by_position(result.arms, result.means(), trained, picture)
    if as_json:
        click.echo(json.dumps(_facts(result, trained)))
    else:
        _show(result, trained, len(texts))


def draw_by_position(
    arms: Sequence[str], buckets: "Sequence[Bucket]", trained: int, picture: Path
) -> None:
    """A curve for each arm, through the middles of the buckets."""
    from motet.cli.plots import save_curves

    middles = [math.sqrt(bucket.first * bucket.last) for bucket in buckets]
    save_curves(
        {name: (middles, [bucket.nll[i] for bucket in buckets]) for i, name in enumerate(arms)},
        picture,
        xlabel="position in the text",
        ylabel="nats a token",
        marks={f"trained length, {trained}": trained},
    )


def _facts(result: "Likelihoods", trained: int) -> dict:
    buckets = [
        {
            "first": bucket.first,
            "last": bucket.last,
            "nll": dict(zip(result.arms, bucket.nll, strict=True)),
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


def _show(result: "Likelihoods", trained: int, passages: int) -> None:
    widths = [max(len(name), 6) for name in result.arms]
    header = "  ".join(f"{name:>{w}}" for name, w in zip(result.arms, widths, strict=True))
    click.secho(f"{'positions':>15}  {header}", bold=True)
    for bucket in result.means():
        if bucket.last < _FROM:
            continue
        values = "  ".join(f"{x:{w}.3f}" for x, w in zip(bucket.nll, widths, strict=True))
        span = f"{bucket.first} to {bucket.last}"
        mark = click.style("  beyond the trained length", dim=True)
        click.echo(f"{span:>15}  {values}{mark if bucket.first >= trained else ''}")
    click.echo(f"mean nats a token of {passages} passages; trained for {trained} tokens")
