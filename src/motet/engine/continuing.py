"""A chat up to where the assistant's last message ends, which the model goes on with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from motet.chat_formats import ChatFormat, Thought
from motet.engine.prompts import Message
from motet.errors import OptionError, TokenizerError

Write = Callable[[Sequence[Message], bool], str]
"""Renders messages, and if it is True what opens the model's turn."""

_THOUGHTS = ("reasoning_content", "thinking", "reasoning")
_SPACES = "   "
"""Behind the mark; they are in the text where the template leaves spaces at the end alone."""


@dataclass(frozen=True)
class Continued:
    """A prompt, and where it leaves the model in its thinking."""

    text: str
    thought: Thought


def continued(messages: Sequence[Message], write: Write, form: ChatFormat) -> Continued:
    """The prompt for an answer that goes on from the last message.

    The template writes the message as any other, with a mark behind what it says, and the text is
    cut there, as transformers does for ``continue_final_message``. A thought that the template
    would leave out or rewrite is written as the model writes it.

    Raises OptionError for a last message that is not the assistant's or calls tools,
    TokenizerError where the template does not write what it says.
    """
    before, last = messages[:-1], messages[-1]
    if last.get("role") != "assistant":
        raise OptionError(
            "continue_final_message is True, and the last message is not the assistant's",
            hint="end with what the assistant began to say",
        )
    if last.get("tool_calls"):
        raise OptionError(
            "continue_final_message is True, and the last message calls tools",
            hint="end with text, or with the results of the calls",
        )
    said, thought = last.get("content"), _text(*(last.get(name) for name in _THOUGHTS))
    if said is None and thought:
        said = ""
    if not isinstance(said, str):
        return Continued(write(messages, False), Thought.NONE)  # which says what is wrong with it
    inline = None if thought else _inline(said, form)
    if inline is not None:
        return Continued(_turn_begun(before, write, form, said) + said, inline)
    spoken = {name: value for name, value in last.items() if name not in _THOUGHTS}
    spoken["content"] = said
    if not thought:
        text = _cut(before, spoken, "content", write)
        if text is None:
            raise _not_written("the last message")
        begun = form.thought(text.rstrip().removesuffix(said.strip()))
        if said.strip():
            begun = Thought.MIDWAY if begun is Thought.BEGUN else Thought.NONE
        return Continued(text, begun)
    name = "content" if said else "reasoning_content"
    try:
        text = _cut(before, {**spoken, "reasoning_content": thought}, name, write)
    except TokenizerError:  # a template may refuse a message that says nothing
        text = None
    if text is None or thought.strip() not in text:
        if form.thinking is None:
            raise _not_written("what the assistant thought in the last message")
        written = form.thinking.written(thought, said)
        text = _turn_begun(before, write, form, written) + written
    return Continued(text, Thought.NONE if said else Thought.MIDWAY)


def _text(*given: object) -> str:
    """The first text among these."""
    return next((each for each in given if isinstance(each, str)), "")


def _inline(said: str, form: ChatFormat) -> Thought | None:
    """Where a content that has marks of thinking in it leaves the model; None if it has none."""
    marks = form.thinking
    if marks is None:
        return None
    if marks.closing in said:
        return Thought.NONE
    begun = said.strip()
    opening = marks.opening.strip()
    if not begun.startswith(opening):
        return None
    return Thought.BEGUN if begun == opening else Thought.MIDWAY


def _turn_begun(before: Sequence[Message], write: Write, form: ChatFormat, turn: str) -> str:
    """Messages and what opens the model's turn, without the thought that ``turn`` opens itself."""
    text, marks = write(before, True), form.thinking
    if marks is None or not turn.lstrip().startswith(marks.opening.strip()):
        return text
    if form.thought(text).closed:  # it has an empty one, or the end of one
        text = text.rstrip().removesuffix(marks.closing)
    end, opening = text.rstrip(), marks.opening.strip()
    return end.removesuffix(opening) if end.endswith(opening) else text


def _cut(before: Sequence[Message], last: Message, name: str, write: Write) -> str | None:
    """What the template writes up to the end of an entry of the last message.

    None where it does not write that, or not as it is. Spaces at its end are left out where the
    template leaves them out.
    """
    number, known = 0, repr((before, last))
    while (mark := f"motetmark{number}x") in known:
        number += 1
    said = last[name]
    text = write([*before, {**last, name: said + mark + _SPACES}], False)
    at = text.rfind(mark)
    if at < 0 or not text[:at].rstrip().endswith(said.strip()):
        return None
    kept = text.startswith(_SPACES, at + len(mark))
    return text[:at] if kept else text[:at].rstrip()


def _not_written(what: str) -> TokenizerError:
    return TokenizerError(
        f"{what} can't be continued: this model's chat template does not write it as it is given",
        hint="leave out what the template leaves out or rewrites, or render the prompt yourself",
    )
