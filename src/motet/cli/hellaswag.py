"""``motet hellaswag``: how often a model finds the sensible one of four endings."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from motet.cli.inputs import load_model, predicting, read_text
from motet.cli.loading import Loading, loading_options
from motet.cli.options import (
    WholeNumber,
    batch_option,
    json_option,
    kv_type_option,
    model_argument,
    self_extend_options,
    split_option,
    ubatch_option,
)
from motet.cli.progress import progress_bar

if TYPE_CHECKING:
    from motet.evals.hellaswag import HellaSwag
    from motet.self_extend import AutoExtend, SelfExtend

SOURCE = "https://raw.githubusercontent.com/klosax/hellaswag_text_data/main/hellaswag_val_full.txt"


@click.command("hellaswag")
@model_argument
@click.option(
    "-f",
    "--file",
    "task_file",
    type=click.Path(),
    metavar="FILE",
    help="Tasks in llama.cpp's form, six lines each.",
)
@click.option("--tasks", type=WholeNumber(1), metavar="N", help="At most so many (default: all).")
@click.option(
    "--seed",
    type=WholeNumber(0, (1 << 32) - 1),
    default=1,
    show_default=True,
    metavar="N",
    help="Of the random order; 1 gives the tasks that llama.cpp takes.",
)
@click.option("--in-order", is_flag=True, help="Take the tasks in the order of the file.")
@click.option(
    "--parallel",
    type=WholeNumber(1),
    default=16,
    show_default=True,
    metavar="N",
    help="Tasks computed together, as four sequences each.",
)
@batch_option("Tokens of a batch.", default=2048)
@self_extend_options
@ubatch_option
@split_option
@kv_type_option
@loading_options
@json_option
def command(
    model: str,
    task_file: str | None,
    tasks: int | None,
    seed: int,
    in_order: bool,
    parallel: int,
    batch: int,
    self_extend: "SelfExtend | AutoExtend | None",
    ubatch: int,
    split: str,
    kv_type: str,
    loading: Loading,
    as_json: bool,
) -> None:
    """HellaSwag accuracy of the model in MODEL, by llama.cpp's definition.

    The interval is Wilson's, at 95 %. Four endings of random quality would give 25 %.
    """
    from motet.evals.hellaswag import hellaswag
    from motet.evals.tasks import read_tasks, shuffled

    if task_file is None:
        raise click.UsageError(
            f"give a file of tasks with -f; the full one that llama.cpp uses is at {SOURCE}"
        )
    every = read_tasks(read_text(task_file), task_file)
    count = min(tasks or len(every), len(every))
    chosen = every[:count] if in_order else shuffled(every, count, seed)
    result = None
    with progress_bar() as show:
        for result in hellaswag(
            predicting(load_model(model, loading)),
            chosen,
            parallel=parallel,
            batch=batch,
            self_extend=self_extend,
            ubatch=ubatch,
            split=split,
            kv_type=kv_type,
        ):
            show(len(result.answers), count, "{} ({} to {})".format(*_percentages(result)))
    assert result is not None
    if as_json:
        click.echo(json.dumps(_facts(result)))
    else:
        share, low, high = _percentages(result)
        click.echo(f"accuracy {share} (95 % interval by Wilson: {low} to {high}), {count} tasks")


def _percentages(result: "HellaSwag") -> list[str]:
    return [f"{100 * share:.2f} %" for share in (result.accuracy, *result.interval)]


def _facts(result: "HellaSwag") -> dict[str, object]:
    return {
        "accuracy": result.accuracy,
        "interval": result.interval,
        "tasks": len(result.answers),
        "correct": result.correct,
        "tokens": result.tokens,
        "answers": [asdict(answer) for answer in result.answers],
    }
