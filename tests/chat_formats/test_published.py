"""The templates of models, as llama.cpp has them: what each writes of calls is what is read and
held to."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from motet.chat_formats import Thought, ToolCallDelta, chat_format, joined, read_tools
from motet.chat_formats.harmony import HarmonyFormat
from motet.tokenizer import Tokenizer, chat
from tests.chat_formats.test_grammar import COMPILERS, _accepts
from tests.chat_formats.test_reader import VOCABULARIES, as_seen

MODELS = Path(os.environ.get("LLAMA_CPP_MODELS", "/nonexistent")) / "templates"
PATHS = sorted(MODELS.glob("*.jinja"))
ASKED = [{"role": "user", "content": "How is it?"}]
ARGUMENTS: dict[str, Any] = {
    "city": "Paris 'é' \"\\ <b>",
    "days": -3,
    "near": [{"far": True, "name": "a\nb"}, {"name": ""}],
    "share": 0.5,
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Today's",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Where"},
                    "days": {"type": "integer", "description": "How many"},
                    "near": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "far": {"type": "boolean"},
                                "name": {"type": "string"},
                            },
                        },
                    },
                    "share": {"type": "number"},
                },
                "required": ["city"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "now",
            "description": "The time",
            "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
        },
    },
]
pytestmark = pytest.mark.skipif(
    not PATHS, reason="needs LLAMA_CPP_MODELS, llama.cpp's models folder"
)


def called(names: list[str], arguments: dict[str, Any]) -> dict[str, Any]:
    each = {"weather": arguments, "now": {}}
    calls = [
        {
            "id": f"functions.{name}:{number}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(each[name], ensure_ascii=False)},
        }
        for number, name in enumerate(names)
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}


NOT_RENDERED = {"llama-cpp-deepseek-r1.jinja"}
"""It shows no tools."""
UNQUOTED = {"LFM2.5-8B-A1B.jinja"}
"""They write texts between quotation marks as they are, whatever is in them."""
UNBROKEN = {"Reka-Edge.jinja", "StepFun3.5-Flash.jinja"}
"""Of families that are not run: no line break between calls."""
_ENDS = re.compile(r"<\|(eot_id|im_end|endoftext)\|>\s*$")


def read_forms() -> list[str]:
    found = {path.name: chat_format(path.read_text(), VOCABULARIES["plain"]) for path in PATHS}
    return [
        name
        for name, form in found.items()
        if form.form is not None and not isinstance(form, HarmonyFormat)
    ]


def rendered(template: str, tokenizer: Tokenizer, message: dict[str, Any]) -> str:
    """What a template writes of calls, and what follows."""
    tools = None if chat.calls_without_tools(template, tokenizer) else TOOLS
    form = chat_format(template, tokenizer).require_calls()

    def text(*messages: dict[str, Any]) -> str:
        talk = [*ASKED, *messages]
        return chat.render(template, talk, tokenizer, False, tools=tools, spelt=form.written)

    asked, whole = text(), text(message)
    begun = next(i for i, (a, b) in enumerate(zip(f"{asked}\0", whole, strict=False)) if a != b)
    return _ENDS.sub("", whole[whole.index(form.opening, begun) :])


def test_how_many_are_read() -> None:
    assert len({*read_forms()} - NOT_RENDERED) >= 37


@pytest.mark.parametrize("vocabulary", ["plain", "control"])
@pytest.mark.parametrize("name", [name for name in read_forms() if name not in NOT_RENDERED])
def test_what_a_template_writes_is_read_and_allowed(name: str, vocabulary: str) -> None:
    template, tokenizer = (MODELS / name).read_text(), VOCABULARIES[vocabulary]
    found, tools = chat_format(template, tokenizer), read_tools(TOOLS)
    names = ["weather"] if found.require_calls().single else ["weather", "now"]
    arguments = {**ARGUMENTS, "city": "Paris é"} if name in UNQUOTED else ARGUMENTS
    text = rendered(template, tokenizer, called(names, arguments))
    reader = found.reader(Thought.NONE, tools, 1, [1])
    events = reader.push(as_seen(text, tokenizer)) + reader.finish()
    calls = joined(e for e in events if isinstance(e, ToolCallDelta))
    assert [call.name for call in calls] == names
    assert json.loads(calls[0].arguments) == arguments
    assert all(json.loads(call.arguments) == {} for call in calls[1:])
    rest = "".join(getattr(each, "text", "") for each in events).strip("\n")
    written = text[: text.rindex(rest) if rest else None].rstrip("\n")
    allowed = _accepts(found, COMPILERS[vocabulary], written, tools, "required")
    assert allowed == (name not in UNBROKEN), written
