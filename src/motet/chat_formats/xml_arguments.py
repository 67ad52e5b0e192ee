"""Arguments as Qwen3-Coder writes them: ``<parameter=name>``, a line break, the value as text."""

import json
from collections.abc import Callable
from typing import Any

from motet.chat_formats.feed import Cut, Event, Feed, Parser
from motet.chat_formats.json_text import as_json, escaped
from motet.chat_formats.lark import Spelling, json_value, literal, pattern
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

_OPEN, _NAMED, _CLOSE = "<parameter=", ">\n", "\n</parameter>\n"


class XmlArguments:
    """Texts as they are, all other values as JSON."""

    def read(
        self, feed: Feed, spelling: Spelling, tool: Tool | None, say: Callable[[str], Event]
    ) -> Parser[None]:
        """See ``Arguments``."""
        before = "{"
        while (yield from feed.either([_OPEN])):
            name = yield from feed.through(_NAMED)
            yield say(f"{before}{json.dumps(name, ensure_ascii=False)}: ")
            before = ", "
            if tool is not None and _is_text(tool.schema.get("properties", {}).get(name), tool):
                yield say('"')
                yield from feed.through(_CLOSE, lambda text: say(escaped(text)))
                yield say('"')
            else:
                text = yield from feed.through(_CLOSE)
                yield say(as_json(text))
        if _OPEN.startswith(feed.text):  # the text ended here, or within the mark
            raise Cut
        yield say("{}" if before == "{" else "}")

    def rules(self, name: str, tool: Tool, spelling: Spelling) -> str:
        """See ``Arguments``: declared parameters, in the order of the schema."""
        body: list[str] = []
        lines: list[str] = []
        for i, (key, schema, required) in enumerate(properties(tool.schema, tool)):
            each = f"{name}_{i}"
            body.append(each if required else f"{each}?")
            value, more = _value(each, schema, tool)
            lines += [f"{each}: {literal(f'{_OPEN}{key}{_NAMED}')} {value}", *more]
        return "\n".join([f"{name}: {' '.join(body)}", *lines])


def _value(name: str, schema: object, tool: Tool) -> tuple[str, list[str]]:
    """What matches a value and what closes it, and the rules that it needs."""
    if not _is_text(schema, tool):
        given: dict[str, Any] = dict(resolved(schema, tool))
        shared = {key: tool.schema[key] for key in ("$defs", "definitions") if key in tool.schema}
        return f"{json_value({**shared, **given})} {literal(_CLOSE)}", []
    found = resolved(schema, tool)
    require_known(found, STRING, tool)
    listed = texts(found)
    if listed is not None:
        return "(" + " | ".join(literal(text + _CLOSE) for text in listed) + ")", []
    text = f"{name.upper()}_TEXT"
    close = pattern(_CLOSE)
    return f"{name}_text", [
        f"{name}_text[lazy]: {text} {literal(_CLOSE)}",
        f"{text}: /(?s:.{lengths(found)})/ & ~/(?s:.*){close}(?s:.*)/",
    ]


def _is_text(schema: object, tool: Tool) -> bool:
    """Whether values are texts, which are written as they are."""
    if schema is None:
        return False
    found: Schema = resolved(schema, tool)
    return found.get("type") == "string" or texts(found) is not None
