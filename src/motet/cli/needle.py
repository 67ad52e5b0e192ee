"""``motet needle``: needles in haystacks, plain and with Self-Extend side by side."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from motet.cli.arms import plain_and_extended
from motet.cli.extending import self_extend_options
from motet.cli.haystacks import SCORES, Haystack, examples, haystack_options, trials
from motet.cli.loading import load_reader
from motet.cli.options import json_option, kv_type_option, threads_option, ubatch_option
from motet.cli.progress import progress
from motet.cli.reading import read_text

if TYPE_CHECKING:
    from motet.evals.haystack import Trial
    from motet.evals.needle import Arm, Found
    from motet.evals.needle_results import Results
    from motet.model import Model


@click.command("needle")
@click.argument("model")
@haystack_options
@click.option(
    "--score",
    type=click.Choice(SCORES),
    default="exact",
    show_default=True,
    help="The answer is written greedily, or is likelier than wrong ones.",
)
@click.option("--results", metavar="FILE", help="Append each result; go on from what is there.")
@click.option("--plot", metavar="FILE", help="Draw the heat maps (.png or .svg).")
@self_extend_options
@ubatch_option
@kv_type_option
@threads_option
@json_option
def command(
    model: str,
    haystack: Haystack,
    score: str,
    results: str | None,
    plot: str | None,
    ubatch: int,
    kv_type: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Hide needles in long texts and see whether the model in MODEL (GGUF) finds them.

    Each haystack is read twice: plain, and with Self-Extend (auto, unless --self-extend says).
    """
    from motet.cli.plots import check_plot, save_heat_maps
    from motet.evals.needle import grid
    from motet.evals.needle_results import Results

    picture = check_plot(plot) if plot else None
    text = read_text(haystack.text_file) if haystack.text_file else None
    loaded = load_reader(model, threads)
    trained = loaded.config.context_length
    arms = plain_and_extended(loaded)
    make = examples if haystack.of_examples else trials
    searched = make(haystack, text, loaded.tokenizer, trained, arms)
    known = None
    if results is not None:
        kv = loaded.default_kv_type if kv_type == "auto" else kv_type
        settings = {"model": loaded.fingerprint.weights, "kv type": kv, **haystack.settings(text)}
        known = Results(Path(results), settings)
    found = _run(loaded, searched, arms, known, score, ubatch, kv_type)
    tasks = dict.fromkeys(trial.task for trial in searched)
    grids = {
        (task, arm.name): grid(
            [one for one in found if (one.arm, one.task) == (arm.name, task)], score
        )
        for task in tasks
        for arm in arms
    }
    rows = [{f"{task}, {arm.name}": grids[task, arm.name] for arm in arms} for task in tasks]
    if picture is not None:
        save_heat_maps(rows, picture)
    if as_json:
        click.echo(json.dumps(_facts(trained, score, grids, found)))
    else:
        _show(trained, score, rows)


def _run(
    model: "Model",
    searched: "list[Trial]",
    arms: "list[Arm]",
    results: "Results | None",
    score: str,
    ubatch: int,
    kv_type: str,
) -> "list[Found]":
    """Search what the results file does not have yet, and add it there."""
    from motet.evals.needle import search

    known = {} if results is None else results.known
    total = len(searched) * len(arms)
    found: list[Found] = []
    with progress() as show:
        for arm in arms:
            keyed = [((arm.name, *trial.key), trial) for trial in searched]
            before = [known[key] for key, _ in keyed if key in known]
            left = [trial for key, trial in keyed if key not in known]
            right, count = sum(one.right(score) for one in before), len(before)
            found += before
            for some in search(model, left, arm, ubatch=ubatch, kv_type=kv_type):
                found += some
                if results is not None:
                    results.add(some)
                right, count = right + sum(one.right(score) for one in some), count + len(some)
                show(len(found), total, f"{arm.name}: {right} of {count} found")
    return found


def _facts(
    trained: int, score: str, grids: "dict[tuple[str, str], Any]", found: "list[Found]"
) -> dict[str, Any]:
    cells = [
        {"task": task, "arm": arm, "length": length, "depth": depth, "found": share}
        for (task, arm), cells in grids.items()
        for (length, depth), share in cells.items()
    ]
    results = [asdict(one) for one in found]
    return {"trained": trained, "score": score, "cells": cells, "results": results}


def _show(trained: int, score: str, rows: list[dict[str, Any]]) -> None:
    from motet.cli.heatmap import heat_maps

    for row in rows:
        click.echo(heat_maps(row, shutil.get_terminal_size().columns))
        click.echo()
    how = "written greedily" if score == "exact" else "likelier than the wrong ones"
    click.echo(
        f"share of the answers that are {how}, by tokens and depth of the needle;"
        f" trained for {trained} tokens"
    )
