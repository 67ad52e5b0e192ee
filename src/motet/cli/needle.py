"""``motet needle``: needles in haystacks, plain and with Self-Extend side by side."""

import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from motet.cli.inputs import load_text_model, model_name, predicting, read_text
from motet.cli.loading import Loading, loading_options
from motet.cli.options import (
    WholeNumber,
    json_option,
    kv_type_option,
    model_argument,
    plain_and_extended,
    plot_option,
    self_extend_options,
    ubatch_option,
)
from motet.cli.output import in_colour
from motet.cli.progress import progress_bar

if TYPE_CHECKING:
    from motet.cli.pictures import Grid
    from motet.evals.haystack import Trial
    from motet.evals.needle import Found
    from motet.evals.needle_results import Results
    from motet.evals.variants import Variant
    from motet.model import Model
    from motet.self_extend import AutoExtend, SelfExtend
    from motet.tokenizer import Tokenizer

TASKS = ("passkey", "longlm", "sentence", "order")
SCORES = ("exact", "likelihood")
_TIMES = (0.5, 1, 2, 4)
"""Default lengths, times the trained one."""
_MAKING = ("tasks", "lengths", "depths", "seeds", "digits")
"""Options that have no meaning where a file holds whole prompts."""


@dataclass(frozen=True)
class HaystackOptions:
    """Which haystacks are searched."""

    text_file: str | None
    tasks: tuple[str, ...]
    lengths: tuple[int, ...] | None
    depths: int
    seeds: int
    digits: int
    max_length: int | None

    @property
    def of_examples(self) -> bool:
        """Whether the file holds whole prompts."""
        return self.text_file is not None and self.text_file.endswith(".jsonl")

    def settings(self, text: str | None) -> dict[str, object]:
        """What results depend on beside their key, as a results file records it."""
        digest = None if text is None else hashlib.sha256(text.encode()).hexdigest()
        return {"text": digest} if self.of_examples else {"text": digest, "digits": self.digits}


class _Lengths(click.ParamType):
    """``256,512,1024``."""

    name = "N,N,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        parts = [part.strip() for part in str(value).split(",")]
        if not all(
            part.isascii() and part.isdecimal() and 0 < int(part) < 1 << 31 for part in parts
        ):
            self.fail(f"{value!r} is not a list of lengths, as in 256,512,1024", param, ctx)
        return tuple(dict.fromkeys(map(int, parts)))


