"""The forms of calls and the marks of thinking that are known, by what a template has of them."""

from dataclasses import dataclass
from enum import Enum

from motet.chat_formats.form import CallForm, Slot
from motet.chat_formats.gemma_arguments import GemmaArguments
from motet.chat_formats.json_arguments import JsonArguments
from motet.chat_formats.python_arguments import PythonArguments
from motet.chat_formats.xml_arguments import XmlArguments


@dataclass(frozen=True)
class Thinking:
    """Marks around what a model thinks before it answers."""

    opening: str
    closing: str
    line: str = ""
    """Behind the opening and before the closing; twice behind that."""

    def written(self, thought: str, said: str) -> str:
        """What was thought, and if anything was said the rest, as models write it."""
        begun = f"{self.opening}{self.line}{thought}"
        return f"{begun}{self.line}{self.closing}{self.line * 2}{said}" if said else begun


class Thought(Enum):
    """Where a prompt leaves a model in its thinking."""

    NONE = "it answers at once"
    OVER = "it answers, with line breaks first or without: the prompt ends with a thought's end"
    POSSIBLE = "it may begin to think"
    BEGUN = "it is thinking"
    MIDWAY = "it is thinking, and the prompt has the beginning"

    @property
    def opened(self) -> bool:
        """Whether the prompt ends within a thought."""
        return self in (Thought.BEGUN, Thought.MIDWAY)

    @property
    def closed(self) -> bool:
        """Whether the model does not think, or no more."""
        return self in (Thought.NONE, Thought.OVER)


_THINKING = (
    Thinking("<|channel>thought\n", "<channel|>"),  # Gemma 4
    Thinking("<think>", "</think>", "\n"),  # Qwen, DeepSeek and most others
    Thinking("[THINK]", "[/THINK]"),  # Mistral
    Thinking("<seed:think>", "</seed:think>"),
    Thinking("<|START_THINKING|>", "<|END_THINKING|>"),  # Command R
)
_JSON = JsonArguments()


def _json_list(opening: str, closing: str) -> CallForm:
    return CallForm(
        opening=opening,
        begin="[",
        parts=('{"name": "', Slot.NAME, '", "arguments": ', Slot.ARGUMENTS, "}"),
        between=", ",
        closing=closing,
        arguments=_JSON,
    )


_HERMES = CallForm(
    opening="<tool_call>",
    parts=('\n{"name": "', Slot.NAME, '", "arguments": ', Slot.ARGUMENTS, "}\n</tool_call>"),
    between="\n<tool_call>",
    arguments=_JSON,
)
_QWEN_CODER = CallForm(
    opening="<tool_call>",
    parts=("\n<function=", Slot.NAME, ">\n", Slot.ARGUMENTS, "</function>\n</tool_call>"),
    between="\n<tool_call>",
    arguments=XmlArguments("<parameter=", ">\n", "\n</parameter>\n"),
)
_GLM = CallForm(
    opening="<tool_call>",
    parts=(Slot.NAME, "\n", Slot.ARGUMENTS, "</tool_call>"),
    between="\n<tool_call>",
    arguments=XmlArguments("<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n"),
)
_GLM_UNBROKEN = CallForm(
    opening="<tool_call>",
    parts=(Slot.NAME, Slot.ARGUMENTS, "</tool_call>"),
    between="<tool_call>",
    arguments=XmlArguments("<arg_key>", "</arg_key><arg_value>", "</arg_value>"),
)
_KIMI = CallForm(
    opening="<|tool_calls_section_begin|>",
    parts=(
        "<|tool_call_begin|>",
        Slot.NUMBERED,
        "<|tool_call_argument_begin|>",
        Slot.ARGUMENTS,
        "<|tool_call_end|>",
    ),
    closing="<|tool_calls_section_end|>",
    arguments=_JSON,
)
_LFM = CallForm(
    opening="<|tool_call_start|>",
    begin="[",
    parts=(Slot.NAME, Slot.ARGUMENTS),
    between=", ",
    closing="]<|tool_call_end|>",
    arguments=PythonArguments(),
)
_NEMOTRON = _json_list("<TOOLCALL>", "]</TOOLCALL>")
_GRANITE = _json_list("<|tool_call|>", "]")
_LLAMA = CallForm(
    opening='{"name": "',
    parts=(Slot.NAME, '", "parameters": ', Slot.ARGUMENTS, "}"),
    arguments=_JSON,
    starts=True,
    single=True,
)
_MISTRAL_NAMED = CallForm(
    opening="[TOOL_CALLS]",
    parts=(Slot.NAME, "[ARGS]", Slot.ARGUMENTS),
    between="[TOOL_CALLS]",
    arguments=_JSON,
)
_MISTRAL_IDS = CallForm(
    opening="[TOOL_CALLS]",
    parts=(Slot.NAME, "[CALL_ID]", Slot.ID, "[ARGS]", Slot.ARGUMENTS),
    between="[TOOL_CALLS]",
    arguments=_JSON,
)
_DEEPSEEK_TYPED = CallForm(
    opening="<｜tool▁calls▁begin｜>",
    parts=(
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
        Slot.NAME,
        "\n```json\n",
        Slot.ARGUMENTS,
        "\n```<｜tool▁call▁end｜>",
    ),
    between="\n",
    closing="<｜tool▁calls▁end｜>",
    arguments=_JSON,
)
_DEEPSEEK = CallForm(
    opening="<｜tool▁calls▁begin｜>",
    parts=(
        "<｜tool▁call▁begin｜>",
        Slot.NAME,
        "<｜tool▁sep｜>",
        Slot.ARGUMENTS,
        "<｜tool▁call▁end｜>",
    ),
    closing="<｜tool▁calls▁end｜>",
    arguments=_JSON,
)

