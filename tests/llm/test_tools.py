"""Chats with tools, and with thoughts, by templates of every form."""

import json
from typing import Any

import numpy as np
import pytest

from motet.engine import Completion
from motet.errors import OptionError, TokenizerError, UnsupportedError
from motet.llm import LLM
from tests.chat_formats.templates import CASES, HERMES, KIMI, KIMI_IDS, LLAMA, TOOLS
from tests.llm.making import make
from tests.scripted import N_VOCAB, ByteTokenizer, ScriptedConfig, ScriptedModel, noise, saying

ASKED = [{"role": "user", "content": "How is it"}]
PLAIN = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]?"
ROOM = ScriptedConfig(context_length=4096)


def closing(history: Any) -> np.ndarray:
    """Random logits that depend on every token, in favour of what closes something."""
    row = noise(history)
    row[[*b'"},]']] += 3
    row[:32] -= 20  # control characters
    row[128:256] -= 20
    return row


def scripted(template: str, rule: Any = closing, **options: Any) -> LLM:
    return make(ScriptedModel(rule, ByteTokenizer(template), ROOM), **options)


def calling(llm: LLM, seed: int, **options: Any) -> Completion:
    return llm.chat(
        ASKED,
        tools=TOOLS,
        tool_choice="required",
        seed=seed,
        max_tokens=250,
        temperature=1,
        **options,
    )


def needs_grammars() -> None:
    pytest.importorskip("llguidance", reason="needs llguidance, the extra motet[grammar]")


@pytest.mark.parametrize("name", CASES)
def test_required_calls_alone_and_batched(name: str) -> None:
    """Valid for their schema, the same whatever runs beside, streamed or not."""
    needs_grammars()
    jsonschema = pytest.importorskip("jsonschema")
    schemas = {tool["function"]["name"]: tool["function"].get("parameters", {}) for tool in TOOLS}
    template = CASES[name].template.replace("<think>", "").replace("</think>", "")
    with scripted(template, max_sequences=4) as llm:
        alone = [calling(llm, seed, parallel_tool_calls=False) for seed in range(3)]
        chunks = list(
            llm.chat(
                [ASKED],
                tools=TOOLS,
                tool_choice="required",
                parallel_tool_calls=False,
                seed=0,
                n=3,
                max_tokens=250,
                temperature=1,
                stream=True,
            )
        )
    ended = [each for each in alone if each.finish_reason == "tool_calls"]
    assert ended
    for each in ended:
        (call,) = each.tool_calls
        assert each.text == ""
        jsonschema.validate(json.loads(call.arguments), schemas[call.name])
    for index in range(3):
        said = [chunk for chunk in chunks if chunk.index == index]
        deltas = [delta for chunk in said for delta in chunk.tool_calls]
        (call,) = alone[index].tool_calls
        assert "".join(delta.arguments for delta in deltas) == call.arguments
        assert {delta.id for delta in deltas} == {call.id} and deltas[0].name == call.name
        assert not any(delta.name for delta in deltas[1:])
        assert said[-1].completion is not None
        assert said[-1].completion.tokens == alone[index].tokens


NOT_WRITTEN_SO = {"mistral"}
"""Forms whose history is not what the model wrote: it names calls by ids of its own, too late."""


@pytest.mark.parametrize("name", CASES)
def test_a_conversation_goes_on_from_the_tokens_that_were_written(name: str) -> None:
    needs_grammars()
    rule = saying(CASES[name].texts[0] if name == "llama" else CASES[name].text)
    with scripted(CASES[name].template, rule) as llm:
        first = llm.chat(ASKED, tools=_WIDE, temperature=0)
        assert [call.name for call in first.tool_calls] == ["weather", "now"][
            : len(CASES[name].texts)
        ]
        assert first.finish_reason == "tool_calls" and not first.text
        calls = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in first.tool_calls
        ]
        results = [
            {"role": "tool", "tool_call_id": call.id, "content": "22"} for call in first.tool_calls
        ]
        message = {"role": "assistant", "content": None, "tool_calls": calls}
        prompt = llm.chat_prompt(ASKED, tools=_WIDE)
        after = llm.chat_prompt([*ASKED, message, *results], tools=_WIDE)
    written = [*prompt, *first.tokens][: -1 if first.tokens[-1] == N_VOCAB - 1 else None]
    begun = len(prompt) - 1  # a question mark makes the model speak
    again = [*after[:begun], prompt[-1], *after[begun:]]
    assert (again[: len(written)] == written) == (name not in NOT_WRITTEN_SO)


