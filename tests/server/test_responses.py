"""The Responses API as OpenAI's client uses it."""

import asyncio
import json
from collections.abc import Generator
from typing import Any

import httpx
import openai
import pydantic
import pytest

from motet.server.settings import ServerSettings
from tests.server.replying import PLAIN, replies
from tests.server.running import serving

Json = dict[str, Any]
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "What it is like",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


def reply(prompt: str) -> str:
    """What the model of these tests says."""
    if prompt.endswith("[tool]rain"):
        return "It rains."
    if "weather?" in prompt.rpartition("[user]")[2]:
        return f"<think>I must look.</think>Wait.{CALL}"
    if "call it" in prompt:
        return CALL
    if "json" in prompt:
        return '{"name": "Ann", "age": 7}'
    return f"You said {prompt.count('[user]')} things."


@pytest.fixture(scope="module")
def server() -> Generator[httpx.Client]:
    with serving(replies(reply)) as client:
        yield client


@pytest.fixture(scope="module")
def client(server: httpx.Client) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="none", max_retries=0)


def posted(server: httpx.Client, **body: Any) -> tuple[int, Json]:
    answer = server.post("/v1/responses", json=body)
    return answer.status_code, answer.json()


def test_text_is_answered(client: openai.OpenAI) -> None:
    response = client.responses.create(model="any", input="Hello", metadata={"a": "b"})
    assert response.output_text == "You said 1 things."
    assert (response.status, response.error) == ("completed", None)
    assert response.id.startswith("resp_")
    assert response.output[0].id.startswith("msg_")  # type: ignore[union-attr]
    assert response.metadata == {"a": "b"}
    assert response.usage is not None
    assert response.usage.output_tokens == len("You said 1 things.") + 1


def test_instructions_and_system_messages_are_one(server: httpx.Client) -> None:
    items = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
    ]
    counted = server.post(
        "/v1/responses/input_tokens", json={"input": items, "instructions": "Be kind."}
    ).json()
    text = "[system]Be kind.\n\nBe brief.[user]Hello\x01"
    assert counted == {"object": "response.input_tokens", "input_tokens": len(text) + 1}


def test_a_stream_has_the_same_answer(client: openai.OpenAI) -> None:
    with client.responses.stream(model="any", input="Hello", temperature=0) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert events[0].type == "response.created"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert deltas == final.output_text == "You said 1 things."
    assert client.responses.retrieve(final.id).output_text == deltas


def test_async_clients_are_answered(server: httpx.Client) -> None:
    async def ask() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=f"{server.base_url}/v1", api_key="none") as client:
            whole = await client.responses.create(model="any", input="Hello")
            text = ""
            async for event in await client.responses.create(
                model="any", input="Hello", stream=True
            ):
                text += event.delta if event.type == "response.output_text.delta" else ""
            return whole.output_text, text

    assert asyncio.run(ask()) == ("You said 1 things.",) * 2


def test_an_answer_that_is_cut_is_incomplete(client: openai.OpenAI) -> None:
    response = client.responses.create(model="any", input="Hello", max_output_tokens=3)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output_text == "You"


def test_responses_go_on_from_others(client: openai.OpenAI) -> None:
    first = client.responses.create(model="any", input="Hello")
    second = client.responses.create(model="any", input="More", previous_response_id=first.id)
    third = client.responses.create(model="any", input="More", previous_response_id=second.id)
    assert third.output_text == "You said 3 things."
    assert third.previous_response_id == second.id
    assert first.usage is not None and second.usage is not None
    read = first.usage.input_tokens + first.usage.output_tokens
    assert second.usage.input_tokens_details.cached_tokens >= read - 1  # but for the end token
    client.responses.delete(first.id)
    fourth = client.responses.create(model="any", input="More", previous_response_id=second.id)
    assert fourth.output_text == third.output_text
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_output_is_taken_back_as_input(client: openai.OpenAI) -> None:
    items: list[Any] = [{"role": "user", "content": "Hello"}]
    for turn in range(1, 4):
        response = client.responses.create(model="any", input=items, store=False)
        assert response.output_text == f"You said {turn} things."
        items += [*response.output, {"role": "user", "content": "More"}]
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_phases_change_nothing(server: httpx.Client) -> None:
    said = {"role": "assistant", "content": "Yes?"}
    for phase in ("commentary", "final_answer"):
        first, last = ({"role": "user", "content": text} for text in ("Hello", "More"))
        plain, same = (
            posted(server, input=[first, said | more, last])[1] for more in ({}, {"phase": phase})
        )
        assert same["output"][0]["content"] == plain["output"][0]["content"]
        assert same["usage"]["input_tokens"] == plain["usage"]["input_tokens"]


