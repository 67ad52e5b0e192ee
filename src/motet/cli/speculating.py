"""``--speculate``: what is computed before it is chosen."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from motet.cli.inputs import load_model
from motet.cli.loading import Loading
from motet.cli.options import Command, refused_option

if TYPE_CHECKING:
    from motet.model import Model


def speculate_option(text: str, default: str | None = "auto") -> Callable[[Command], Command]:
    """``--speculate``; ``text``: what it says of itself."""
    option = click.option(
        "--speculate",
        default=default,
        show_default=default is not None,
        metavar="auto|lookup|none|MODEL",
        help=text,
    )
    why = "the draft model is given by --speculate"  # -md alone would be read as -m d
    refused = refused_option("-md", "--model-draft", "--spec-draft-model", why=why)
    return lambda command: option(refused(command))


FASTER = (
    "Compute tokens before they are chosen, which makes answers faster and changes nothing else:"
    " what was said before, where it pays or always, or what MODEL says, a smaller model of the"
    " same vocabulary."
)


def speculation(given: str, loading: Loading) -> "str | Model | None":
    """What ``LLM`` takes as ``speculate``. A draft model has the threads and the packed cache of
    ``loading``, and its own weights as they are; raises
    UsageError for a word that is neither, and what ``load_model`` does."""
    if given in ("auto", "lookup"):
        return given
    if given == "none":
        return None
    from motet.engine.proposing import names_a_model

    if not names_a_model(given):
        raise click.UsageError(
            f"--speculate is {given!r}: give auto, lookup, none, or a draft model (a file, a"
            " directory or hf://org/name)"
        )
    return load_model(given, replace(loading, type=None, lora=()))
