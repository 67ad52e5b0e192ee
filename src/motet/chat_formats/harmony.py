"""Harmony, the format of gpt-oss (OpenAI 2025): an answer is messages, each in a channel.

    <|channel|>analysis<|message|>THOUGHT<|end|><|start|>assistant<|channel|>final<|message|>TEXT

A call of a tool is the last message, and has its name in its header, behind or before the channel:

    <|channel|>commentary to=functions.NAME <|constrain|>json<|message|>ARGUMENTS
     to=functions.NAME<|channel|>commentary json<|message|>ARGUMENTS

What is in the channel commentary and no call is said to the user, as what is in final is.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from motet.chat_formats.feed import Content, Event, Malformed, Parser, Reasoning, Trimmed
from motet.chat_formats.form import CallForm, Slot
from motet.chat_formats.format import ChatFormat
from motet.chat_formats.forms import Thinking, Thought
from motet.chat_formats.json_arguments import JsonArguments
from motet.chat_formats.lark import ANY, Spelling, pattern
from motet.chat_formats.reader import Reader
from motet.chat_formats.tools import Tool, ToolChoice

_CHANNEL, _MESSAGE, _END, _CONSTRAIN = "<|channel|>", "<|message|>", "<|end|>", "<|constrain|>"
_NEXT = "<|start|>assistant"
"""Between the end of a message and the header of another."""
_TO = " to=functions."
_THINKING = Thinking(f"{_CHANNEL}analysis{_MESSAGE}", f"{_END}{_NEXT}{_CHANNEL}final{_MESSAGE}")
_RECIPIENT = re.compile(r"\bto=([^\s\ud800-\udfff<]+)")
_MOST = 512
"""Characters of a header."""
_ARGUMENTS = JsonArguments()
_CALL = CallForm(
    opening=_TO,
    parts=(Slot.NAME, f"{_CHANNEL}commentary json{_MESSAGE}", Slot.ARGUMENTS),
    arguments=_ARGUMENTS,
    single=True,
)


class HarmonyFormat(ChatFormat):
    """Of a template that writes messages in channels."""

    def __init__(self, spelling: Spelling) -> None:
        super().__init__(_THINKING, _CALL, spelling)

    def thought(self, prompt: str) -> Thought:
        """Where a rendered prompt leaves the model; NONE: within what it says."""
        end = prompt.rstrip()
        if end.endswith(_THINKING.opening):
            return Thought.BEGUN
        return Thought.POSSIBLE if end.endswith(_NEXT) else Thought.NONE

    def without_thought(self, prompt: str) -> str:
        """A rendered prompt after which the model need not think: it has a thought of nothing."""
        thought = self.thought(prompt)
        if thought is Thought.NONE:
            return prompt
        opening = _THINKING.opening if thought is Thought.POSSIBLE else ""
        return f"{prompt}{opening}{_END}{_NEXT}"

    def reader(
        self, thought: Thought, tools: Sequence[Tool], seed: int, prompt: Sequence[int]
    ) -> Reader:
        """See ``ChatFormat``."""
        form = self.form if tools else None
        return HarmonyReader(self.spelling, self.thinking, thought, form, tools, seed, prompt)

    def grammar(
        self,
        tools: Sequence[Tool],
        choice: ToolChoice,
        parallel: bool,
        thought: Thought,
        inner: str | None = None,
    ) -> str | None:
        """See ``ChatFormat``. There is one call at a time, ``parallel`` or not."""
        if not tools and inner is None:
            return None
        mark = self.spelling.lark
        text = "FREE" if inner is None else "inner"
        said = f"{mark(f'{_CHANNEL}final{_MESSAGE}')} {text}"
        ends = ["call"] * bool(choice.allowed) + [said] * (not choice.required)
        steps = [f"{mark(_THINKING.opening)} body {mark(_NEXT)}"]
        if inner is None and not choice.required:
            steps.append(f"{mark(f'{_CHANNEL}commentary{_MESSAGE}')} body {mark(_NEXT)}")
        messages = f"({' | '.join(steps)})* ({' | '.join(ends)})"
        start = {
            Thought.POSSIBLE: "messages",
            Thought.NONE: f"body {mark(_NEXT)} messages"
            if choice.required
            else f"{text} | body {mark(_NEXT)} messages"
            if inner is None
            else text,
        }.get(thought, f"body {mark(_NEXT)} messages")
        rules = [f"start: {start}", f"messages: {messages}", self._body()]
        rules += [f"FREE: {self._free()}", f"TEXT: {ANY}"]
        if inner is not None:
            rules.append(f"inner: {inner}")
        if choice.allowed:
            rules += self._calls(choice.allowed)
        return "\n".join(rules) + "\n"

    def _body(self) -> str:
        """The rule for a message's text and its end."""
        lazy = "" if self.spelling.begins_with_token(_END) else "[lazy]"
        return f"body{lazy}: TEXT {self.spelling.lark(_END)}"

    def _free(self) -> str:
        """Text that is not taken for more than one message's."""
        if self.spelling.begins_with_token(_END):
            return ANY
        return f"{ANY} & ~/(?s:.*{pattern(_END)}.*)/"

    def _calls(self, tools: Sequence[Tool]) -> list[str]:
        mark = self.spelling.lark
        rules = [f"call: {' | '.join(f'call_{i}' for i in range(len(tools)))}"]
        for i, tool in enumerate(tools):
            before = mark(f"{_TO}{tool.name}{_CHANNEL}commentary json{_MESSAGE}")
            behind = mark(f"{_CHANNEL}commentary{_TO}{tool.name} {_CONSTRAIN}json{_MESSAGE}")
            rules.append(f"call_{i}: ({before} | {behind}) arguments_{i}")
            rules.append(_ARGUMENTS.rules(f"arguments_{i}", tool, self.spelling))
        return rules


