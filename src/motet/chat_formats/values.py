"""Values in notations that are not JSON: read as JSON, and held to schemas by a grammar's rules."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

from motet.chat_formats.feed import Event, Feed, Malformed, Parser
from motet.chat_formats.json_text import as_json
from motet.chat_formats.lark import Spelling, literal
from motet.chat_formats.schemas import STRING, Schema, properties, require_known, resolved, texts
from motet.chat_formats.tools import Tool
from motet.errors import OptionError

NUMBERS = {
    "integer": r"/-?(0|[1-9][0-9]*)/",
    "number": r"/-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/",
}
DEPTH = 64


class ValueReading:
    """Says values as JSON. A notation has its own marks of texts, its texts and its keys."""

    ends: ClassVar[str] = ",}]"
    """What ends a value that is neither text nor made of others."""

    def __init__(self, feed: Feed, quotes: Sequence[str], say: Callable[[str], Event]) -> None:
        """``quotes``: what texts begin with, as parsers see it."""
        self.feed = feed
        self.say = say
        self._quotes = quotes

    def text(self, quote: str) -> Parser[None]:
        """Read a text that ``quote`` began, to its end, and say what stands between quotes."""
        raise NotImplementedError

    def key(self) -> Parser[str]:
        """Read a member's name, and what follows it."""
        raise NotImplementedError

    def space(self) -> Parser[None]:
        """Read what may stand between values."""
        return
        yield

    def scalar(self, text: str) -> str:
        """A value that is neither text nor made of others, as JSON."""
        return as_json(text)

    def value(self, depth: int) -> Parser[None]:
        """Read one; ``depth``: how many it lies in."""
        feed, say = self.feed, self.say
        if depth > DEPTH:
            raise Malformed
        yield from self.space()
        kind = yield from feed.either(["{", "[", *self._quotes])
        if kind is None:
            text = yield from self._until_an_end()
            yield say(self.scalar(text))
        elif kind in self._quotes:
            yield say('"')
            yield from self.text(kind)
            yield say('"')
        else:
            yield say(kind)
            yield from self._members(kind, depth)

    def _until_an_end(self) -> Parser[str]:
        """Read up to what ends a value, which is left."""
        while True:
            found = (self.feed.text.find(mark) for mark in self.ends)
            end = min((at for at in found if at >= 0), default=-1)
            if end >= 0:
                return self.feed.take(end)
            yield from self.feed.more()

    def _members(self, kind: str, depth: int) -> Parser[None]:
        feed, say = self.feed, self.say
        closing = "}" if kind == "{" else "]"
        yield from self.space()
        following = yield from feed.either([closing])
        while following != closing:
            if kind == "{":
                key = yield from self.key()
                yield say(f"{json.dumps(key, ensure_ascii=False)}: ")
            yield from self.value(depth + 1)
            yield from self.space()
            following = yield from feed.one_of([",", closing])
            if following == ",":
                yield say(", ")
                yield from self.space()
        yield say(closing)


