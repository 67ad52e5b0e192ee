"""How a chat's answers are taken apart: what is thought, said and called."""

from collections.abc import Sequence
from dataclasses import dataclass

from motet.chat_formats import (
    ChatFormat,
    Content,
    Reader,
    Reasoning,
    Thought,
    Tool,
    ToolCall,
    ToolCallDelta,
    control,
    joined,
)
from motet.sampling import StopStrings
from motet.tokenizer import Tokenizer


@dataclass(frozen=True)
class Reading:
    """What the answers to a chat may be. ``tools``: those that were offered."""

    format: ChatFormat
    thought: Thought
    tools: tuple[Tool, ...]

    def reader(self, seed: int, prompt: Sequence[int]) -> Reader:
        """For an answer that has not begun."""
        return self.format.reader(self.thought, self.tools, seed, prompt)


class AnswerReading:
    """One answer: its text passes through, what else it is made of is kept for the next chunk."""

    def __init__(self, reader: Reader, tokenizer: Tokenizer, stops: StopStrings) -> None:
        """``stops`` see what is said to the user alone."""
        self._reader = reader
        self._tokenizer = tokenizer
        self._stops = stops
        self._reasoning: list[str] = []
        self._deltas: list[ToolCallDelta] = []
        self.reasoning_tokens = 0
        """Tokens of thoughts and their marks."""
        self._taken = (0, 0)
        """How many of both ``take`` has given."""

    def push(self, token: int, text: str) -> str:
        """Read the text that ``token`` completes; returns what is said."""
        if token in self._tokenizer.special:
            spelling = self._tokenizer.piece(token).decode("utf-8", "replace")
            if text.endswith(spelling):
                text = text.removesuffix(spelling) + control(spelling)
        thought = self._reader.thinking
        said = self._said(self._reader.push(text))
        self.reasoning_tokens += thought or self._reader.thinking
        return said

    def flush(self, text: str, cut: bool) -> str:
        """Read the last text; returns what was held back of what is said.

        ``cut``: the answer was not at its end; of half a character or a mark nothing is given.
        """
        said = "" if cut else self._said(self._reader.push(text))
        return said + self._said(self._reader.finish(cut)) + self._stops.flush()

    def take(self) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """What was thought and called since this was last asked."""
        thoughts, deltas = self._taken
        self._taken = len(self._reasoning), len(self._deltas)
        return "".join(self._reasoning[thoughts:]), tuple(self._deltas[deltas:])

    @property
    def reasoning(self) -> str | None:
        """All that was thought; None where nothing was to be thought."""
        return "".join(self._reasoning) if self._reader.thinks else None

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """All calls."""
        return joined(self._deltas)

    def _said(self, events: Sequence[Content | Reasoning | ToolCallDelta]) -> str:
        said: list[str] = []
        for event in events:
            if self._stops.found is not None:
                break
            if isinstance(event, Content):
                said.append(self._stops.push(event.text))
            elif isinstance(event, Reasoning):
                self._reasoning.append(event.text)
            else:
                said.append(self._stops.flush())  # a stop string does not go on behind a call
                self._deltas.append(event)
        return "".join(said)