def test_items_of_a_request_are_listed(client: openai.OpenAI) -> None:
    said: Any = [{"role": "user", "content": f"{n}"} for n in range(3)]
    response = client.responses.create(model="any", input=said)
    listed = client.responses.input_items.list(response.id, order="asc", limit=2)
    texts = [item.content[0].text for item in listed]  # type: ignore[union-attr]
    assert texts == ["0", "1", "2"]  # both pages
    latest = client.responses.input_items.list(response.id).data[0]
    reference: Any = {"type": "item_reference", "id": latest.id}
    again = client.responses.create(model="any", input=[reference])
    assert again.output_text == "You said 1 things."


def test_nothing_is_made_in_the_background(client: openai.OpenAI) -> None:
    response = client.responses.create(model="any", input="Hello")
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.cancel(response.id)
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.create(model="any", input="Hello", background=True)


def test_log_probabilities_are_told(client: openai.OpenAI) -> None:
    response = client.responses.create(
        model="any",
        input="Hello",
        include=["message.output_text.logprobs"],
        top_logprobs=2,
        temperature=0,
    )
    part = response.output[0].content[0]  # type: ignore[union-attr,index]
    assert part.logprobs is not None  # type: ignore[union-attr]
    assert "".join(entry.token for entry in part.logprobs) == response.output_text  # type: ignore[union-attr]
    assert all(len(entry.top_logprobs) == 2 for entry in part.logprobs)  # type: ignore[union-attr]


def test_reasoning_and_calls_are_items(client: openai.OpenAI) -> None:
    items: list[Any] = [{"role": "user", "content": "weather?"}]
    response = client.responses.create(model="any", input=items, tools=[WEATHER])
    assert [item.type for item in response.output] == ["reasoning", "message", "function_call"]
    thought, _, call = response.output
    assert thought.content[0].text == "I must look."  # type: ignore[union-attr,index]
    assert response.output_text == "Wait."
    assert call.name == "weather"  # type: ignore[union-attr]
    assert json.loads(call.arguments) == {"city": "Oslo"}  # type: ignore[union-attr]
    assert response.usage is not None
    thoughts = response.usage.output_tokens_details.reasoning_tokens
    assert thoughts == len(">I must look.</think>")  # the mark counts once it is complete

    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}  # type: ignore[union-attr]
    by_id = client.responses.create(
        model="any", input=[result], previous_response_id=response.id, tools=[WEATHER]
    )
    items += [*response.output, result]
    by_items = client.responses.create(model="any", input=items, tools=[WEATHER])
    assert by_id.output_text == by_items.output_text == "It rains."
    assert by_id.usage is not None and by_items.usage is not None
    assert by_id.usage.input_tokens == by_items.usage.input_tokens


def test_calls_are_streamed(client: openai.OpenAI) -> None:
    with client.responses.stream(model="any", input="weather?", tools=[WEATHER]) as stream:
        events = list(stream)
    thoughts = "".join(e.delta for e in events if e.type == "response.reasoning_text.delta")
    arguments = [e for e in events if e.type == "response.function_call_arguments.delta"]
    assert thoughts == "I must look."
    assert json.loads("".join(e.delta for e in arguments)) == {"city": "Oslo"}
    assert not any("<" in e.delta for e in events if e.type == "response.output_text.delta")


def test_tools_may_be_forced_or_forbidden(client: openai.OpenAI) -> None:
    other: Any = {**WEATHER, "name": "other"}
    allowed = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "weather"}],
    }
    choices: list[Any] = ["required", {"type": "function", "name": "weather"}, allowed]
    for choice in choices:
        response = client.responses.create(
            model="any", input="call it", tools=[other, WEATHER], tool_choice=choice
        )
        assert [item.type for item in response.output] == ["function_call"]
    response = client.responses.create(
        model="any", input="Hello", tools=[WEATHER], tool_choice="none"
    )
    assert [item.type for item in response.output] == ["message"]


class Person(pydantic.BaseModel):
    name: str
    age: int


