"""What the model of a chat template writes, and how to read it and to hold it to that."""

from collections.abc import Sequence
from dataclasses import dataclass

from motet.chat_formats.form import CallForm
from motet.chat_formats.forms import Thinking, Thought
from motet.chat_formats.lark import ANY, Spelling, pattern
from motet.chat_formats.reader import Reader
from motet.chat_formats.tools import Tool, ToolChoice
from motet.errors import UnsupportedError

_PYTHON = "<|python_tag|>"


@dataclass(frozen=True)
class ChatFormat:
    """Made by ``chat_format``. ``thinking``, ``form``: None where the template has none such."""

    thinking: Thinking | None
    form: CallForm | None
    spelling: Spelling

    @property
    def short_ids(self) -> bool:
        """Whether the template wants ids of calls to be nine letters and digits."""
        return self.form is not None and self.form.short_ids

    def thought(self, prompt: str) -> Thought:
        """Where a rendered prompt leaves the model."""
        if self.thinking is None:
            return Thought.NONE
        end = prompt.rstrip()
        if end.endswith(self.thinking.opening.rstrip()):
            return Thought.BEGUN
        if end.endswith(self.thinking.closing):
            return Thought.OVER if end == prompt else Thought.NONE
        return Thought.POSSIBLE

    def without_thought(self, prompt: str) -> str:
        """A rendered prompt after which the model does not think: a thought that ends at once."""
        thought = self.thought(prompt)
        if self.thinking is None or thought.closed:
            return prompt
        opening = self.thinking.opening if thought is Thought.POSSIBLE else ""
        return prompt + opening + self.thinking.closing

    def require_calls(self) -> CallForm:
        """The form of calls. Raises UnsupportedError where it is not known."""
        if self.form is None:
            raise UnsupportedError(
                "this model's chat template shows tools in a form that Motet does not read",
                hint="the forms of Hermes, Qwen, Llama 3, Mistral, DeepSeek, GLM, Kimi, LFM2,"
                " Granite, Nemotron and Gemma are known",
            )
        return self.form

    def reader(
        self, thought: Thought, tools: Sequence[Tool], seed: int, prompt: Sequence[int]
    ) -> Reader:
        """A reader of one answer. ``tools``: those that were offered."""
        return Reader(
            self.spelling,
            None if thought.closed else self.thinking,
            thought,
            self.form if tools else None,
            tools,
            seed,
            prompt,
        )

    def grammar(
        self,
        tools: Sequence[Tool],
        choice: ToolChoice,
        parallel: bool,
        thought: Thought,
        inner: str | None = None,
    ) -> str | None:
        """What an answer may be, in llguidance's Lark; None for anything.

        ``tools``: those that were offered. ``parallel``: whether several calls may follow each
        other. ``inner``: what text has to be, the body of a rule. What is thought is free.

        Raises OptionError for a tool whose schema its calls cannot be held to.
        """
        if not tools and inner is None:
            return None
        rules = [f"start: {self._thoughts(thought)}body", *self._body(tools, choice, inner)]
        if choice.allowed:
            rules.append(self.require_calls().rules(self.spelling, choice.allowed, parallel))
        if inner is not None:
            rules.append(f"inner: {inner}")
        rules.append(f"FREE: {' & '.join([ANY, *self._not_free(tools, choice, thought)])}")
        if not thought.closed and self.thinking:
            rules.append(self._upto("thought", self.thinking.closing, "TEXT"))
            rules.append(f"TEXT: {ANY}")
        return "\n".join(rules) + "\n"

    def _thoughts(self, thought: Thought) -> str:
        """What stands before the answer's body."""
        if thought is Thought.NONE or self.thinking is None:
            return ""
        breaks = r"/\n{0,2}/"
        if thought is Thought.OVER:
            return f"{breaks} "
        if thought.opened:
            return f"thought {breaks} "
        opening = self.thinking.opening
        if self.spelling.begins_with_token(opening):
            begun = f"{breaks} {self.spelling.lark(opening)}"
        else:  # as one: line breaks of their own would be taken for text
            begun = rf"/\n{{0,2}}{pattern(opening)}/"
        return f"({begun} thought {breaks})? "

    def _body(self, tools: Sequence[Tool], choice: ToolChoice, inner: str | None) -> list[str]:
        """The rule ``body``, and those that it needs but for ``calls`` and ``inner``."""
        text = "FREE" if inner is None else "inner"
        if not choice.allowed:
            return [f"body: {text}"]
        form = self.require_calls()
        opened = f"{self.spelling.lark(form.opening)} calls"
        if form.starts and self.spelling.begins_with_token(_PYTHON):
            opened = f"({self.spelling.lark(_PYTHON)})? {opened}"
        if choice.required:
            return [f"body: {opened}"]
        if form.starts or inner is not None:
            return [f"body: {text} | {opened}"]
        return ["body: FREE | opened calls", self._upto("opened", form.opening, "FREE")]

    def _upto(self, rule: str, mark: str, text: str) -> str:
        """A rule for ``text`` and the first ``mark``."""
        if self.spelling.begins_with_token(mark):
            return f"{rule}: {text} {self.spelling.lark(mark)}"
        return f"{rule}[lazy]: {text} {self.spelling.lark(mark)}"

    def _not_free(self, tools: Sequence[Tool], choice: ToolChoice, thought: Thought) -> list[str]:
        """What text must not be, that it is not taken for a thought or a call."""
        excluded: list[str] = []
        if thought is Thought.POSSIBLE and self.thinking:
            opening = self.thinking.opening
            if not self.spelling.begins_with_token(opening):
                excluded.append(rf"\s*{pattern(opening)}.*")
        if tools and self.form:
            if self.form.starts:
                excluded.append(r'\s*\{\s*"name".*')
            elif not choice.allowed and not self.spelling.begins_with_token(self.form.opening):
                excluded.append(f".*{pattern(self.form.opening)}.*")
        return [f"~/(?s:{each})/" for each in excluded]
