"""A chat as the prompt that the model reads, and how its answers are to be read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from motet import checks
from motet.chat_formats import (
    ChatFormat,
    Thought,
    Tool,
    ToolChoice,
    chat_format,
    read_choice,
    read_tools,
)
from motet.engine.continuing import continued
from motet.engine.options import GenerationOptions
from motet.engine.prompts import Message, Prompt, shared_prefixes
from motet.engine.reading import Reading
from motet.errors import OptionError
from motet.grammar import Grammar, GrammarCompiler
from motet.tokenizer import Tokenizer, chat


@dataclass(frozen=True)
class ChatSetting:
    """What a caller gives beside messages, checked: see ``LLM.chat``."""

    tools: tuple[Tool, ...]
    choice: ToolChoice
    parallel: bool
    template_options: Mapping[str, Any] | None
    continues: bool

    @staticmethod
    def of(
        tools: object = None,
        tool_choice: object = "auto",
        parallel_tool_calls: object = True,
        template_options: Mapping[str, Any] | None = None,
        continue_final_message: object = False,
    ) -> "ChatSetting":
        """Raises OptionError for an unusable value."""
        read = read_tools(tools)
        choice = read_choice(tool_choice, read)
        parallel = checks.flag("parallel_tool_calls", parallel_tool_calls)
        continues = checks.flag("continue_final_message", continue_final_message)
        return ChatSetting(read, choice, parallel, template_options, continues)


@dataclass(frozen=True)
class Turn:
    """A prompt, and what is asked of the answers to it."""

    prompt: Prompt
    options: GenerationOptions
    grammar: Grammar | None = None
    reading: Reading | None = None


class ChatWriter:
    """Writes chats by the template of a model's file.

    Making one raises TokenizerError when the file has no chat template; UnsupportedError for tools
    in a form that is not read here.
    """

    def __init__(
        self, tokenizer: Tokenizer, setting: ChatSetting, *, calls_are_read: bool = True
    ) -> None:
        self._tokenizer = tokenizer
        self._setting = setting
        self._template = chat.select(tokenizer)
        self._format = chat_format(self._template, tokenizer)
        if setting.tools and calls_are_read:
            self._format.require_calls()

    def text(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """Messages up to where the model's next turn begins, unless ``add_generation_prompt`` is
        False; to the end of the last one where that is continued.

        Raises what ``chat.render`` does, and ``continued``.
        """
        if self._setting.continues:
            return continued(messages, self._rendered, self._format).text
        text = self._rendered(messages, add_generation_prompt)
        options = self._setting.template_options
        silent = options is not None and options.get("enable_thinking") is False
        return self._format.without_thought(text) if silent and add_generation_prompt else text

    def _rendered(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        """As the template writes it."""
        tools = self._setting.tools
        offered: list[Mapping[str, Any]] | None = [tool.given for tool in tools] or None
        if tools and chat.calls_without_tools(self._template, self._tokenizer):
            messages, offered = _told(messages, self._format, tools), None
        return chat.render(
            self._template,
            messages,
            self._tokenizer,
            add_generation_prompt,
            tools=offered,
            options=self._setting.template_options,
            spelt=self._format.form and self._format.form.written,
        )

    def ids(self, messages: Sequence[Message]) -> list[int]:
        """Likewise as token ids."""
        return chat.encode(self.text(messages), self._tokenizer)

    def turn(
        self,
        messages: Sequence[Message],
        options: GenerationOptions,
        grammars: GrammarCompiler,
        shares: bool,
    ) -> Turn:
        """What the model is asked for. Raises what ``text`` and ``GrammarCompiler`` do.

        ``shares``: note where other chats may begin as this one does.
        """
        text, thought = self._asked(messages)
        prompt = chat.encode(text, self._tokenizer)
        if shares:
            ends = shared_prefixes(prompt, messages, self.ids)
            options = replace(options, checkpoints=ends)
        held = options.constraint(grammars)
        setting = self._setting
        if not setting.tools and thought is Thought.NONE:
            return Turn(prompt, options, held)
        inner = held and f"%lark {{\n{held.lark}\n}}"
        lark = self._format.grammar(setting.tools, setting.choice, setting.parallel, thought, inner)
        reading = Reading(self._format, thought, setting.tools)
        return Turn(prompt, options, None if lark is None else grammars.lark(lark), reading)

    def _asked(self, messages: Sequence[Message]) -> tuple[str, Thought]:
        """The prompt, and where it leaves the model in its thinking."""
        if not self._setting.continues:
            text = self.text(messages)
            return text, self._format.thought(text)
        form = self._format.form
        said = str(messages[-1].get("content"))
        if self._setting.tools and form is not None and form.opening in said:
            raise OptionError(
                "the last message begins a call of a tool, and no call is continued",
                hint="end before it; tool_choice can require one",
            )
        going_on = continued(messages, self._rendered, self._format)
        return going_on.text, going_on.thought


def _told(messages: Sequence[Message], form: ChatFormat, tools: Sequence[Tool]) -> list[Message]:
    """Messages whose first, of the system, says what tools there are.

    For templates that know calls and leave it to their users to say of what: DeepSeek's.
    """
    parts = ["You may call these tools:"]
    parts += [json.dumps(tool.given["function"], ensure_ascii=False) for tool in tools]
    example = form.require_calls().example("NAME", "{ARGUMENTS}")
    parts += ["To call one, write its name and its arguments as JSON, exactly in this form:"]
    parts += [example]
    said = "\n\n".join(parts)
    if messages and messages[0].get("role") in ("system", "developer"):
        first = {**messages[0], "content": f"{messages[0].get('content')}\n\n{said}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": said}, *messages]