class _Header(NamedTuple):
    channel: str
    recipient: str = ""


class HarmonyReader(Reader):
    """Takes messages apart."""

    def _answer(self) -> Parser[None]:
        before = self._thought_before
        header = None if before is Thought.POSSIBLE else _Header("final")
        if before.opened:
            header = _Header("analysis")
        said: set[str] = set()
        while True:
            if header is None:
                header = yield from self._header()
            if not (yield from self._message(header, said)):
                return
            header = None

    def _header(self) -> Parser[_Header]:
        """Read up to where a message's text begins. Raises Malformed for what is no header."""
        feed, seen = self._feed, self._spelling.seen
        channel, message = seen(_CHANNEL), seen(_MESSAGE)
        while not feed.text.startswith((channel, " to=")):
            if not feed.may_begin((channel, " to=")):
                raise Malformed
            yield from feed.more()
        while message not in feed.text:
            if len(feed.text) > _MOST:
                raise Malformed
            yield from feed.more()
        header, _ = yield from feed.until([message])
        recipient = _RECIPIENT.search(header)
        named = re.match(r"\s*([a-z]+)", header.partition(channel)[2])
        return _Header(named[1] if named else "final", recipient[1] if recipient else "")

    def _message(self, header: _Header, said: set[str]) -> Parser[bool]:
        """Read a message. ``said``: kinds of text that there were. Returns whether one follows."""
        feed, seen = self._feed, self._spelling.seen
        ends = [seen(_END)]
        name = header.recipient.removeprefix("functions.")
        tool = next((each for each in self._tools if each.name == name), None)
        if tool is not None and header.recipient != name:
            yield self._calls.begin(name)
            yield from _ARGUMENTS.read(feed, self._spelling, tool, self._calls.more)
            self._calls.end()
            _, end = yield from feed.until(ends, lambda _: Content(""))
        else:
            thinks = header.channel == "analysis"
            kind = "thought" if thinks else "text"
            midway = self._thought_before is Thought.MIDWAY and not said
            trimmed = Trimmed(leading=thinks and not midway)
            begun = kind in said

            def say(text: str) -> Event:
                nonlocal begun
                ready = trimmed.push(text)
                if ready and begun:
                    ready, begun = f"\n\n{ready}", False
                return Reasoning(ready) if thinks else Content(ready)

            self.thinking = thinks
            _, end = yield from feed.until(ends, say)
            if not thinks and not end:
                yield Content(trimmed.rest())
            self.thinking = False
            said.add(kind)
        if not end:
            return False
        yield from feed.expect(seen(_NEXT))
        return True
