"""Arguments written as JSON."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from motet.chat_formats.feed import Event, Feed, Parser
from motet.chat_formats.lark import Spelling, json_value
from motet.chat_formats.tools import Tool


class JsonArguments:
    """A JSON object: passed on as it is written."""

    opening = "{"

    def read(
        self, feed: Feed, spelling: Spelling, tool: Tool | None, say: Callable[[str], Event]
    ) -> Parser[None]:
        """See ``Arguments``."""
        yield from feed.object_begins()
        scan = _Scan()
        while True:
            end = scan.end(feed.text)
            if feed.text:
                yield say(feed.take(len(feed.text) if end is None else end))
            if end is not None:
                return
            yield from feed.more()

    def rules(self, name: str, tool: Tool, spelling: Spelling) -> str:
        """See ``Arguments``."""
        return f"{name}: {json_value(tool.schema)}"

    def written(self, arguments: Mapping[str, Any]) -> str:
        """See ``Arguments``."""
        return json.dumps(arguments, ensure_ascii=False)


class _Scan:
    """Finds where an object ends that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = self._escaped = False

    def end(self, text: str) -> int | None:
        """How much of the next piece belongs to the object; None for all, and more."""
        for place, char in enumerate(text):
            if self._quoted:
                if self._escaped:
                    self._escaped = False
                elif char == "\\":
                    self._escaped = True
                elif char == '"':
                    self._quoted = False
            elif char == '"':
                self._quoted = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if not self._depth:
                    return place + 1
        return None
