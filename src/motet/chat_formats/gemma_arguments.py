"""Arguments as Gemma writes them: ``{name:value,…}``, texts between marks of their own."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

from motet.chat_formats.feed import Event, Feed, Parser
from motet.chat_formats.json_text import escaped
from motet.chat_formats.lark import ANY, Spelling, literal, pattern
from motet.chat_formats.schemas import Schema, lengths
from motet.chat_formats.tools import Tool
from motet.chat_formats.values import NUMBERS, ValueReading, ValueRules


class GemmaArguments:
    """Read as JSON; written in the order in which Gemma's templates sort names."""

    opening = "{"

    def __init__(self, quote: str) -> None:
        """``quote``: the mark around texts, as the template spells it."""
        self._quote = quote

    def read(
        self, feed: Feed, spelling: Spelling, tool: Tool | None, say: Callable[[str], Event]
    ) -> Parser[None]:
        """See ``Arguments``."""
        yield from feed.object_begins()
        yield from _Reading(feed, [spelling.seen(self._quote)], say).value(0)

    def rules(self, name: str, tool: Tool, spelling: Spelling) -> str:
        """See ``Arguments``."""
        return "\n".join(_Rules(tool, spelling, self._quote).of_object(name, tool.schema, 0))

    def written(self, arguments: Mapping[str, Any]) -> str:
        """See ``Arguments``."""
        return self._value(arguments)

    def _value(self, value: Any) -> str:
        if isinstance(value, str):
            return f"{self._quote}{value}{self._quote}"
        if isinstance(value, Mapping):
            members = sorted(cast(Mapping[str, Any], value).items(), key=_in_order)
            return "{" + ",".join(f"{key}:{self._value(each)}" for key, each in members) + "}"
        if isinstance(value, Sequence):
            return f"[{','.join(map(self._value, cast(Sequence[Any], value)))}]"
        return json.dumps(value)


class _Reading(ValueReading):
    """Texts to the mark that began them, names to a colon."""

    def text(self, quote: str) -> Parser[None]:
        """See ``ValueReading``."""
        yield from self.feed.through(quote, lambda text: self.say(escaped(text)))

    def key(self) -> Parser[str]:
        """See ``ValueReading``."""
        return (yield from self.feed.through(":"))


class _Rules(ValueRules):
    scalars: ClassVar[Mapping[str, str]] = {
        **NUMBERS,
        "boolean": '("true" | "false")',
        "null": '"null"',
    }

    def __init__(self, tool: Tool, spelling: Spelling, quote: str) -> None:
        super().__init__(tool, spelling)
        self._quote = quote

    def text(self, name: str, schema: Schema) -> list[str]:
        """See ``ValueRules``."""
        quote, times = self.spelling.lark(self._quote), lengths(schema)
        if self.spelling.begins_with_token(self._quote):
            text = ANY if times == "*" else f"/(?s:.{times})/"
            return [f"{name}: {quote} {text} {quote}"]
        inner = f"{name.upper()}_TEXT"
        return [
            f"{name}: {quote} {name}_text",
            f"{name}_text[lazy]: {inner} {quote}",
            f"{inner}: /(?s:.{times})/ & ~/(?s:.*){pattern(self._quote)}(?s:.*)/",
        ]

    def listed(self, given: Sequence[str]) -> str:
        """See ``ValueRules``."""
        quote = self.spelling.lark(self._quote)
        return " | ".join(f"{quote} {literal(text) if text else ''} {quote}" for text in given)

    def key(self, key: str) -> str:
        """See ``ValueRules``."""
        return literal(f"{key}:")

    def ordered(self, found: list[tuple[str, object, bool]]) -> list[tuple[str, object, bool]]:
        """See ``ValueRules``."""
        return sorted(found, key=_in_order)


def _in_order(member: tuple[Any, ...]) -> str:
    return str(member[0]).lower()
