"""Text that comes in pieces, and the parts of parsers that read it.

A parser is a generator: it yields what it has read, and None where it needs more text. What it
yields, put together, does not depend on how the text was cut.
"""

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from motet.chat_formats.calls import ToolCallDelta

T = TypeVar("T")

OPEN, CLOSE = "\udc00", "\udc01"
"""Around a control token's spelling: no decoded text has these, so that text which spells such a
token is not taken for it."""
_CONTROL = re.compile(f"{OPEN}[^{CLOSE}]*{CLOSE}")


@dataclass(frozen=True)
class Content:
    """What the model says to the user."""

    text: str


@dataclass(frozen=True)
class Reasoning:
    """What it thinks before."""

    text: str


Event = Content | Reasoning | ToolCallDelta
Parser = Generator[Event | None, None, T]
Say = Callable[[str], Event]


class Cut(Exception):
    """The text ended within something that has an end of its own."""


class Malformed(Exception):
    """The text is not what its form says."""


def control(spelling: str) -> str:
    """A control token as parsers see it."""
    return f"{OPEN}{spelling}{CLOSE}"


class Feed:
    """``text``: what has come and is not read yet. ``ended``: nothing more will come. ``cut``: for
    more was not allowed, so that what looks like the beginning of a mark was one."""

    def __init__(self) -> None:
        self.text = ""
        self.ended = self.cut = False
        self._half = ""
        """The beginning of a control token's spelling."""

    def push(self, text: str) -> None:
        """More text."""
        text = self._half + text
        begun = text.rfind(OPEN)
        end = begun if begun > text.rfind(CLOSE) else len(text)
        self._half = text[end:]
        self.text += text[:end]

    def object_begins(self) -> "Parser[None]":
        """Wait for an object's opening brace, which is left. Raises Malformed for anything else."""
        while not self.text:
            yield from self.more()
        if self.text[0] != "{":
            raise Malformed

    def take(self, size: int) -> str:
        """The next ``size`` characters."""
        taken, self.text = self.text[:size], self.text[size:]
        return taken

    def more(self) -> Parser[None]:
        """Wait for more text. Raises Cut where there is none."""
        if self.ended:
            raise Cut
        yield None

    def expect(self, text: str) -> Parser[None]:
        """Read exactly this. Raises Malformed where it is something else."""
        while not self.text.startswith(text):
            if not text.startswith(self.text):
                raise Malformed
            yield from self.more()
        self.take(len(text))

    def either(self, texts: Sequence[str]) -> Parser[str | None]:
        """Read one of these; None where something else follows, which is not read."""
        while True:
            found = [text for text in texts if self.text.startswith(text)]
            if found:
                return self.take(len(max(found, key=len)))
            if self.ended or not self.may_begin(texts):
                return None
            yield None

    def may_begin(self, texts: Sequence[str]) -> bool:
        """Whether what is there may become one of these."""
        return any(text.startswith(self.text) for text in texts)

    def until(
        self, marks: Sequence[str], say: Say | None = None, must: bool = False
    ) -> Parser[tuple[str, str]]:
        """Read up to the first of ``marks``: what is left of the text, and the mark.

        ``say``: what to yield the text as while it comes; then nothing is left. The mark is "" at
        the end of the text; what may have been the beginning of one is text then, unless one
        ``must`` come.
        """
        while True:
            found = [(at, mark) for mark in marks if (at := self.text.find(mark)) >= 0]
            mark = ""
            if found:
                at, mark = min(found)
            else:
                at = len(self.text)
                if must or self.cut or not self.ended:
                    at -= max((overlap(self.text, mark) for mark in marks), default=0)
            if say and at:
                yield say(self.take(at))
                at = 0
            if mark or self.ended:
                text = self.take(at)
                self.take(len(mark))
                return text, mark
            yield None

    def through(self, mark: str, say: Say | None = None) -> Parser[str]:
        """As ``until`` one mark. Raises Cut where it does not come."""
        text, found = yield from self.until([mark], say, must=True)
        if not found:
            raise Cut
        return text

    def one_of(self, texts: Sequence[str]) -> Parser[str]:
        """As ``either``. Raises Malformed where it is none of them."""
        found = yield from self.either(texts)
        if found is None:
            raise Cut if self.ended else Malformed
        return found


class Trimmed:
    """Passes text on without the line breaks around it."""

    def __init__(self, leading: bool = True) -> None:
        """``leading``: leave out those before the text too."""
        self._begun = not leading
        self._held = ""

    def push(self, text: str) -> str:
        """What of the text so far is not at an end."""
        text = without_control_tokens(self._held + text)
        if not self._begun:
            text = text.lstrip("\n")
            self._begun = bool(text)
        ready = text.rstrip("\n")
        self._held = text[len(ready) :]
        return ready

    def rest(self) -> str:
        """The line breaks at the end, where they are to be kept."""
        held, self._held = self._held, ""
        return held


def without_control_tokens(text: str) -> str:
    """Text alone: a control token stands for none."""
    return _CONTROL.sub("", text) if OPEN in text else text


def overlap(text: str, mark: str) -> int:
    """Length of the longest end of ``text`` that begins ``mark`` without completing it."""
    longest = min(len(text), len(mark) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(mark[:n])), 0)
