"""Options that several commands share."""

from collections.abc import Callable
from typing import TypeVar

import click

from motet.sampling.options import Sampling

Command = TypeVar("Command", bound=Callable[..., object])
_DEFAULTS = Sampling()

KV_TYPES = ["auto", "f32", "f16", "bf16", "q8_0"]
SPLITS = ["auto", "simple", "equal", "sequence"]


def threads_option(command: Command) -> Command:
    return click.option(
        "--threads",
        type=click.IntRange(1),
        metavar="N",
        help="Threads that compute (default: MOTET_THREADS, or the cores this process may use).",
    )(command)


def kv_type_option(command: Command) -> Command:
    return click.option(
        "--kv-type",
        type=click.Choice(KV_TYPES),
        default="auto",
        help="How keys and values are stored; auto is f32 for F32 weights, else f16.",
    )(command)


def ubatch_option(command: Command) -> Command:
    return click.option(
        "-ub",
        "--ubatch",
        type=click.IntRange(1),
        default=512,
        show_default=True,
        metavar="N",
        help="Tokens computed at once.",
    )(command)


def split_option(command: Command) -> Command:
    return click.option(
        "--split",
        type=click.Choice(SPLITS),
        default="auto",
        help="How a batch is cut into what is computed at once; changes the speed alone.",
    )(command)


def json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def seed_option(command: Command) -> Command:
    return click.option(
        "--seed",
        type=click.IntRange(0),
        metavar="N",
        help="Start of the random numbers; the same seed gives the same text.",
    )(command)


def sampling_options(command: Command) -> Command:
    """Every field of Sampling but the logit bias."""
    for option in reversed(
        [
            _number("--temperature", _DEFAULTS.temperature, "Randomness; 0 is greedy."),
            _count("--top-k", _DEFAULTS.top_k, 0, "Keep the K most probable tokens; 0: all."),
            _number("--top-p", _DEFAULTS.top_p, "Keep the tokens that hold this probability."),
            _number("--min-p", _DEFAULTS.min_p, "Keep tokens this probable beside the best."),
            _number("--typical", _DEFAULTS.typical_p, "Keep locally typical tokens; 1: all."),
            _number("--repeat-penalty", _DEFAULTS.repeat_penalty, "Above 1: repeat less."),
            _count("--repeat-last-n", _DEFAULTS.repeat_last_n, -1, "Penalties look so far back."),
            _number("--frequency-penalty", _DEFAULTS.frequency_penalty, "Per time seen."),
            _number("--presence-penalty", _DEFAULTS.presence_penalty, "Once if seen."),
            seed_option,
        ]
    ):
        command = option(command)
    return command


def _number(name: str, default: float, text: str) -> Callable[[Command], Command]:
    return click.option(
        name, type=float, default=default, show_default=True, metavar="X", help=text
    )


def _count(name: str, default: int, low: int, text: str) -> Callable[[Command], Command]:
    return click.option(
        name,
        type=click.IntRange(low),
        default=default,
        show_default=True,
        metavar="N",
        help=text,
    )