_WIDE = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
            },
        },
    },
    TOOLS[1],
]


def test_thoughts_are_apart_from_text() -> None:
    said = "<think>\nWell, Stop\n</think>\n\nFine. Stop here"
    with scripted(HERMES, saying(said)) as llm:
        completion = llm.chat(ASKED, temperature=0)
        assert (completion.reasoning, completion.text) == ("Well, Stop", "Fine. Stop here")
        assert 0 < completion.usage.reasoning_tokens < completion.usage.completion_tokens
        stopped = llm.chat(ASKED, temperature=0, stop="Stop")
        assert (stopped.reasoning, stopped.text) == ("Well, Stop", "Fine. ")
        chunks = list(llm.chat(ASKED, temperature=0, stream=True))
        assert "".join(chunk.reasoning for chunk in chunks) == completion.reasoning
        assert "".join(chunk.text for chunk in chunks) == completion.text
        cut = llm.chat(ASKED, temperature=0, max_tokens=12)
        assert (cut.reasoning, cut.text, cut.finish_reason) == ("Well", "", "length")
        assert llm.generate("How?", temperature=0).text == said
        assert llm.generate("How?", temperature=0).reasoning is None


def test_a_schema_holds_what_is_said_after_the_thought() -> None:
    needs_grammars()
    with scripted(HERMES) as llm:
        schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
        for seed in range(3):
            completion = llm.chat(ASKED, json_schema=schema, seed=seed, max_tokens=400)
            if completion.finish_reason == "stop":
                assert isinstance(json.loads(completion.text)["a"], int)


def test_without_marks_nothing_changes() -> None:
    said = '<think>a</think><tool_call>\n{"name": "now"}'
    with scripted(PLAIN, saying(said)) as llm:
        completion = llm.chat(ASKED, temperature=0)
    assert (completion.text, completion.reasoning, completion.tool_calls) == (said, None, ())


