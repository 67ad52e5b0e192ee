"""An answer taken apart while it comes: what is thought, said and called."""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from motet.chat_formats.calls import ToolCallDelta
from motet.chat_formats.feed import (
    Content,
    Cut,
    Event,
    Feed,
    Malformed,
    Parser,
    Reasoning,
    Trimmed,
    control,
    without_control_tokens,
)
from motet.chat_formats.form import CallForm
from motet.chat_formats.forms import Thinking, Thought
from motet.chat_formats.lark import Spelling
from motet.chat_formats.tools import Tool


class Reader:
    """Takes an answer's text as it comes, control tokens marked by ``feed.control``.

    What it gives, put together, is the same for any cut of the text. Of markup that the answer's
    end cuts short nothing is given but what was complete: a call from its name on, its arguments
    as far as they came.
    """

    def __init__(
        self,
        spelling: Spelling,
        thinking: Thinking | None,
        thought: Thought,
        form: CallForm | None,
        tools: Sequence[Tool],
        seed: int,
        prompt: Sequence[int],
    ) -> None:
        """``thinking``: the marks that may come first. ``thought``: where the prompt left the model
        in its thinking. ``seed``, ``prompt``: what the ids of calls are made from."""
        self._feed = Feed()
        self._spelling = spelling
        self._thinking = thinking
        self._thought_before = thought
        self._form = form
        self._tools = tools
        self._calls = _Calls(seed, prompt, form is not None and form.short_ids)
        self.thinking = False
        """Whether a thought is begun, and not at its end."""
        self._parser = self._parse()

    @property
    def thinks(self) -> bool:
        """Whether there may be thoughts."""
        return self._thinking is not None

    def push(self, text: str) -> list[Event]:
        """What ``text`` adds."""
        self._feed.push(text)
        return self._read()

    def finish(self, cut: bool = False) -> list[Event]:
        """What was held back, now that nothing follows it.

        ``cut``: the answer was not at its end; the beginning of a mark is no text then.
        """
        self._feed.ended, self._feed.cut = True, cut
        return self._read()

    def _read(self) -> list[Event]:
        events: list[Event] = []
        for event in self._parser:
            if event is None:
                break
            if isinstance(event, ToolCallDelta) or event.text:
                events.append(event)
        return events

    def _parse(self) -> Parser[None]:
        try:
            yield from self._answer()
        except Cut:
            return
        except Malformed:  # no grammar held it: text like any other
            yield from self._feed.until((), lambda text: Content(without_control_tokens(text)))

    def _answer(self) -> Parser[None]:
        thought = yield from self._thought()
        yield from self._content(thought)

    def _thought(self) -> Parser[bool]:
        """Read what is thought. Returns whether anything was, now or in the prompt's last words."""
        feed, marks = self._feed, self._thinking
        if marks is None:
            return self._thought_before is Thought.OVER
        if not self._thought_before.opened:
            opening = self._spelling.seen(marks.opening)
            while not (begun := feed.text.lstrip()).startswith(opening):
                if feed.ended or not opening.startswith(begun):
                    return False
                yield None
            feed.take(len(feed.text) - len(begun) + len(opening))
        trimmed = Trimmed(leading=self._thought_before is not Thought.MIDWAY)
        self.thinking = True
        yield from feed.through(
            self._spelling.seen(marks.closing), lambda text: Reasoning(trimmed.push(text))
        )
        self.thinking = False
        return True

    def _content(self, thought: bool) -> Parser[None]:
        """Read text and calls to the end. ``thought``: whether a thought came before."""
        feed, form = self._feed, self._form
        marks = [self._spelling.seen(form.opening)] if form else []
        if form and form.starts:
            while thought and (yield from feed.either(["\n"])):
                pass
            yield from feed.either([control("<|python_tag|>")])
            if (yield from feed.either(marks)):
                yield from form.read(feed, self._spelling, self._tools, self._calls)
            marks = []
        trimmed = Trimmed(leading=thought or self._calls.count > 0)
        while True:
            said = trimmed
            _, mark = yield from feed.until(marks, lambda text, said=said: Content(said.push(text)))
            if not mark or not form:
                yield Content(trimmed.rest())
                return
            yield from form.read(feed, self._spelling, self._tools, self._calls)
            trimmed = Trimmed()


class _Calls:
    """See ``Numbered``."""

    def __init__(self, seed: int, prompt: Sequence[int], short: bool) -> None:
        self.begun = False
        self.count = 0
        self._seed = seed
        self._prompt = prompt
        self._short = short
        self._ids: list[str] = []

    def begin(self, name: str, own_id: str | None = None) -> Event:
        """See ``Numbered``."""
        self.begun = True
        self.count += 1
        own = own_id is not None and own_id not in self._ids
        self._ids.append(own_id if own and own_id else self._made())
        return ToolCallDelta(self.count - 1, self._ids[-1], name, "")

    def more(self, arguments: str) -> Event:
        """See ``Numbered``."""
        return ToolCallDelta(self.count - 1, self._ids[-1], "", without_control_tokens(arguments))

    def end(self) -> None:
        """See ``Numbered``."""
        self.begun = False

    def _made(self) -> str:
        """An id that the same answer has wherever it is computed, and no other one."""
        asked = np.asarray(self._prompt, dtype="<i8").tobytes()
        digest = sha256(f"{self._seed}/{self.count}/".encode() + asked).hexdigest()
        return digest[:9] if self._short else f"call_{digest[:24]}"
