"""The Messages API as Anthropic's client uses it."""

import asyncio
from collections.abc import Generator
from typing import Any

import anthropic
import httpx
import pytest

from motet.server.settings import ServerSettings
from tests.server.models import tiny
from tests.server.replying import PLAIN, replies
from tests.server.running import serving

Json = dict[str, Any]
WEATHER: Any = {
    "name": "weather",
    "description": "What it is like",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
GREEDY = {"temperature": 0}
PICTURE = {"type": "tool_result", "tool_use_id": "x", "content": [{"type": "image"}]}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


def reply(prompt: str) -> str:
    """What the model of these tests says."""
    if prompt.endswith("[tool]rain"):
        return "It rains."
    if prompt.endswith("[tool]Error: no city"):
        return "It failed."
    if "weather?" in prompt.rpartition("[user]")[2]:
        return f"<think>I must look.</think>Wait.{CALL}"
    if "call it" in prompt:
        return CALL
    if "json" in prompt:
        return '{"name": "Ann"}'
    return f"You said {prompt.count('[user]')} things."


def user(content: Any = "Hello") -> Any:
    return {"role": "user", "content": content}


def assistant(content: Any) -> Any:
    return {"role": "assistant", "content": content}


@pytest.fixture(scope="module")
def server() -> Generator[httpx.Client]:
    with serving(replies(reply)) as client:
        yield client


@pytest.fixture(scope="module")
def client(server: httpx.Client) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=str(server.base_url), api_key="none", max_retries=0)


def ask(client: anthropic.Anthropic, *messages: Any, **options: Any) -> anthropic.types.Message:
    options = {"model": "any", "max_tokens": 200, "messages": messages or [user()], **options}
    return client.messages.create(**options)


def counted(server: httpx.Client, **body: Any) -> int:
    answer = server.post("/v1/messages/count_tokens", json={"messages": [user()], **body})
    assert answer.status_code == 200, answer.text
    return answer.json()["input_tokens"]


def texts(message: anthropic.types.Message) -> list[str]:
    return [block.text for block in message.content if block.type == "text"]


def test_a_message_is_answered(client: anthropic.Anthropic) -> None:
    message = ask(client, metadata={"user_id": "u"})
    assert texts(message) == ["You said 1 things."]
    assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "end_turn")
    assert message.id.startswith("msg_")
    usage = message.usage
    assert usage.cache_read_input_tokens is not None
    assert usage.input_tokens + usage.cache_read_input_tokens == len("[user]Hello\x01") + 1
    assert usage.output_tokens == len("You said 1 things.") + 1


def test_a_stream_has_the_same_answer(client: anthropic.Anthropic) -> None:
    whole = ask(client, extra_body=GREEDY)
    with client.messages.stream(
        model="any", max_tokens=200, messages=[user()], extra_body=GREEDY
    ) as stream:
        text = "".join(stream.text_stream)
        streamed = stream.get_final_message()
    assert [text] == texts(streamed) == texts(whole)
    assert streamed.stop_reason == whole.stop_reason
    assert streamed.usage == whole.usage


def test_async_clients_are_answered(server: httpx.Client) -> None:
    async def ask_twice() -> tuple[list[str], str]:
        async with anthropic.AsyncAnthropic(
            base_url=str(server.base_url), auth_token="none", api_key=None
        ) as client:
            whole = await client.messages.create(model="any", max_tokens=99, messages=[user()])
            async with client.messages.stream(
                model="any", max_tokens=99, messages=[user()]
            ) as stream:
                return texts(whole), await stream.get_final_text()

    assert asyncio.run(ask_twice()) == (["You said 1 things."], "You said 1 things.")


def test_why_an_answer_ends_is_told(client: anthropic.Anthropic) -> None:
    stopped = ask(client, stop_sequences=["X", " things"])
    assert texts(stopped) == ["You said 1"]
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", " things")
    cut = ask(client, max_tokens=3)
    assert (texts(cut), cut.stop_reason, cut.stop_sequence) == (["You"], "max_tokens", None)