def test_no_choice_means_no_call() -> None:
    needs_grammars()
    with scripted(HERMES) as llm:
        completion = llm.chat(ASKED, tools=TOOLS, tool_choice="none", max_tokens=60, seed=1)
        named = {"type": "function", "function": {"name": "now"}}
        (call,) = llm.chat(
            ASKED, tools=TOOLS, tool_choice=named, seed=1, max_tokens=99, parallel_tool_calls=False
        ).tool_calls
    assert not completion.tool_calls
    assert (call.name, call.arguments) == ("now", "{}")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tools": 3}, "tools is 3"),
    ({"tools": [3]}, r"tools\[0\] is 3"),
    ({"tools": [{"type": "web"}]}, "of type 'web'"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "called 'a b'"),
    ({"tools": [{"type": "function", "function": {"name": 3}}]}, "is 3"),
    ({"tools": [TOOLS[1], TOOLS[1]]}, "'now' twice"),
    ({"tools": [{**TOOLS[1], "nmae": 1}]}, "nmae"),
    ({"tools": [{"type": "function", "function": {"name": "a", "parameters": 3}}]}, "is 3"),
    (
        {
            "tools": [
                {"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}
            ]
        },
        "of type 'array'",
    ),
    ({"tools": [{"type": "function", "function": {"name": "a", "x": {1}}}]}, "JSON can't say"),
    ({"tool_choice": "requird"}, "tool_choice is 'requird'"),
    ({"tool_choice": "required"}, "there are no tools"),
    ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice is"),
    (
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}},
        "names 'x'",
    ),
    ({"parallel_tool_calls": "yes"}, "parallel_tool_calls is 'yes'"),
    ({"template_options": 3}, "template_options is 3"),
    ({"template_options": {"messages": []}}, "template_options has 'messages'"),
    ({"template_options": {"bos_token": "x"}}, "template_options has 'bos_token'"),
    ({"template_options": {"a": {1}}}, "JSON can't say"),
    ({"template_options": {"a": "x" * 70_000}}, "characters"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_wrong_options_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with scripted(HERMES) as llm, pytest.raises(OptionError, match=message):
        llm.chat(ASKED, max_tokens=1, **options)


def test_what_a_template_has_no_place_for_is_refused() -> None:
    with scripted(PLAIN) as llm:
        with pytest.raises(UnsupportedError, match="a form that Motet does not read"):
            llm.chat(ASKED, tools=TOOLS)
        call = {"id": "a", "type": "function", "function": {"name": "now", "arguments": "{}"}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        with pytest.raises(TokenizerError, match="no place for calls"):
            llm.chat([*ASKED, message])


@pytest.mark.parametrize("arguments", ("{", "[]", 3))
def test_malformed_arguments_are_refused(arguments: object) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "now", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    with scripted(HERMES) as llm, pytest.raises(TokenizerError, match="calls 'now'"):
        llm.chat([*ASKED, message])


def test_options_reach_the_template_and_tools_do_not_hide_them() -> None:
    template = LLAMA + "{% if not loud | default(true) %}quiet{% endif %}"
    with scripted(template) as llm:
        quiet = llm.render_chat(ASKED, template_options={"loud": False, "other": 1})
        assert quiet.endswith("quiet")
        offered = llm.render_chat(ASKED, tools=TOOLS)
        assert offered.startswith("[tools]") and json.dumps(TOOLS) in offered


def test_roles_that_a_template_does_not_know() -> None:
    shown = "{% if m.role in ['system', 'user'] %}[{{ m.role }}]{{ m.content }}{% endif %}"
    template = "{% for m in messages %}" + shown + "{% endfor %}"
    with scripted(template) as llm:
        said = llm.render_chat([{"role": "developer", "content": "Be brief."}, *ASKED])
        assert said == "[system]Be brief.[user]How is it"
        with pytest.raises(TokenizerError, match="no place for results"):
            llm.render_chat([*ASKED, {"role": "tool", "tool_call_id": "a", "content": "22"}])


@pytest.mark.parametrize("template", [KIMI_IDS, KIMI])
def test_ids_are_numbered_where_a_template_names_tools_by_them(template: str) -> None:
    """Ids that others gave too, in calls and in results; own ones stay."""

    def turn(call_id: str | None, name: str) -> list[dict[str, Any]]:
        call = {"type": "function", "function": {"name": name, "arguments": '{"city": "Paris"}'}}
        given = {} if call_id is None else {"id": call_id}
        calls = [{**call, **given}]
        result = {"role": "tool", "tool_call_id": call_id or "call_x", "content": "22"}
        return [{"role": "assistant", "content": None, "tool_calls": calls}, result]

    template = template.replace("[{{ m.role }}]", "[{{ m.role }} {{ m.tool_call_id }}]")
    turns = [
        *turn("call_a", "now"),
        *turn("functions.now:7", "now"),
        *turn("functions.now:7", "to"),
    ]
    with scripted(template) as llm:
        said = llm.render_chat([*ASKED, *turns, *turn(None, "now")])
    written = [each.partition("<")[0] for each in said.split("<|tool_call_begin|>")[1:]]
    told = [each.partition("]")[0] for each in said.split("[tool ")[1:]]
    own = template.startswith("{% if")
    assert written == [
        "functions.now:0",
        f"functions.now:{7 if own else 1}",
        "functions.to:2",
        "functions.now:3",
    ]
    assert told == ["functions.now:0", "functions.now:7", "functions.to:2", "call_x"]
    with scripted(CASES["hermes"].template) as llm:
        assert "functions." not in llm.render_chat([*ASKED, *turns[:2]])


def test_tools_are_told_where_a_template_leaves_it_to_its_users() -> None:
    template = CASES["deepseek"].template.replace("{{ tools | tojson }}", "").replace("[tools]", "")
    with scripted(template) as llm:
        said = llm.render_chat([{"role": "system", "content": "Be brief."}, *ASKED], tools=TOOLS)
    assert said.startswith("[system]Be brief.\n\n") and said.count("[system]") == 1
    assert json.dumps(TOOLS[0]["function"]) in said and "<｜tool▁calls▁begin｜>" in said