def test_answers_are_held_to_a_schema(client: openai.OpenAI) -> None:
    response = client.responses.parse(model="any", input="json", text_format=Person)
    assert response.output_parsed == Person(name="Ann", age=7)
    free = client.responses.create(
        model="any", input="json", text={"format": {"type": "json_object"}}
    )
    assert json.loads(free.output_text) == {"name": "Ann", "age": 7}


@pytest.mark.parametrize(
    ("body", "said", "param"),
    [
        ({"input": []}, "there is none", None),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "image input", None),
        ({"input": [{"type": "web_search_call"}]}, "web_search_call", "input.0"),
        ({"tools": [{"type": "web_search"}]}, 'web_search = "disabled"', "tools.0"),
        ({"tools": [{"type": "namespace", "name": "a", "tools": []}]}, "MCP servers", "tools.0"),
        ({"tools": [{"type": "custom", "name": "a"}]}, "declare it as a function", "tools.0"),
        ({"tools": [{"type": "mcp"}]}, "'mcp' are not supported", "tools.0"),
        (
            {"input": [{"type": "reasoning", "summary": [], "encrypted_content": "x"}]},
            "leave this item out",
            "input.0.reasoning.encrypted_content",
        ),
        ({"truncation": "auto"}, "disabled", "truncation"),
        ({"conversation": "a", "previous_response_id": "b"}, "one of them", None),
        ({"tool_choice": {"type": "custom", "name": "x"}}, "allowed_tools", "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "x"}}, "none of the tools", "tool_choice"),
        ({"previous_response_id": "resp_0"}, "no response", "previous_response_id"),
        ({"text": {"verbosity": "low"}}, "medium", "text.verbosity"),
        ({"prompt": {"id": "x"}}, "does not know the field", "prompt"),
        ({"temperature": -1}, "greater than or equal to 0", "temperature"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    server: httpx.Client, body: Json, said: str, param: str | None
) -> None:
    status, answer = posted(server, **{"input": "Hello", **body})
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
    assert said in answer["error"]["message"]
    assert param is None or answer["error"]["param"] == param


def test_a_prompt_that_is_too_long_is_refused(client: openai.OpenAI) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="context") as refusal:
            client.responses.create(model="any", input="x" * 5000, stream=stream)
        assert refusal.value.code == "context_length_exceeded"


def test_thinking_is_turned_off(server: httpx.Client, client: openai.OpenAI) -> None:
    def count(effort: str | None) -> int:
        body = {"input": "Hi", "reasoning": {"effort": effort}}
        return server.post("/v1/responses/input_tokens", json=body).json()["input_tokens"]

    assert count("none") == count(None) + len("<think></think>")
    assert count("high") == count(None)
    assert client.responses.create(model="any", input="Hi", reasoning={"effort": "low"})


def test_a_model_that_always_thinks_is_not_told_otherwise() -> None:
    with serving(replies(reply, PLAIN)) as server:
        status, answer = posted(server, input="Hi", reasoning={"effort": "none"})
        assert (status, answer["error"]["param"]) == (400, "reasoning.effort")
        assert posted(server, input="Hi", reasoning={"effort": "high"})[0] == 200


def test_a_response_is_its_keys_alone() -> None:
    with serving(replies(reply), settings=ServerSettings(port=0, api_keys=("a", "b"))) as server:
        base = f"{server.base_url}/v1"
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=base, api_key="c").responses.create(model="any", input="Hi")
        mine, other = (openai.OpenAI(base_url=base, api_key=key) for key in "ab")
        made = mine.responses.create(model="any", input="Hi")
        assert mine.responses.retrieve(made.id).id == made.id
        for use in (other.responses.retrieve, other.responses.delete):
            with pytest.raises(openai.NotFoundError):
                use(made.id)
        with pytest.raises(openai.BadRequestError):
            other.responses.create(model="any", input="Hi", previous_response_id=made.id)


def test_llama_servers_progress_and_timings(server: httpx.Client) -> None:
    asked = {"input": "dog " * 40, "max_output_tokens": 3, "stream": True}
    asked |= {"return_progress": True, "timings_per_token": True}
    text = server.post("/v1/responses", json=asked).text
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    seen = [event["prompt_progress"] for event in events if "prompt_progress" in event]
    assert seen[-1]["processed"] == seen[-1]["total"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    said = [event for event in events if event["type"] == "response.output_text.delta"]
    assert said and all("timings" in event for event in [*said[:-1], events[-1]])