def test_a_conversation_goes_on_in_memory(client: anthropic.Anthropic) -> None:
    chat = [user("Hello, this is the beginning of a conversation")]
    first = ask(client, *chat, system="Be kind.")
    second = ask(client, *chat, assistant(first.content), user("More"), system="Be kind.")
    assert texts(second) == ["You said 2 things."]
    read = first.usage.input_tokens + (first.usage.cache_read_input_tokens or 0)
    cached = second.usage.cache_read_input_tokens or 0
    assert cached >= read + first.usage.output_tokens - 1  # but for the end token


def test_tokens_are_counted(server: httpx.Client, client: anthropic.Anthropic) -> None:
    count = client.messages.count_tokens(model="any", messages=[user()], system="Be kind.")
    assert count.input_tokens == len("[system]Be kind.[user]Hello\x01") + 1
    blocks = [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]
    assert counted(server, system=blocks) == count.input_tokens
    assert counted(server, tools=[WEATHER]) > counted(server) + 50


def test_turns_of_one_role_are_one(server: httpx.Client) -> None:
    parts = [{"type": "text", "text": "Hello"}, {"type": "text", "text": "you"}]
    assert counted(server, messages=[user("Hello"), user("you")]) == counted(
        server, messages=[user(parts)]
    )


def test_thoughts_of_earlier_turns_are_read(server: httpx.Client) -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    text = {"type": "text", "text": "Hi"}
    with_it, without = (
        counted(server, messages=[user(), assistant(blocks), user()])
        for blocks in ([thought, text], [text])
    )
    assert with_it == without + len("<think>Hm.</think>")


def test_a_tool_is_called_and_its_result_read(client: anthropic.Anthropic) -> None:
    question = user("weather?")
    asked = ask(client, question, tools=[WEATHER])
    thought, text, call = asked.content
    assert (thought.type, text.type, call.type) == ("thinking", "text", "tool_use")
    assert asked.stop_reason == "tool_use"
    assert call.input == {"city": "Oslo"}  # type: ignore[union-attr]
    name: Any = {"type": "tool_result", "tool_use_id": call.id}  # type: ignore[union-attr]
    turn = assistant(asked.content)
    rain = ask(client, question, turn, user([{**name, "content": "rain"}]), tools=[WEATHER])
    assert texts(rain) == ["It rains."]
    parts = [{"type": "text", "text": "no city"}]
    failed = user([{**name, "content": parts, "is_error": True}])
    assert texts(ask(client, question, turn, failed, tools=[WEATHER])) == ["It failed."]
    both = user([{"type": "text", "text": "Here:"}, {**name, "content": "rain"}])
    assert texts(ask(client, question, turn, both, tools=[WEATHER])) == ["You said 2 things."]


def test_calls_are_streamed(client: anthropic.Anthropic) -> None:
    with client.messages.stream(
        model="any", max_tokens=200, messages=[user("weather?")], tools=[WEATHER]
    ) as stream:
        kinds = {event.type for event in stream}
        message = stream.get_final_message()
    assert {"thinking", "signature", "text", "input_json"} <= kinds
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    assert message.content[2].input == {"city": "Oslo"}  # type: ignore[union-attr]
    assert texts(message) == ["Wait."]


def test_tools_may_be_forced_or_forbidden(client: anthropic.Anthropic) -> None:
    choices: list[Any] = [
        {"type": "any", "disable_parallel_tool_use": True},
        {"type": "tool", "name": "weather"},
    ]
    for choice in choices:
        message = ask(client, user("call it"), tools=[WEATHER], tool_choice=choice)
        assert [block.type for block in message.content] == ["tool_use"]
    message = ask(client, tools=[WEATHER], tool_choice={"type": "none"})
    assert [block.type for block in message.content] == ["text"]


def test_answers_are_held_to_a_schema(client: anthropic.Anthropic) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
        "additionalProperties": False,
    }
    form = {"format": {"type": "json_schema", "schema": schema}}
    assert texts(ask(client, user("json"), output_config=form)) == ['{"name": "Ann"}']


def test_thinking_is_turned_off(server: httpx.Client) -> None:
    off = counted(server, thinking={"type": "disabled"})
    assert off == counted(server) + len("<think></think>")
    on = {"type": "enabled", "budget_tokens": 1024}
    assert counted(server, thinking=on) == counted(server)
    assert counted(server, thinking={"type": "adaptive"}, output_config={"effort": "low"})


