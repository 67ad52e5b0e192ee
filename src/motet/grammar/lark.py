"""Grammars as text: Lark as llguidance reads it, and what becomes Lark."""

import re

from motet import checks
from motet.errors import OptionError
from motet.grammar.schemas import LONGEST, MOST_OBJECTS

MOST_LINES = 20_000
"""Of a grammar, whose rules may refer to each other in one chain."""
LONGEST_PATTERN = 100_000
"""Characters of a regular expression."""
_GBNF_RULE = re.compile(r"^\s*[\w-]+\s*::=", re.MULTILINE)
_ATTRIBUTES = re.compile(r"^\s*[\w-]+\s*\[[^\]]*\b(stop|temperature)\s*=", re.MULTILINE)


def is_gbnf(text: object) -> bool:
    """Whether a grammar is llama.cpp's: its rules have ``::=``."""
    return bool(_GBNF_RULE.search(checks.text("grammar", text)))


def checked_lark(text: object) -> str:
    """A grammar that is not too large, and asks for nothing that would be ignored.

    Raises OptionError.
    """
    lark = checks.text("grammar", text)
    _check_unicode("grammar", lark)
    for size, most, unit in (
        (len(lark), LONGEST, "characters"),
        (lark.count("\n") + 1, MOST_LINES, "lines"),
        (lark.count("{"), MOST_OBJECTS, "braces"),
    ):
        if size > most:
            raise OptionError(
                f"the grammar has {size:,} {unit}; at most {most:,} are taken",
                hint="use a smaller one",
            )
    attribute = _ATTRIBUTES.search(lark)
    if attribute is not None:
        raise OptionError(
            f"the grammar has a rule with {attribute[1]}=, which is not supported",
            hint="in place of stop= use suffix= or lazy; the temperature is that of the sampling",
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


def gbnf_as_lark(text: str) -> str:
    """A grammar of llama.cpp's as Lark. Raises OptionError for one that is malformed."""
    if len(text) > LONGEST_PATTERN:
        raise OptionError(
            f"the grammar has {len(text):,} characters; of GBNF at most {LONGEST_PATTERN:,} are"
            " taken",
            hint="use a smaller one, or Lark",
        )
    from llguidance.gbnf_to_lark import gbnf_to_lark

    try:
        return gbnf_to_lark(text)
    except RecursionError:
        raise OptionError("the grammar is nested too deeply", hint="use more rules") from None
    except Exception as error:  # it has no class of errors of its own
        problem = " ".join(str(error).split())[:300]
        raise OptionError(f"the grammar is no GBNF: {problem}") from error


def _check_unicode(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise OptionError(
            f"{name} is not Unicode: a lone surrogate at position {error.start}"
        ) from None