def haystack_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of HaystackOptions, passed as one ``haystack``."""

    @functools.wraps(command)
    def gathered(
        text_file: str | None,
        tasks: tuple[str, ...],
        lengths: tuple[int, ...] | None,
        depths: int,
        seeds: int,
        digits: int,
        max_length: int | None,
        **parameters: object,
    ) -> None:
        haystack = HaystackOptions(text_file, tasks, lengths, depths, seeds, digits, max_length)
        _check(haystack)
        command(haystack=haystack, **parameters)

    for option in reversed(_OPTIONS):
        gathered = option(gathered)
    return gathered


_OPTIONS = (
    click.option(
        "-f",
        "--file",
        "text_file",
        type=click.Path(),
        metavar="FILE",
        help="Text to hide needles in, or LongLM's passkey_examples.jsonl (default: its filler).",
    ),
    click.option(
        "--task",
        "tasks",
        type=click.Choice(TASKS),
        multiple=True,
        default=("passkey",),
        show_default=True,
        help="May be given several times.",
    ),
    click.option(
        "--lengths",
        type=_Lengths(),
        metavar="N,N,…",
        help="Tokens of a haystack (default: a half, 1, 2 and 4 times the trained length).",
    ),
    click.option(
        "--depths",
        type=WholeNumber(1),
        default=5,
        show_default=True,
        metavar="N",
        help="Places of the needle, from the beginning to the end; 1: in the middle.",
    ),
    click.option(
        "--seeds",
        type=WholeNumber(1),
        default=3,
        show_default=True,
        metavar="N",
        help="Haystacks of each kind, each with its own needle.",
    ),
    click.option(
        "--digits",
        type=WholeNumber(1, 18),
        default=5,
        show_default=True,
        metavar="N",
        help="Of a pass key.",
    ),
    click.option(
        "--max-length",
        type=WholeNumber(1),
        metavar="N",
        help="Leave out longer examples of a .jsonl file.",
    ),
)


def _check(haystack: HaystackOptions) -> None:
    """Raises UsageError for options that do not go together."""
    context = click.get_current_context()
    if not haystack.of_examples:
        if haystack.max_length is not None:
            raise click.UsageError("--max-length is for a .jsonl file; see --lengths")
        if haystack.text_file is not None and "longlm" in haystack.tasks:
            raise click.UsageError("--task longlm has a text of its own; leave out --file")
        return
    for option in context.command.params:
        given = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if option.name in _MAKING and given:
            raise click.UsageError(
                f"{option.opts[0]} makes haystacks, and {haystack.text_file} holds whole ones"
            )


@click.command("needle")
@model_argument
@haystack_options
@click.option(
    "--score",
    type=click.Choice(SCORES),
    default="exact",
    show_default=True,
    help="The answer is written greedily, or is likelier than wrong ones.",
)
@click.option(
    "--results",
    type=click.Path(),
    metavar="FILE",
    help="Append each result; go on from what is there.",
)
@plot_option("Draw the heat maps (.pdf, .png or .svg).")
@self_extend_options
@ubatch_option
@kv_type_option
@loading_options
@json_option
def command(
    model: str,
    haystack: HaystackOptions,
    score: str,
    results: str | None,
    plot: str | None,
    self_extend: "SelfExtend | AutoExtend | None",
    ubatch: int,
    kv_type: str,
    loading: Loading,
    as_json: bool,
) -> None:
    """Hide needles in long texts and see whether the model in MODEL finds them.

    Each haystack is read twice: plain, and with Self-Extend (auto, unless --self-extend says).
    """
    from motet.cli.pictures import check_plot, save_heat_maps
    from motet.evals.needle import grid
    from motet.evals.needle_results import Results

    picture = check_plot(plot) if plot else None
    text = read_text(haystack.text_file) if haystack.text_file else None
    loaded = predicting(load_text_model(model, loading))
    trained = loaded.config.context_length
    variants = plain_and_extended(loaded, self_extend)
    make = _examples if haystack.of_examples else _trials
    searched = make(haystack, text, loaded.tokenizer, trained, variants)
    known = None
    if results is not None:
        kv = loaded.default_kv_type if kv_type == "auto" else kv_type
        settings = {"model": loaded.fingerprint.weights, "kv type": kv, **haystack.settings(text)}
        known = Results(Path(results), settings)
    found = _search(loaded, searched, variants, known, score, ubatch, kv_type)
    tasks = dict.fromkeys(trial.task for trial in searched)
    grids = {
        (task, variant.name): grid(
            [one for one in found if (one.variant, one.task) == (variant.name, task)], score
        )
        for task in tasks
        for variant in variants
    }
    rows = [
        {f"{task}, {variant.name}": grids[task, variant.name] for variant in variants}
        for task in tasks
    ]
    if picture is not None:
        save_heat_maps(rows, picture, title=f"{model_name(loaded)}, trained for {trained} tokens")
    if as_json:
        click.echo(json.dumps(_facts(trained, score, grids, found)))
    else:
        _print(trained, score, rows)


def _search(
    model: "Model",
    searched: "list[Trial]",
    variants: "list[Variant]",
    results: "Results | None",
    score: str,
    ubatch: int,
    kv_type: str,
) -> "list[Found]":
    """Search what the results file does not have yet, and add it there."""
    from motet.evals.needle import search

    known = {} if results is None else results.known
    total = len(searched) * len(variants)
    found: list[Found] = []
    with progress_bar() as show:
        for variant in variants:
            keyed = [((variant.name, *trial.key), trial) for trial in searched]
            before = [known[key] for key, _ in keyed if key in known]
            left = [trial for key, trial in keyed if key not in known]
            right, count = sum(one.right(score) for one in before), len(before)
            found += before
            for some in search(model, left, variant, ubatch=ubatch, kv_type=kv_type):
                found += some
                if results is not None:
                    results.add(some)
                right, count = right + sum(one.right(score) for one in some), count + len(some)
                show(len(found), total, f"{variant.name}: {right} of {count} found")
    return found


def _facts(
    trained: int,
    score: str,
    grids: "Mapping[tuple[str, str], Grid]",
    found: "Sequence[Found]",
) -> dict[str, object]:
    cells = [
        {"task": task, "variant": variant, "length": length, "depth": depth, "found": share}
        for (task, variant), cells in grids.items()
        for (length, depth), share in cells.items()
    ]
    results = [asdict(one) for one in found]
    return {"trained": trained, "score": score, "cells": cells, "results": results}


def _print(trained: int, score: str, rows: "Sequence[Mapping[str, Grid]]") -> None:
    from motet.cli.pictures import heat_maps

    for row in rows:
        click.echo(heat_maps(row, shutil.get_terminal_size().columns, colour=in_colour()))
        click.echo()
    how = "written greedily" if score == "exact" else "likelier than the wrong ones"
    click.echo(
        f"share of the answers that are {how}, by tokens and depth of the needle;"
        f" trained for {trained} tokens"
    )


def _trials(
    haystack: HaystackOptions,
    text: str | None,
    tokenizer: "Tokenizer",
    trained: int,
    variants: "list[Variant]",
) -> "list[Trial]":
    """Haystacks made as the options say. Raises OptionError where one has no room for its needle,
    or a variant does not reach so far."""
    from motet.evals.haystack import Haystacks
    from motet.evals.passkeys import LONGLM, Passkeys
    from motet.self_extend import check_reach

    lengths = haystack.lengths or [round(trained * times) for times in _TIMES]
    for variant in variants:
        if variant.self_extend is not None:
            check_reach(variant.self_extend, trained, max(lengths))
    maker = Haystacks(tokenizer, text, haystack.digits)
    passkeys = Passkeys(tokenizer, haystack.digits)
    last = max(haystack.depths - 1, 1)
    depths = [i / last for i in range(haystack.depths)] if haystack.depths > 1 else [0.5]
    return [
        passkeys.make(length, depth, seed)
        if task == LONGLM
        else maker.make(task, length, depth, seed)
        for task in dict.fromkeys(haystack.tasks)
        for length in sorted(lengths)
        for depth in depths
        for seed in range(haystack.seeds)
    ]


def _examples(
    haystack: HaystackOptions,
    text: str | None,
    tokenizer: "Tokenizer",
    trained: int,
    variants: "list[Variant]",
) -> "list[Trial]":
    """Those of the file. Raises OptionError with the line of one that a variant does not reach."""
    from motet.errors import OptionError
    from motet.evals.passkeys import read_passkeys

    name, most = str(haystack.text_file), haystack.max_length
    every = read_passkeys(text or "", name, tokenizer)
    kept = [trial for trial in every if most is None or trial.length <= most]
    if not kept:
        shortest = min(every, key=lambda trial: trial.length)
        raise OptionError(
            f"{name}: every example is longer than {most} tokens",
            hint=f"the shortest, line {shortest.seed}, has {shortest.length}",
        )
    if len(kept) < len(every):
        left = ", ".join(f"line {t.seed} ({t.length} tokens)" for t in every if t not in kept)
        click.echo(f"left out: {left}", err=True)
    for variant in variants:
        setting = variant.self_extend
        reach = None if setting is None else setting.longest_context(trained)
        over = next((t for t in kept if reach is not None and t.positions > reach), None)
        if over is not None:
            raise OptionError(
                f"{name}: line {over.seed} takes {over.positions} tokens, and"
                f" {variant.name} reaches {reach}",
                hint=f"leave it out by --max-length {reach}, or use auto or a larger group",
            )
    return kept
