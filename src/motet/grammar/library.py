"""llguidance, imported when a grammar is first asked for; and its limits and messages."""

import re
from importlib import import_module
from typing import TYPE_CHECKING

from motet.errors import OptionError, UnsupportedError

if TYPE_CHECKING:
    import llguidance

MESSAGE = 300
"""Characters of a message of llguidance's that an error shows."""
_STATE = re.compile(r"<(state|backtrace)>.*", re.DOTALL)
_SOURCE = re.compile(r"\n *\d* \|[^\n]*")
_KEYWORDS = re.compile(r"Unimplemented keys: \[([^\]]*)\]")
_FIRST_RULE = "at 1(8): "
"""Where what is no grammar of lines goes wrong."""


def require_llguidance() -> None:
    """Raise UnsupportedError where llguidance is not installed."""
    try:
        import_module("llguidance")
    except ImportError as error:
        raise UnsupportedError(
            "grammars, regular expressions and JSON schemas need llguidance, which is not there",
            hint="pip install 'motet[grammar]'",
        ) from error


def limits() -> "llguidance.LLParserLimits":
    """What compiling a grammar and computing one mask may take: some seconds, some ten ms.

    Its errors leave out what has been generated so far.
    """
    from llguidance import LLParserLimits

    return LLParserLimits(
        initial_lexer_fuel=2_000_000,
        max_lexer_states=50_000,
        max_grammar_size=500_000,
        verbose_errors=False,
    )


def refusal(what: str, message: str) -> OptionError:
    """That ``what`` can't be compiled, for llguidance's reason."""
    problem = shortened(message).removeprefix("failed to compile JSON schema: ")
    if problem.startswith("NoExtension"):
        return OptionError(f"{what} allows no text at all", hint="loosen it")
    keywords = _KEYWORDS.match(problem)
    if keywords is not None:
        names = keywords[1].replace('"', "")
        return OptionError(f"{what} has keywords that are not supported: {names}")
    if "coerce_one_of" in problem:
        return OptionError(
            f"{what} has a oneOf of which two alternatives may hold at once", hint="use anyOf"
        )
    return OptionError(f"{what} can't be used: {problem}")


def shortened(message: str) -> str:
    """What llguidance says, on one line: without the lines of a grammar and its own state."""
    text = _SOURCE.sub("", _STATE.sub("", message))
    text = " ".join(text.split()).removeprefix(_FIRST_RULE).rstrip("^ ")
    return text if len(text) <= MESSAGE else f"{text[:MESSAGE]}…"
