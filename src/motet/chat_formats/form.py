"""The form in which a model writes calls of tools: reading it, and the grammar that holds to it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from motet.chat_formats.feed import Cut, Event, Feed, Malformed, Parser
from motet.chat_formats.lark import Spelling
from motet.chat_formats.tools import Tool


class Slot(Enum):
    """A part of a call that differs from call to call."""

    NAME = "its name"
    ID = "its id, nine letters and digits"
    ARGUMENTS = "its arguments"


class Arguments(Protocol):
    """A notation of arguments."""

    def read(
        self, feed: Feed, spelling: Spelling, tool: Tool | None, say: Callable[[str], Event]
    ) -> Parser[None]:
        """Read them, and say them as JSON text, piece by piece."""
        ...

    def rules(self, name: str, tool: Tool, spelling: Spelling) -> str:
        """Rules of a grammar, the first of them called ``name``."""
        ...


@dataclass(frozen=True)
class CallForm:
    """How calls are written: ``opening``, ``begin``, a call, ``between`` and another, ``closing``.

    ``parts``: of a call, in order. ``starts``: whether calls are all that an answer consists of,
    the opening being no mark of its own. ``single``: whether templates know one call at a time.
    """

    opening: str
    parts: tuple[str | Slot, ...]
    arguments: Arguments
    begin: str = ""
    between: str = ""
    closing: str = ""
    starts: bool = False
    single: bool = False

    @property
    def short_ids(self) -> bool:
        """Whether ids are nine letters and digits."""
        return Slot.ID in self.parts

    def read(
        self, feed: Feed, spelling: Spelling, tools: Sequence[Tool], calls: "Numbered"
    ) -> Parser[None]:
        """Read what follows the opening, and say the calls."""
        closing = [spelling.seen(self.closing)] if self.closing else []
        between = [spelling.seen(self.between)] if self.between else []
        yield from feed.expect(spelling.seen(self.begin))
        while True:
            yield from self._read_call(feed, spelling, tools, calls)
            following = yield from feed.either([*between, *closing])
            if following is None and feed.ended and feed.may_begin([*between, *closing]):
                raise Cut
            if following in closing or (following is None and (between or feed.ended)):
                return

    def example(self, name: str, arguments: str) -> str:
        """A call, with its opening and closing, as text."""
        said = {Slot.NAME: name, Slot.ID: "000000000", Slot.ARGUMENTS: arguments}
        parts = [part if isinstance(part, str) else said[part] for part in self.parts]
        return "".join([self.opening, self.begin, *parts, self.closing])

    def rules(self, spelling: Spelling, tools: Sequence[Tool], parallel: bool) -> str:
        """A grammar's rule ``calls`` for what follows the opening, and those that it needs."""
        more = ""
        if parallel and not self.single:
            between = f"{spelling.lark(self.between)} " if self.between else ""
            more = f" ({between}call)*"
        begin = f"{spelling.lark(self.begin)} " if self.begin else ""
        closing = f" {spelling.lark(self.closing)}" if self.closing else ""
        lines = [f"calls: {begin}call{more}{closing}"]
        lines.append("call: " + " | ".join(f"call_{i}" for i in range(len(tools))))
        for i, tool in enumerate(tools):
            lines.append(f"call_{i}: {self._call(spelling, tool.name, f'arguments_{i}')}")
            lines.append(self.arguments.rules(f"arguments_{i}", tool, spelling))
        return "\n".join(lines)

    def _call(self, spelling: Spelling, name: str, arguments: str) -> str:
        """A rule's body for a call of the tool ``name``."""
        parts: list[str] = []
        text = ""
        for part in self.parts:
            if isinstance(part, str):
                text += part
            elif part is Slot.NAME:
                text += name
            else:
                parts += [spelling.lark(text)] if text else []
                parts.append(arguments if part is Slot.ARGUMENTS else "/[a-zA-Z0-9]{9}/")
                text = ""
        return " ".join(parts + ([spelling.lark(text)] if text else []))

    def _read_call(
        self, feed: Feed, spelling: Spelling, tools: Sequence[Tool], calls: "Numbered"
    ) -> Parser[None]:
        name, tool = "", None
        following = [*self.parts[1:], ""]
        for part, after in zip(self.parts, following, strict=True):
            if isinstance(part, str):
                yield from feed.expect(spelling.seen(part))
                continue
            if part is Slot.ARGUMENTS:
                if not calls.begun:
                    yield calls.begin(name)
                yield from self.arguments.read(feed, spelling, tool, calls.more)
                continue
            ends = spelling.seen(after)[:1] if isinstance(after, str) else "{"
            word = yield from _word(feed, ends)
            if part is Slot.NAME:
                name = word
                tool = next((each for each in tools if each.name == word), None)
            elif not calls.begun:
                yield calls.begin(name, word)
        calls.end()


class Numbered(Protocol):
    """Says calls in order, each with its number and an id."""

    begun: bool
    """Whether a call's name is said, and it is not at its end."""

    def begin(self, name: str, own_id: str | None = None) -> Event:
        """A call's beginning. ``own_id``: what the model calls it."""
        ...

    def more(self, arguments: str) -> Event:
        """More of its arguments."""
        ...

    def end(self) -> None:
        """It is complete."""
        ...


def _word(feed: Feed, end: str) -> Parser[str]:
    """Read up to the character ``end``, which is left."""
    while (at := feed.text.find(end)) < 0:
        if len(feed.text) > 256:
            raise Malformed
        yield from feed.more()
    return feed.take(at)