_NOT_HERMES = ("<tool_calls>", "<|tool_calls_section_begin|>")
"""Of templates that mean something else by <tool_call>."""


def find_thinking(template: str) -> Thinking | None:
    """The marks of thinking that a template has."""
    return next((each for each in _THINKING if each.closing in template), None)


def find_form(template: str) -> CallForm | None:
    """The form of the calls that a template shows; None where it is none of those known."""
    template = template.replace('\\"', '"')
    if "<|tool_call>call:" in template:
        return _gemma("<|tool_call>", "<tool_call|>", '<|"|>')
    if "<start_function_call>call:" in template:
        return _gemma("<start_function_call>", "<end_function_call>", "<escape>")
    if _KIMI.opening in template and "<|tool_call_argument_begin|>" in template:
        return _KIMI
    if "<arg_key>" in template:
        known = {"</arg_key>\n<arg_value>": _GLM, "</arg_key><arg_value>": _GLM_UNBROKEN}
        return next((form for mark, form in known.items() if mark in template), None)
    if "<tool_call>" in template and not any(mark in template for mark in _NOT_HERMES):
        if "<function=" in template:
            return _QWEN_CODER if "<parameter=" in template else None
        return _HERMES if '"name"' in template else None
    if any(mark in template for mark in (_LFM.opening, "<|tool_list_start|>", "List of tools: [")):
        return _LFM
    if "<TOOLCALL>[" in template:
        return _NEMOTRON
    if "<|tool_call|> followed by a JSON list" in template:
        return _GRANITE
    if "[TOOL_CALLS]" in template:
        if "[ARGS]" in template:
            return _MISTRAL_IDS if "[CALL_ID]" in template else _MISTRAL_NAMED
        return _mistral_list("[" if "[TOOL_CALLS][" in template else " [")
    if "<｜tool▁calls▁begin｜>" in template:
        return _DEEPSEEK_TYPED if "```json" in template else _DEEPSEEK
    if '{"name": function name, "parameters": ' in template:
        return _LLAMA
    return None


def _gemma(opening: str, closing: str, quote: str) -> CallForm:
    return CallForm(
        opening=opening,
        parts=("call:", Slot.NAME, Slot.ARGUMENTS, closing),
        between=opening,
        arguments=GemmaArguments(quote),
    )


def _mistral_list(begin: str) -> CallForm:
    parts = ('{"name": "', Slot.NAME, '", "arguments": ', Slot.ARGUMENTS, ', "id": "', Slot.ID)
    return CallForm(
        opening="[TOOL_CALLS]",
        begin=begin,
        parts=(*parts, '"}'),
        between=", ",
        closing="]",
        arguments=_JSON,
    )
