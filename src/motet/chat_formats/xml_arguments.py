"""Arguments between tags: ``<parameter=name>``, a line break, the value as text, and the like."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from motet.chat_formats.feed import Cut, Event, Feed, Parser
from motet.chat_formats.json_text import as_json, escaped
from motet.chat_formats.lark import Spelling, json_value, pattern
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


@dataclass(frozen=True)
class XmlArguments:
    """Texts as they are, all other values as JSON.

    ``opening``, the name, ``named``, the value, ``closing``: an argument.
    """

    opening: str
    named: str
    closing: str

    def read(
        self, feed: Feed, spelling: Spelling, tool: Tool | None, say: Callable[[str], Event]
    ) -> Parser[None]:
        """See ``Arguments``."""
        opening, named, closing = map(spelling.seen, (self.opening, self.named, self.closing))
        before = "{"
        while (yield from feed.either([opening])):
            name = yield from feed.through(named)
            yield say(f"{before}{json.dumps(name, ensure_ascii=False)}: ")
            before = ", "
            if tool is not None and _is_text(tool.schema.get("properties", {}).get(name), tool):
                yield say('"')
                yield from feed.through(closing, lambda text: say(escaped(text)))
                yield say('"')
            else:
                text = yield from feed.through(closing)
                yield say(as_json(text))
        if opening.startswith(feed.text):  # the text ended here, or within the mark
            raise Cut
        yield say("{}" if before == "{" else "}")

    def rules(self, name: str, tool: Tool, spelling: Spelling) -> str:
        """See ``Arguments``: declared parameters, in the order of the schema."""
        body: list[str] = []
        lines: list[str] = []
        for i, (key, schema, required) in enumerate(properties(tool.schema, tool)):
            each = f"{name}_{i}"
            body.append(each if required else f"{each}?")
            value, more = self._value(each, schema, tool, spelling)
            lines.append(f"{each}: {spelling.lark(self.opening + key + self.named)} {value}")
            lines += more
        return "\n".join([f"{name}: {' '.join(body)}", *lines])

    def written(self, arguments: Mapping[str, Any]) -> str:
        """See ``Arguments``."""
        texts = {
            key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for key, value in arguments.items()
        }
        return "".join(
            f"{self.opening}{key}{self.named}{text}{self.closing}" for key, text in texts.items()
        )

    def _value(
        self, name: str, schema: object, tool: Tool, spelling: Spelling
    ) -> tuple[str, list[str]]:
        """What matches a value and what closes it, and the rules that it needs."""
        close = spelling.lark(self.closing)
        if not _is_text(schema, tool):
            given: dict[str, Any] = dict(resolved(schema, tool))
            shared = {
                key: tool.schema[key] for key in ("$defs", "definitions") if key in tool.schema
            }
            return f"{json_value({**shared, **given})} {close}", []
        found = resolved(schema, tool)
        require_known(found, STRING, tool)
        listed = texts(found)
        if listed is not None:
            each = [spelling.lark(self.closing, behind=text) for text in listed]
            return f"({' | '.join(each)})", []
        text = f"{name.upper()}_TEXT"
        free = f"{text}: /(?s:.{lengths(found)})/"
        if spelling.begins_with_token(self.closing):
            return f"{text} {close}", [free]
        return f"{name}_text", [
            f"{name}_text[lazy]: {text} {close}",
            f"{free} & ~/(?s:.*){pattern(self.closing)}(?s:.*)/",
        ]


def _is_text(schema: object, tool: Tool) -> bool:
    """Whether values are texts, which are written as they are."""
    if schema is None:
        return False
    found: Schema = resolved(schema, tool)
    return found.get("type") == "string" or texts(found) is not None
