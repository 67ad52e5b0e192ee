"""What ``motet needle`` searches: haystacks of its own, or LongLM's examples."""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from motet.evals.haystack import Trial
    from motet.evals.needle import Arm

TASKS = ("passkey", "sentence", "order")
SCORES = ("exact", "likelihood")
_TIMES = (0.5, 1, 2, 4)
"""Default lengths, times the trained one."""
_MAKING = ("tasks", "lengths", "depths", "seeds", "digits")
"""Options that have no meaning where a file holds whole prompts."""


@dataclass(frozen=True)
class Haystack:
    """The options."""

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

    def settings(self, text: str | None) -> dict[str, Any]:
        """What a result depends on beside its key: of these, for a results file."""
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
            self.fail(f"{value!r} is no list of lengths, as in 256,512,1024", param, ctx)
        return tuple(dict.fromkeys(map(int, parts)))


def haystack_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options, given to the command as one ``haystack``."""

    @functools.wraps(command)
    def gathered(
        text_file: str | None,
        tasks: tuple[str, ...],
        lengths: tuple[int, ...] | None,
        depths: int,
        seeds: int,
        digits: int,
        max_length: int | None,
        **others: Any,
    ) -> None:
        haystack = Haystack(text_file, tasks, lengths, depths, seeds, digits, max_length)
        _check(haystack)
        command(haystack=haystack, **others)

    for option in reversed(_OPTIONS):
        gathered = option(gathered)
    return gathered


_OPTIONS = (
    click.option(
        "-f",
        "--file",
        "text_file",
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
        type=click.IntRange(1),
        default=5,
        show_default=True,
        metavar="N",
        help="Places of the needle, from the beginning to the end; 1: in the middle.",
    ),
    click.option(
        "--seeds",
        type=click.IntRange(1),
        default=3,
        show_default=True,
        metavar="N",
        help="Haystacks of each kind, each with its own needle.",
    ),
    click.option(
        "--digits",
        type=click.IntRange(1, 18),
        default=5,
        show_default=True,
        metavar="N",
        help="Of a pass key.",
    ),
    click.option(
        "--max-length",
        type=click.IntRange(1),
        metavar="N",
        help="Leave out longer examples of a .jsonl file.",
    ),
)


def _check(haystack: Haystack) -> None:
    """Raises UsageError for options that do not go together."""
    context = click.get_current_context()
    if not haystack.of_examples:
        if haystack.max_length is not None:
            raise click.UsageError("--max-length is for a .jsonl file; see --lengths")
        return
    for option in context.command.params:
        given = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if option.name in _MAKING and given:
            raise click.UsageError(
                f"{option.opts[0]} makes haystacks, and {haystack.text_file} holds whole ones"
            )


def trials(
    haystack: Haystack, text: str | None, tokenizer: Any, trained: int, arms: "list[Arm]"
) -> "list[Trial]":
    """Haystacks made as the options say. Raises OptionError where one has no room for its needle,
    or an arm does not reach so far."""
    from motet.evals.haystack import Haystacks
    from motet.self_extend import check_reach

    lengths = haystack.lengths or [round(trained * times) for times in _TIMES]
    for arm in arms:
        if arm.self_extend is not None:
            check_reach(arm.self_extend, trained, max(lengths))
    maker = Haystacks(tokenizer, text, haystack.digits)
    last = max(haystack.depths - 1, 1)
    depths = [i / last for i in range(haystack.depths)] if haystack.depths > 1 else [0.5]
    return [
        maker.make(task, length, depth, seed)
        for task in dict.fromkeys(haystack.tasks)
        for length in sorted(lengths)
        for depth in depths
        for seed in range(haystack.seeds)
    ]


def examples(
    haystack: Haystack, text: str | None, tokenizer: Any, trained: int, arms: "list[Arm]"
) -> "list[Trial]":
    """The file's. Raises OptionError with the line of one that an arm does not reach."""
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
    for arm in arms:
        reach = None if arm.self_extend is None else arm.self_extend.longest_context(trained)
        over = next((t for t in kept if reach is not None and t.positions > reach), None)
        if over is not None:
            raise OptionError(
                f"{name}: line {over.seed} takes {over.positions} tokens, and {arm.name} reaches"
                f" {reach}",
                hint=f"leave it out by --max-length {reach}, or use auto or a larger group",
            )
    return kept
