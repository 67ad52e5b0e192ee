"""The form in which a model writes calls of tools: reading it, and the grammar that holds to it."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from motet.chat_formats.feed import Cut, Event, Feed, Malformed, Parser
from motet.chat_formats.lark import Spelling
from motet.chat_formats.tools import Tool


class Slot(Enum):
    """A part of a call that differs from call to call."""

    NAME = "its name"
    NUMBERED = "its name and a number, which are its id too: functions.NAME:NUMBER"
    ID = "its id, nine letters and digits"
    ARGUMENTS = "its arguments"


_NUMBERED = re.compile(r"functions\.(.+):[0-9]+")
_WRITTEN = {Slot.NUMBERED: "/[0-9]{1,6}/", Slot.ID: "/[a-zA-Z0-9]{9}/"}
"""What grammars let be written where a part differs; of a numbered name, what follows the name."""


class Arguments(Protocol):
    """A notation of arguments."""

    @property
    def opening(self) -> str:
        """What they begin with where there are any, as templates spell it."""
        ...

    def read(
        self, feed: Feed, spelling: Spelling, tool: Tool | None, say: Callable[[str], Event]
    ) -> Parser[None]:
        """Read them, and say them as JSON text, piece by piece."""
        ...

    def rules(self, name: str, tool: Tool, spelling: Spelling) -> str:
        """Rules of a grammar, the first of them called ``name``."""
        ...

    def written(self, arguments: Mapping[str, Any]) -> str:
        """Arguments as models write them."""
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

    def written(self, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
        """Calls of such names with such arguments, as text."""
        return self._around(
            self._text(number, name, self.arguments.written(arguments))
            for number, (name, arguments) in enumerate(calls)
        )

    def example(self, name: str, arguments: str) -> str:
        """A call, with its opening and closing, as text."""
        return self._around([self._text(0, name, arguments)])

    def _around(self, calls: Iterable[str]) -> str:
        return "".join([self.opening, self.begin, self.between.join(calls), self.closing])

    def _text(self, number: int, name: str, arguments: str) -> str:
        said = {
            Slot.NAME: name,
            Slot.NUMBERED: f"functions.{name}:{number}",
            Slot.ID: f"{number:09}",
            Slot.ARGUMENTS: arguments,
        }
        return "".join(part if isinstance(part, str) else said[part] for part in self.parts)

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
                continue
            if part is Slot.NAME:
                text += name
                continue
            if part is Slot.NUMBERED:
                text += f"functions.{name}:"
            parts += [spelling.lark(text)] if text else []
            parts.append(arguments if part is Slot.ARGUMENTS else _WRITTEN[part])
            text = ""
        return " ".join(parts + ([spelling.lark(text)] if text else []))

    def _read_call(
        self, feed: Feed, spelling: Spelling, tools: Sequence[Tool], calls: "Numbered"
    ) -> Parser[None]:
        name, tool = "", None
        for place, part in enumerate(self.parts):
            if isinstance(part, str):
                yield from feed.expect(spelling.seen(part))
                continue
            if part is Slot.ARGUMENTS:
                if not calls.begun:
                    yield calls.begin(name)
                yield from self.arguments.read(feed, spelling, tool, calls.more)
                continue
            word = yield from _word(feed, self._ends(place, spelling))
            if part is not Slot.ID:
                name = word
            if part is Slot.NUMBERED:
                numbered = _NUMBERED.fullmatch(word)
                if numbered is None:
                    raise Malformed
                name = numbered[1]
            tool = next((each for each in tools if each.name == name), None)
            if part is not Slot.NAME and not calls.begun:
                yield calls.begin(name, word)
        calls.end()

    def _ends(self, place: int, spelling: Spelling) -> set[str]:
        """The characters that may follow a word, a part of a call."""
        texts: list[str] = []
        for part in self.parts[place + 1 :]:
            texts.append(part if isinstance(part, str) else self.arguments.opening)
            if isinstance(part, str):
                break
        return {spelling.seen(text)[0] for text in texts}


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


def _word(feed: Feed, ends: Collection[str]) -> Parser[str]:
    """Read up to one of the characters ``ends``, which is left. Raises Malformed for nothing."""
    while (at := min((i for end in ends if (i := feed.text.find(end)) >= 0), default=-1)) < 0:
        if len(feed.text) > 256:
            raise Malformed
        yield from feed.more()
    if not at:
        raise Malformed
    return feed.take(at)
