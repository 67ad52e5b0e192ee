"""``--speculate``: what is computed before it is chosen."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from motet.cli.inputs import load_model
from motet.cli.loading import Loading
from motet.cli.options import Command

if TYPE_CHECKING:
    from motet.model import Model


def speculate_option(text: str, default: str | None = "auto") -> Callable[[Command], Command]:
    """``--speculate``; ``text``: what it says of itself."""
    return click.option(
        "--speculate",
        default=default,
        show_default=default is not None,
        metavar="auto|lookup|none|MODEL",
        help=text,
    )


FASTER = (
    "Compute tokens before they are chosen, which makes answers faster and changes nothing else:"
    " what was said before, where it pays or always, or what MODEL says, a smaller model of the"
    " same vocabulary."
)


def speculation(given: str, loading: Loading) -> "str | Model | None":
    """What ``LLM`` takes as ``speculate``. A draft model has the threads of ``loading``; raises
    what ``load_model`` does."""
    if given in ("auto", "lookup"):
        return given
    return None if given == "none" else load_model(given, Loading(loading.threads))
