"""Arguments as Gemma writes them: ``{name:value,…}``, texts between marks of their own."""

import json
from collections.abc import Callable
from typing import Any, cast

from motet.chat_formats.feed import Event, Feed, Malformed, Parser
from motet.chat_formats.json_text import as_json, escaped
from motet.chat_formats.lark import ANY, Spelling, literal, pattern
from motet.chat_formats.schemas import (
    STRING,
    Schema,
    lengths,
    properties,
    require_known,
    resolved,
    texts,
)
from motet.chat_formats.tools import Tool
from motet.errors import OptionError

_SCALARS = {
    "integer": r"/-?(0|[1-9][0-9]*)/",
    "number": r"/-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/",
    "boolean": '("true" | "false")',
    "null": '"null"',
}
_DEPTH = 64


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
        yield from _Reading(feed, spelling.seen(self._quote), say).value(0)

    def rules(self, name: str, tool: Tool, spelling: Spelling) -> str:
        """See ``Arguments``."""
        return "\n".join(_Grammar(tool, spelling, self._quote).of_object(name, tool.schema, 0))


class _Reading:
    """Says values as JSON."""

    def __init__(self, feed: Feed, quote: str, say: Callable[[str], Event]) -> None:
        self._feed = feed
        self._quote = quote
        self._say = say

    def value(self, depth: int) -> Parser[None]:
        """Read one; ``depth``: how many it lies in."""
        feed, say = self._feed, self._say
        if depth > _DEPTH:
            raise Malformed
        kind = yield from feed.either(["{", "[", self._quote])
        if kind == self._quote:
            yield say('"')
            yield from feed.through(self._quote, lambda text: say(escaped(text)))
            yield say('"')
        elif kind is not None:
            yield say(kind)
            yield from self._members(kind, depth)
        else:
            text = yield from _scalar(feed)
            yield say(as_json(text))

    def _members(self, kind: str, depth: int) -> Parser[None]:
        feed, say = self._feed, self._say
        closing = "}" if kind == "{" else "]"
        following = yield from feed.either([closing])
        while following != closing:
            if kind == "{":
                key = yield from feed.through(":")
                yield say(f"{json.dumps(key, ensure_ascii=False)}: ")
            yield from self.value(depth + 1)
            following = yield from feed.one_of([",", closing])
            if following == ",":
                yield say(", ")
        yield say(closing)