class ValueRules:
    """Rules for the values of one tool's arguments. A notation has its own spellings."""

    scalars: ClassVar[Mapping[str, str]]
    """What matches a value of a type that is neither text nor made of others."""
    comma: ClassVar[str] = '","'

    def __init__(self, tool: Tool, spelling: Spelling) -> None:
        self.tool = tool
        self.spelling = spelling

    def text(self, name: str, schema: Schema) -> list[str]:
        """Rules of a text, the first called ``name``."""
        raise NotImplementedError

    def listed(self, given: Sequence[str]) -> str:
        """What matches one of these texts."""
        raise NotImplementedError

    def key(self, key: str) -> str:
        """What matches a member's name, and what follows it."""
        raise NotImplementedError

    def constant(self, value: bool | float | None) -> str:
        """What matches a value that is neither text nor made of others."""
        return literal(json.dumps(value))

    def of_object(
        self,
        name: str,
        schema: Schema,
        depth: int,
        key: Callable[[str], str] | None = None,
        brackets: str = "{}",
    ) -> list[str]:
        """Rules of an object, the first called ``name``: the declared properties, in order.

        ``key``, ``brackets``: where they are spelt otherwise than everywhere.
        """
        found = self.ordered(properties(schema, self.tool))
        lines: list[str] = []
        for i, (named, each, _) in enumerate(found):
            lines.append(f"{name}_{i}: {(key or self.key)(named)} {name}_{i}_value")
            lines += self._value(f"{name}_{i}_value", each, depth + 1)
        required = [required for *_, required in found]
        return [*_members(name, required, brackets, self.comma), *lines]

    def ordered(self, found: list[tuple[str, object, bool]]) -> list[tuple[str, object, bool]]:
        """Properties in the order in which they are written."""
        return found

    def _value(self, name: str, given: object, depth: int) -> list[str]:
        """Rules of a value, the first called ``name``."""
        if depth > DEPTH:
            raise OptionError(f"tool {self.tool.name!r}: its schema nests too deeply")
        schema = resolved(given, self.tool)
        if "anyOf" in schema:
            require_known(schema, {"anyOf"}, self.tool)
            return self._either(name, list(schema["anyOf"]), depth)
        kind = schema.get("type")
        if isinstance(kind, list | tuple):
            kinds = cast("list[object]", kind)
            return self._either(name, [{**schema, "type": each} for each in kinds], depth)
        listed = texts(schema)
        if listed is not None:
            require_known(schema, STRING, self.tool)
            return [f"{name}: {self.listed(listed)}"]
        if "enum" in schema or "const" in schema:
            require_known(schema, {"type", "enum", "const"}, self.tool)
            values: list[Any] = [schema["const"]] if "const" in schema else list(schema["enum"])
            return [f"{name}: " + " | ".join(self._constant(value) for value in values)]
        if kind == "object":
            return self.of_object(name, schema, depth)
        if kind == "array":
            return self._array(name, schema, depth)
        if kind == "string":
            require_known(schema, STRING, self.tool)
            return self.text(name, schema)
        if kind in self.scalars:
            require_known(schema, {"type"}, self.tool)
            return [f"{name}: {self.scalars[cast(str, kind)]}"]
        require_known(schema, set[str](), self.tool)
        anything = [{"type": each} for each in ("string", *self.scalars)]
        return self._either(name, anything, depth)

    def _either(self, name: str, schemas: list[Any], depth: int) -> list[str]:
        lines = [f"{name}: " + " | ".join(f"{name}_{i}" for i in range(len(schemas)))]
        for i, schema in enumerate(schemas):
            own = {key: each for key, each in schema.items() if _belongs(key, schema)}
            lines += self._value(f"{name}_{i}", own, depth + 1)
        return lines

    def _array(self, name: str, schema: Schema, depth: int) -> list[str]:
        require_known(schema, {"type", "items"}, self.tool)
        each = f"{name}_item"
        lines = self._value(each, schema.get("items", True), depth + 1)
        return [f'{name}: "[" ({each} ({self.comma} {each})*)? "]"', *lines]

    def _constant(self, value: Any) -> str:
        if isinstance(value, bool | int | float) or value is None:
            return self.constant(value)
        raise OptionError(
            f"tool {self.tool.name!r}: its schema lists both texts and other values",
            hint="use anyOf",
        )


def _members(name: str, required: list[bool], brackets: str, comma: str) -> list[str]:
    """Rules of ``{a,b}`` with those members, in order, some of which may be left out."""
    opening, closing = map(literal, brackets)
    lines = [f"{name}: {opening} {name}_first"]
    count = len(required)
    for start in (None, *range(1, count + 1)):  # None: before the first one
        label, before = (f"{name}_first", "") if start is None else (f"{name}_{start}_on", comma)
        options: list[str] = []
        for i in range(start or 0, count):
            options.append(f"{before} {name}_{i} {name}_{i + 1}_on".lstrip())
            if required[i]:
                break
        else:
            options.append(closing)
        lines.append(f"{label}: " + " | ".join(options))
    return lines


def _belongs(key: str, schema: Schema) -> bool:
    """Whether a keyword holds values of the schema's one type."""
    kinds = {"string": {"minLength", "maxLength"}, "array": {"items"}}
    kinds["object"] = {"properties", "required", "additionalProperties"}
    if isinstance(schema.get("type"), list | tuple) or "type" not in schema:
        return True
    return not any(key in keys for kind, keys in kinds.items() if kind != schema["type"])
