"""Arguments as LFM2 writes them, those of a call in Python: ``(name="text", other=[1, True])``."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

from motet.chat_formats.feed import Event, Feed, Malformed, Parser
from motet.chat_formats.json_text import as_json, escaped
from motet.chat_formats.lark import Spelling, literal
from motet.chat_formats.schemas import Schema, lengths
from motet.chat_formats.tools import Tool
from motet.chat_formats.values import NUMBERS, ValueReading, ValueRules

_QUOTES = '"', "'"
_WORDS = {"True": "true", "False": "false", "None": "null"}
_ESCAPED = {"'": "'", "\n": "", **{each: f"\\{each}" for each in '"\\nrtbf'}}
"""As JSON, what stands behind a backslash; what is not here stays as it is, with the backslash."""
_CODE = re.compile(r"u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}")
_BEGUN = re.compile(r"u[0-9a-fA-F]{0,3}|x[0-9a-fA-F]?")


class PythonArguments:
    """Values are literals; JSON's true, false and null are taken too."""

    opening = "("

    def read(
        self, feed: Feed, spelling: Spelling, tool: Tool | None, say: Callable[[str], Event]
    ) -> Parser[None]:
        """See ``Arguments``."""
        reading = _Reading(feed, _QUOTES, say)
        yield from feed.expect("(")
        yield from reading.space()
        before = "{"
        following = yield from feed.either([")"])
        while following != ")":
            name = yield from feed.through("=")
            yield say(f"{before}{json.dumps(name.strip(), ensure_ascii=False)}: ")
            before = ", "
            yield from reading.value(0)
            yield from reading.space()
            following = yield from feed.one_of([",", ")"])
            yield from reading.space()
        yield say("{}" if before == "{" else "}")

    def rules(self, name: str, tool: Tool, spelling: Spelling) -> str:
        """See ``Arguments``: declared parameters, in the order of the schema."""
        rules = _Rules(tool, spelling)
        return "\n".join(
            rules.of_object(name, tool.schema, 0, lambda key: literal(f"{key}="), "()")
        )

    def written(self, arguments: Mapping[str, Any]) -> str:
        """See ``Arguments``."""
        return f"({', '.join(f'{key}={_literal(value)}' for key, value in arguments.items())})"


class _Reading(ValueReading):
    ends: ClassVar[str] = ",}])"

    def space(self) -> Parser[None]:
        """Read spaces and line breaks."""
        feed = self.feed
        while True:
            feed.text = feed.text.lstrip(" \n")
            if feed.text or feed.ended:
                return
            yield None

    def text(self, quote: str) -> Parser[None]:
        """See ``ValueReading``."""
        feed = self.feed
        while True:
            found = re.search(rf"[\\{quote}]", feed.text)
            if before := feed.take(found.start() if found else len(feed.text)):
                yield self.say(escaped(before))
            if found is None:
                yield from feed.more()
                continue
            if feed.take(1) == quote:
                return
            yield self.say((yield from self._escape()))

    def key(self) -> Parser[str]:
        """See ``ValueReading``."""
        quote = yield from self.feed.one_of(_QUOTES)
        key = yield from self.feed.through(quote)
        yield from self.space()
        yield from self.feed.expect(":")
        return key

    def scalar(self, text: str) -> str:
        """See ``ValueReading``."""
        text = text.strip()
        if not text:
            raise Malformed
        return _WORDS.get(text) or as_json(text)

    def _escape(self) -> Parser[str]:
        """Read what follows a backslash."""
        feed = self.feed
        while not (code := _CODE.match(feed.text)):
            if feed.text and not _BEGUN.fullmatch(feed.text):
                other = feed.take(1)
                return _ESCAPED[other] if other in _ESCAPED else escaped(f"\\{other}")
            yield from feed.more()
        return f"\\u{feed.take(code.end())[1:]:0>4}"


class _Rules(ValueRules):
    scalars: ClassVar[Mapping[str, str]] = {
        **NUMBERS,
        "boolean": '("True" | "False" | "true" | "false")',
        "null": '("None" | "null")',
    }
    comma: ClassVar[str] = '", "'

    def text(self, name: str, schema: Schema) -> list[str]:
        """See ``ValueRules``."""
        times = lengths(schema)
        kinds = [rf"{quote}([^\\{quote}]|\\[nrt\\{quote}]){times}{quote}" for quote in _QUOTES]
        return [f"{name}: /{'|'.join(kinds)}/"]

    def listed(self, given: Sequence[str]) -> str:
        """See ``ValueRules``."""
        return " | ".join(literal(_quoted(text, quote)) for text in given for quote in _QUOTES)

    def key(self, key: str) -> str:
        """See ``ValueRules``."""
        return "(" + " | ".join(literal(f"{quote}{key}{quote}: ") for quote in _QUOTES) + ")"

    def constant(self, value: bool | float | None) -> str:
        """See ``ValueRules``."""
        spelt = {_literal(value), json.dumps(value)}
        return " | ".join(map(literal, sorted(spelt)))


def _quoted(text: str, quote: str) -> str:
    """A text between such quotes."""
    said = escaped(text)
    return f'"{said}"' if quote == '"' else "'" + said.replace('\\"', '"').replace("'", "\\'") + "'"


def _literal(value: Any) -> str:
    """A value as Python writes it, but for texts, which are between double quotes."""
    if isinstance(value, str):
        return _quoted(value, '"')
    if isinstance(value, Mapping):
        members = cast(Mapping[str, Any], value).items()
        return (
            "{" + ", ".join(f"{_quoted(key, chr(34))}: {_literal(v)}" for key, v in members) + "}"
        )
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_literal, cast(Sequence[Any], value)))}]"
    return repr(value)