class _Grammar:
    """Rules for the values of one tool's arguments."""

    def __init__(self, tool: Tool, spelling: Spelling, quote: str) -> None:
        self._tool = tool
        self._spelling = spelling
        self._quote = quote
        self._is_token = spelling.begins_with_token(quote)

    def of_object(self, name: str, schema: Schema, depth: int) -> list[str]:
        """Rules of an object, the first called ``name``: the declared properties, sorted."""
        found = sorted(properties(schema, self._tool), key=lambda each: each[0].lower())
        lines: list[str] = []
        for i, (key, each, _) in enumerate(found):
            lines.append(f"{name}_{i}: {literal(f'{key}:')} {name}_{i}_value")
            lines += self._value(f"{name}_{i}_value", each, depth + 1)
        return [*_members(name, [required for *_, required in found]), *lines]

    def _value(self, name: str, given: object, depth: int) -> list[str]:
        """Rules of a value, the first called ``name``."""
        if depth > _DEPTH:
            raise OptionError(f"tool {self._tool.name!r}: its schema nests too deeply")
        schema = resolved(given, self._tool)
        if "anyOf" in schema:
            require_known(schema, {"anyOf"}, self._tool)
            return self._either(name, list(schema["anyOf"]), depth)
        kind = schema.get("type")
        if isinstance(kind, list | tuple):
            kinds = cast("list[object]", kind)
            return self._either(name, [{**schema, "type": each} for each in kinds], depth)
        listed = texts(schema)
        if listed is not None:
            require_known(schema, STRING, self._tool)
            quote = self._spelling.lark(self._quote)
            return [f"{name}: " + " | ".join(f"{quote} {_text(t)} {quote}" for t in listed)]
        if "enum" in schema or "const" in schema:
            require_known(schema, {"type", "enum", "const"}, self._tool)
            values: list[Any] = [schema["const"]] if "const" in schema else list(schema["enum"])
            return [f"{name}: " + " | ".join(literal(_scalar_text(v, self._tool)) for v in values)]
        if kind == "object":
            return self.of_object(name, schema, depth)
        if kind == "array":
            return self._array(name, schema, depth)
        if kind == "string":
            return self._string(name, schema)
        if kind in _SCALARS:
            require_known(schema, {"type"}, self._tool)
            return [f"{name}: {_SCALARS[cast(str, kind)]}"]
        require_known(schema, set[str](), self._tool)
        anything = [{"type": each} for each in ("string", *_SCALARS)]
        return self._either(name, anything, depth)

    def _either(self, name: str, schemas: list[Any], depth: int) -> list[str]:
        lines = [f"{name}: " + " | ".join(f"{name}_{i}" for i in range(len(schemas)))]
        for i, schema in enumerate(schemas):
            own = {key: each for key, each in schema.items() if _belongs(key, schema)}
            lines += self._value(f"{name}_{i}", own, depth + 1)
        return lines

    def _array(self, name: str, schema: Schema, depth: int) -> list[str]:
        require_known(schema, {"type", "items"}, self._tool)
        each = f"{name}_item"
        lines = self._value(each, schema.get("items", True), depth + 1)
        return [f'{name}: "[" ({each} ("," {each})*)? "]"', *lines]

    def _string(self, name: str, schema: Schema) -> list[str]:
        require_known(schema, STRING, self._tool)
        quote = self._spelling.lark(self._quote)
        times = lengths(schema)
        if self._is_token:
            text = ANY if times == "*" else f"/(?s:.{times})/"
            return [f"{name}: {quote} {text} {quote}"]
        inner = f"{name.upper()}_TEXT"
        return [
            f"{name}: {quote} {name}_text",
            f"{name}_text[lazy]: {inner} {quote}",
            f"{inner}: /(?s:.{times})/ & ~/(?s:.*){pattern(self._quote)}(?s:.*)/",
        ]


def _members(name: str, required: list[bool]) -> list[str]:
    """Rules of ``{a,b}`` with those members, in order, some of which may be left out."""
    lines = [f'{name}: "{{" {name}_first']
    count = len(required)
    for start in (None, *range(1, count + 1)):  # None: before the first one
        label, comma = (f"{name}_first", "") if start is None else (f"{name}_{start}_on", '"," ')
        options: list[str] = []
        for i in range(start or 0, count):
            options.append(f"{comma}{name}_{i} {name}_{i + 1}_on")
            if required[i]:
                break
        else:
            options.append('"}"')
        lines.append(f"{label}: " + " | ".join(options))
    return lines


def _belongs(key: str, schema: Schema) -> bool:
    """Whether a keyword holds values of the schema's one type."""
    kinds = {"string": {"minLength", "maxLength"}, "array": {"items"}}
    kinds["object"] = {"properties", "required", "additionalProperties"}
    if isinstance(schema.get("type"), list | tuple) or "type" not in schema:
        return True
    return not any(key in keys for kind, keys in kinds.items() if kind != schema["type"])


def _scalar(feed: Feed) -> Parser[str]:
    """Read up to what ends a value, which is left."""
    while True:
        end = min((at for mark in ",}]" if (at := feed.text.find(mark)) >= 0), default=-1)
        if end >= 0:
            return feed.take(end)
        yield from feed.more()


def _text(text: str) -> str:
    return literal(text) if text else ""


def _scalar_text(value: Any, tool: Tool) -> str:
    if isinstance(value, bool | int | float) or value is None:
        return json.dumps(value)
    raise OptionError(
        f"tool {tool.name!r}: its schema lists both texts and other values",
        hint="use anyOf",
    )
