"""Grammars as text, checked, and regular expressions as Lark."""

import re

from motet import checks
from motet.errors import OptionError
from motet.grammar.schemas import LONGEST, MOST_OBJECTS

MOST_LINES = 5_000
"""Of a grammar, whose rules may refer to each other in one chain."""
LONGEST_PATTERN = 100_000
"""Characters of a regular expression."""
_ATTRIBUTES = re.compile(r"\n[ \t]*[!?]*[\w-]+[ \t]*\[")
_IGNORED = re.compile(r"\b(stop|temperature)\s*=")


def checked_grammar(text: object) -> str:
    """A grammar, Lark or GBNF, that is not too large. Raises OptionError."""
    grammar = checks.text("grammar", text)
    _check_unicode("grammar", grammar)
    for size, most, unit in (
        (len(grammar), LONGEST, "characters"),
        (grammar.count("\n") + 1, MOST_LINES, "lines"),
        (grammar.count("{"), MOST_OBJECTS, "braces"),
    ):
        if size > most:
            raise OptionError(
                f"the grammar has {size:,} {unit}; at most {most:,} are taken",
                hint="use a smaller one",
            )
    return grammar


def checked_lark(text: object) -> str:
    """As ``checked_grammar``, for Lark; raises OptionError for what llguidance would ignore too."""
    lark = checked_grammar(text)
    for part in f"\n{lark}".split("]"):
        begun = _ATTRIBUTES.search(part)
        ignored = begun and _IGNORED.search(part, begun.end())
        if ignored:
            raise OptionError(
                f"the grammar has a rule with {ignored[1]}=, which is not supported",
                hint="in place of stop= use suffix= or lazy; the temperature is that of sampling",
            )
    return lark


def regex_as_lark(pattern: object) -> str:
    """A grammar of all that a regular expression matches. Raises OptionError for a long one."""
    found = checks.text("regex", pattern)
    _check_unicode("regex", found)
    if len(found) > LONGEST_PATTERN:
        raise OptionError(
            f"regex has {len(found):,} characters; at most {LONGEST_PATTERN:,} are taken"
        )
    if not found:
        raise OptionError("regex is ''", hint="use a pattern of some length")
    from llguidance import regex_to_lark

    return f"start: /{regex_to_lark(found, '')}/"


def _check_unicode(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise OptionError(
            f"{name} is not Unicode: a lone surrogate at position {error.start}"
        ) from None
