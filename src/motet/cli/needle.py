"""``motet needle``: needles in haystacks, plain and with Self-Extend side by side."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from motet.cli.extending import chosen_self_extend, self_extend_options
from motet.cli.loading import load_model
from motet.cli.options import json_option, kv_type_option, threads_option, ubatch_option
from motet.cli.progress import end_progress, show_progress
from motet.cli.reading import read_text

if TYPE_CHECKING:
    from motet.evals.haystack import Trial
    from motet.evals.needle import Arm, Found

TASKS = ("passkey", "sentence", "order")
_TIMES = (0.5, 1, 2, 4)
"""Default lengths, times the trained one."""


@click.command("needle")
@click.argument("model")
@click.option(
    "-f",
    "--file",
    "text_file",
    metavar="FILE",
    help="Text to hide needles in, or LongLM's passkey_examples.jsonl (default: its filler).",
)
@click.option(
    "--task",
    "tasks",
    type=click.Choice(TASKS),
    multiple=True,
    default=("passkey",),
    show_default=True,
    help="May be given several times.",
)
@click.option(
    "--lengths",
    metavar="N,N,…",
    help="Tokens of a haystack (default: a half, 1, 2 and 4 times the trained length).",
)
@click.option(
    "--depths", type=click.IntRange(1), default=5, show_default=True, help="Places of the needle."
)
@click.option(
    "--seeds", type=click.IntRange(1), default=3, show_default=True, help="Haystacks of each kind."
)
@click.option(
    "--digits", type=click.IntRange(1, 18), default=5, show_default=True, help="Of a pass key."
)
@click.option(
    "--score",
    type=click.Choice(["exact", "likelihood"]),
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
    text_file: str | None,
    tasks: tuple[str, ...],
    lengths: str | None,
    depths: int,
    seeds: int,
    digits: int,
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
    from motet.errors import UnsupportedError
    from motet.evals.needle import Arm, grid
    from motet.self_extend import AutoExtend

    picture = check_plot(plot) if plot else None
    extended = chosen_self_extend() or AutoExtend()
    text = read_text(text_file) if text_file else None
    loaded = load_model(model, threads)
    if loaded.tokenizer is None:
        raise UnsupportedError(f"{model} has no vocabulary, so a text means nothing to it")
    trained = loaded.config.context_length
    if text is not None and text_file is not None and text_file.endswith(".jsonl"):
        trials = _examples(text, text_file, loaded.tokenizer)
    else:
        sizes = _lengths(lengths, trained)
        trials = _trials(loaded.tokenizer, text, tasks, sizes, depths, seeds, digits)
    arms = [Arm("plain", None), Arm(f"Self-Extend {extended}", extended)]
    found = _run(loaded, trials, arms, results, ubatch, kv_type)
    grids = {
        f"{arm.name}: {task}": grid(
            [one for one in found if one.arm == arm.name and one.task == task], score
        )
        for task in dict.fromkeys(trial.task for trial in trials)
        for arm in arms
    }
    if picture is not None:
        save_heat_maps(grids, picture)
    if as_json:
        click.echo(json.dumps({"trained": trained, "results": [asdict(one) for one in found]}))
        return
    from motet.cli.heatmap import heat_map

    for title, cells in grids.items():
        click.echo(heat_map(cells, title) + "\n")
    click.echo(f"trained length: {trained} tokens; share found of {seeds} haystacks a place")


def _examples(text: str, name: str, tokenizer: Any) -> "list[Trial]":
    from motet.evals.haystack import read_passkeys

    return read_passkeys(text, name, tokenizer)


def _lengths(given: str | None, trained: int) -> list[int]:
    if given is None:
        return [round(trained * times) for times in _TIMES]
    parts = given.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise click.UsageError(f"--lengths {given!r} is no list of numbers, as in 256,512,1024")
    return [int(part) for part in parts]


def _trials(
    tokenizer: Any,
    text: str | None,
    tasks: tuple[str, ...],
    lengths: list[int],
    depths: int,
    seeds: int,
    digits: int,
) -> "list[Trial]":
    from motet.evals.haystack import Haystacks

    haystacks = Haystacks(tokenizer, text, digits)
    shares = [i / (depths - 1) if depths > 1 else 0.5 for i in range(depths)]
    return [
        haystacks.make(task, length, depth, seed)
        for task in dict.fromkeys(tasks)
        for length in lengths
        for depth in shares
        for seed in range(seeds)
    ]


def _run(
    model: Any,
    trials: "list[Trial]",
    arms: "list[Arm]",
    results: str | None,
    ubatch: int,
    kv_type: str,
) -> "list[Found]":
    """Search what the results file does not have yet, and add it there."""
    from motet.evals.needle import search

    known = _known(results)
    total, done = len(trials) * len(arms), 0
    found = []
    for arm in arms:
        left = [trial for trial in trials if (arm.name, *trial.key) not in known]
        keys = [(arm.name, *trial.key) for trial in trials]
        found += [known[key] for key in keys if key in known]
        done = len(found)
        for some in search(model, left, arm, ubatch=ubatch, kv_type=kv_type):
            found += some
            done += len(some)
            if results is not None:
                _append(Path(results), some)
            share = sum(one.exact for one in found if one.arm == arm.name)
            count = sum(one.arm == arm.name for one in found)
            show_progress(done, total, f"{arm.name}: {share} of {count} found")
    end_progress()
    return found


def _known(results: str | None) -> "dict[tuple, Found]":
    from motet.evals.needle import Found

    if results is None or not Path(results).exists():
        return {}
    known = {}
    for number, line in enumerate(read_text(results).splitlines(), 1):
        try:
            one = Found(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise click.UsageError(
                f"{results!r}: line {number} is no result of motet needle"
            ) from error
        known[one.key] = one
    return known


def _append(path: Path, found: "list[Found]") -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(one)) + "\n" for one in found)