def test_a_model_that_always_thinks_is_not_told_otherwise() -> None:
    with serving(replies(reply, PLAIN)) as server:
        client = anthropic.Anthropic(base_url=str(server.base_url), api_key="none", max_retries=0)
        with pytest.raises(anthropic.BadRequestError, match="thinks before it answers"):
            ask(client, thinking={"type": "disabled"})
        assert texts(ask(client, thinking={"type": "enabled", "budget_tokens": 1024}))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": [user([{"type": "image", "source": {}}])]}, "image input is not supported"),
        ({"messages": [user([{"type": "document", "source": {}}])]}, "document input"),
        ({"messages": [user([PICTURE])]}, "image input is not supported"),
        ({"messages": [user([{"type": "server_tool_use"}])]}, "server_tool_use"),
        ({"messages": [user([{"type": "thinking", "thinking": "x"}])]}, "no thinking blocks"),
        (
            {"messages": [user(), assistant([{"type": "redacted_thinking", "data": "x"}]), user()]},
            "leave this block out",
        ),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
        ({"tool_choice": {"type": "tool"}}, "name"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": []}, "mcp_servers"),
        ({"temperature": -1}, "temperature"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    server: httpx.Client, body: Json, said: str
) -> None:
    body = {"max_tokens": 9, "messages": [user()], **body}
    answer = server.post("/v1/messages", json=body)
    error = answer.json()
    assert (answer.status_code, error["type"]) == (400, "error")
    assert error["error"]["type"] == "invalid_request_error"
    assert said in error["error"]["message"]


def test_errors_are_the_clients_own(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="context"):
        ask(client, user("x" * 5000))
    with pytest.raises(anthropic.BadRequestError, match="context"):
        ask(client, user("x" * 5000), stream=True)
    with pytest.raises(anthropic.BadRequestError, match="foo"):
        ask(client, extra_body={"foo": 1})


def test_keys_are_taken_as_the_client_sends_them() -> None:
    with serving(replies(reply), settings=ServerSettings(port=0, api_keys=("a",))) as server:
        base = str(server.base_url)
        ask(anthropic.Anthropic(base_url=base, api_key="a"))
        ask(anthropic.Anthropic(base_url=base, auth_token="a", api_key=None))
        with pytest.raises(anthropic.AuthenticationError):
            ask(anthropic.Anthropic(base_url=base, api_key="b"))


def test_blocks_go_back_as_clients_write_them(client: anthropic.Anthropic) -> None:
    asked = user("What weather?")
    said = client.messages.create(model="any", max_tokens=99, messages=[asked], tools=[WEATHER])
    blocks = [block.model_dump() for block in said.content]  # with a null for each optional field
    call = next(block for block in said.content if block.type == "tool_use")
    call_id = call.id
    result = user([{"type": "tool_result", "tool_use_id": call_id, "content": "rain"}])
    again = client.messages.create(
        model="any",
        max_tokens=99,
        messages=[asked, assistant(blocks), result],
        tools=[WEATHER],
        system=[{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
        stop_sequences=None,  # pyright: ignore[reportArgumentType]
    )
    assert again.content[0].type == "text" and again.content[0].text == "It rains."


def test_models_are_listed() -> None:
    with serving(tiny) as server:
        client = anthropic.Anthropic(base_url=str(server.base_url), api_key="none")
        (model,) = client.models.list()
        assert (model.type, model.display_name) == ("model", model.id)
        assert model.created_at.timestamp() > 1e9
        assert client.models.retrieve(model.id).id == model.id


def test_threads_are_refused_so_that_clients_go_on_without(server: httpx.Client) -> None:
    body = {"max_tokens": 9, "messages": [user()], "thread": {"type": "create"}}
    response = server.post("/v1/messages", json=body)
    error = response.json()["error"]
    assert response.status_code == 400 and "thread" in error["message"]
    assert error["details"] == {
        "error_code": "thread_unsupported_request",
        "unsupported": ["thread"],
    }
