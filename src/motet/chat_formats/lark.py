"""Grammars in llguidance's Lark, piece by piece.

Its syntax: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from motet.chat_formats.feed import control
from motet.tokenizer import Tokenizer

ANY = "/(?s:.*)/"
"""Any text, without control tokens."""
_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON as templates write it, so that a call in a conversation is the tokens that it was."""


class Spelling:
    """How a vocabulary spells the marks of a format: by control tokens where it has such."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def seen(self, text: str) -> str:
        """``text`` as parsers see it."""
        return "".join(
            part if isinstance(part, str) else self._seen(part)
            for part in self._tokenizer.split_special(text)
        )

    def lark(self, text: str, behind: str = "") -> str:
        """What matches exactly ``text`` in a rule. ``behind``: text before it, without tokens."""
        parts: list[str] = []
        plain = behind
        for part in self._tokenizer.split_special(text):
            if isinstance(part, int) and part in self._tokenizer.special:
                parts += [literal(plain)] * bool(plain) + [f"<[{part}]>"]
                plain = ""
            else:
                plain += part if isinstance(part, str) else self._text(part)
        return " ".join(parts + [literal(plain)] * bool(plain))

    def begins_with_token(self, text: str) -> bool:
        """Whether a control token is the first of ``text``."""
        first = next(self._tokenizer.split_special(text))
        return isinstance(first, int) and first in self._tokenizer.special

    def _seen(self, token: int) -> str:
        text = self._text(token)
        return control(text) if token in self._tokenizer.special else text

    def _text(self, token: int) -> str:
        return self._tokenizer.piece(token).decode("utf-8", "replace")


def literal(text: str) -> str:
    """A terminal that matches ``text``."""
    return json.dumps(text, ensure_ascii=False)


def pattern(text: str) -> str:
    """A regular expression, without its slashes, that matches ``text``."""
    escaped = re.sub(r"([\\.+*?()|\[\]{}^$#&~/-])", r"\\\1", text)
    return escaped.replace("\n", r"\n")


def json_value(schema: Mapping[str, Any] | bool) -> str:
    """What matches JSON of a schema, with a space after each comma and colon."""
    given = dict(schema) if isinstance(schema, Mapping) else {} if schema else {"not": {}}
    return "%json " + json.dumps({**given, "x-guidance": _STYLE})
