"""Chat completions with tools, thoughts and forms, by OpenAI's own library."""

import json
from collections.abc import Generator
from typing import Any

import httpx
import pytest

from tests.chat_formats.templates import HERMES
from tests.server.models import chatting
from tests.server.replying import replies
from tests.server.running import serving

openai = pytest.importorskip("openai")
pytest.importorskip("llguidance")

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "What the sky does.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
PERSON: Any = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"enum": [1, 2, 3]}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def reply(prompt: str) -> str:
    """What the model says."""
    if prompt.endswith("[tool]rain"):
        return "<think>So.</think>It rains."
    if prompt.endswith("weather?"):
        return "<think>A tool.</think>Let me see." + CALL
    return "<think>Hm.</think>Hello."


@pytest.fixture(scope="module")
def client() -> Generator[Any]:
    with serving(replies(reply)) as server:
        yield openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def tiny() -> Generator[httpx.Client]:
    with serving(
        lambda: chatting(HERMES.replace("think", "muse"), self_extend="auto", max_tokens=1024)
    ) as server:
        yield server


def ask(client: Any, text: str, **more: Any) -> Any:
    asked = [{"role": "user", "content": text}]
    return client.chat.completions.create(model="any", messages=asked, **more)


def test_a_call_and_its_result(client: Any) -> None:
    choice = ask(client, "weather?", tools=[WEATHER]).choices[0]
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls" and choice.message.content == "Let me see."
    assert choice.message.reasoning_content == "A tool."
    assert (call.type, call.function.name) == ("function", "weather")
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    answer = client.chat.completions.create(
        model="any",
        tools=[WEATHER],
        messages=[
            {"role": "user", "content": "weather?"},
            choice.message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "rain"},
        ],
    )
    assert answer.choices[0].message.content == "It rains."
    assert answer.choices[0].finish_reason == "stop"


def test_a_call_is_streamed(client: Any) -> None:
    with client.chat.completions.stream(
        model="any", messages=[{"role": "user", "content": "weather?"}], tools=[WEATHER]
    ) as stream:
        done = [each for each in stream if each.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion().choices[0]
    assert [each.name for each in done] == ["weather"]
    assert json.loads(final.message.tool_calls[0].function.arguments) == {"city": "Oslo"}
    assert final.message.content == "Let me see." and final.finish_reason == "tool_calls"
    pieces = list(ask(client, "weather?", tools=[WEATHER], stream=True))
    deltas = [each.choices[0].delta for each in pieces]
    assert "".join(getattr(d, "reasoning_content", None) or "" for d in deltas) == "A tool."
    assert "<" not in "".join(delta.content or "" for delta in deltas)
    assert sum(len(delta.tool_calls or ()) for delta in deltas) > 2


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_knows_nothing_calls_what_it_has_to(tiny: httpx.Client, stream: bool) -> None:
    for seed, choice in enumerate(
        ("required", {"type": "function", "function": {"name": "weather"}})
    ):
        body = {
            "messages": [{"role": "user", "content": "Hi"}],
            "tools": [WEATHER],
            "tool_choice": choice,
            "parallel_tool_calls": False,
            "seed": seed,
            "temperature": 1,
        }
        client = openai.OpenAI(base_url=f"{tiny.base_url}/v1", api_key="none")
        if stream:
            with client.chat.completions.stream(model="m", **body) as events:
                for _ in events:
                    pass
                message = events.get_final_completion().choices[0].message
        else:
            message = client.chat.completions.create(model="m", **body).choices[0].message
        (call,) = message.tool_calls
        assert call.function.name == "weather" and message.content in (None, "")
        assert list(json.loads(call.function.arguments)) == ["city"]


@pytest.mark.parametrize(
    "held",
    [
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "p", "schema": PERSON},
            }
        },
        {"response_format": {"type": "json_object", "schema": PERSON}},
        {"json_schema": PERSON},
        {"guided_json": PERSON},
        {"guided_json": json.dumps(PERSON)},
        {"structured_outputs": {"json": PERSON}},
    ],
)
def test_answers_are_held_to_a_schema(tiny: httpx.Client, held: Any) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "temperature": 1, "seed": 1, **held}
    answer = tiny.post("/v1/chat/completions", json=body).json()["choices"][0]
    found = json.loads(answer["message"]["content"])
    assert answer["finish_reason"] == "stop" and found["age"] in (1, 2, 3)


@pytest.mark.parametrize(
    ("held", "texts"),
    [
        ({"guided_choice": ["a (b)*", "c|d"]}, {"a (b)*", "c|d"}),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, {"yes", "no"}),
        ({"guided_regex": "(ab){2}"}, {"abab"}),
        ({"grammar": 'root ::= "a"{5,5}'}, {"aaaaa"}),
        ({"guided_grammar": 'start: "x" | "y"'}, {"x", "y"}),
    ],
)
def test_answers_are_held_to_a_form(tiny: httpx.Client, held: Any, texts: set[str]) -> None:
    for path, body in (
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
        ("/v1/completions", {"prompt": "Hi", "max_tokens": 50}),
    ):
        choice = tiny.post(path, json={**body, "temperature": 1, **held}).json()["choices"][0]
        assert (choice.get("text") or choice["message"]["content"]) in texts


@pytest.mark.parametrize(
    "held",
    [
        {"response_format": {"type": "json_object", "schema": {"type": "hiccup"}}},
        {"response_format": {"type": "json_object", "schema": 123}},
        {"json_schema": {"type": "object", "minProperties": "many"}},
        {"grammar": "root ::= this is (not valid"},
        {"guided_regex": "("},
        {"guided_choice": []},
        {"tools": [{"type": "web_search"}]},
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "other"}}},
        {"tool_choice": "required"},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": 5}}}]},
    ],
)
def test_what_can_not_be_is_refused(tiny: httpx.Client, held: Any) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, **held}
    for stream in (False, True):
        response = tiny.post("/v1/chat/completions", json={**body, "stream": stream})
        assert response.status_code == 400, response.text
