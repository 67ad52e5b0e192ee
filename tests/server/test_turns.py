"""Conversations by the Responses and the Messages API, on each kind of memory."""

import json
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import anthropic
import httpx
import jsonschema
import openai
import pytest

from motet import LLM
from motet.cli.demo import shipped_model
from tests.server.running import serving

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
CALLING = (
    "{% if tools %}{% for t in tools %}{{ t.function | tojson }}{% endfor %}"
    "<tool_call>{% endif %}"
    + TEMPLATE.replace(
        "{{ m.content }}",
        "{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>\n"
        '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n'
        "</tool_call>{% endfor %}",
    )
)
SCHEMA: Any = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}, "day": {"enum": ["Mon", "Tue"]}},
    "required": ["on", "day"],
    "additionalProperties": False,
}
SYSTEM = "It was a dark and stormy night, and the old house by the river stood quite alone."


def tiny(name: str, template: str = TEMPLATE) -> Callable[[], LLM]:
    def make() -> LLM:
        llm = LLM(shipped_model().parent / f"{name}.gguf", max_sequences=6)
        assert llm.tokenizer is not None
        llm.tokenizer.chat_templates = MappingProxyType({"default": template})
        return llm

    return make


@pytest.fixture(scope="module", params=["motet-tiny", "motet-tiny-jamba", "motet-tiny-mamba"])
def server(request: pytest.FixtureRequest) -> Generator[httpx.Client]:
    with serving(tiny(request.param)) as client:
        yield client


def test_a_response_goes_on_where_the_last_one_ended(server: httpx.Client) -> None:
    client = openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="none", max_retries=0)
    options: Any = {"model": "any", "instructions": SYSTEM, "seed": 1, "max_output_tokens": 12}
    client.responses.create(input="Who was there?", extra_body=options, model="any")
    first = client.responses.create(input="Who is there?", extra_body=options, model="any")
    second = client.responses.create(
        input="Why?", previous_response_id=first.id, extra_body=options, model="any"
    )
    assert first.usage is not None and second.usage is not None
    system = server.post(
        "/v1/responses/input_tokens", json={"input": "", "instructions": SYSTEM}
    ).json()["input_tokens"]
    assert first.usage.input_tokens_details.cached_tokens > 0.8 * system
    assert second.usage.input_tokens_details.cached_tokens >= first.usage.input_tokens - 1


def test_responses_are_turns_of_a_conversation(server: httpx.Client) -> None:
    number = server.post("/v1/conversations", json={}).json()["id"]

    def say(text: str, stream: bool = False, **options: Any) -> dict[str, Any]:
        body = {"input": text, "max_output_tokens": 8, "seed": 3, "stream": stream, **options}
        answer = server.post("/v1/responses", json=body)
        if not stream:
            return answer.json()
        return json.loads(answer.text.strip().rpartition("data: ")[2])["response"]

    def said(response: dict[str, Any]) -> str:
        return response["output"][0]["content"][0]["text"]

    made = [say("Who?", conversation=number), say("Why?", stream=True, conversation={"id": number})]
    first = say("Who?")
    second = say("Why?", previous_response_id=first["id"])
    assert [said(each) for each in made] == [said(first), said(second)]
    assert made[0]["conversation"] == {"id": number}
    read = made[0]["usage"]["input_tokens"]
    assert made[1]["usage"]["input_tokens_details"]["cached_tokens"] >= read - 1
    listed = server.get(f"/v1/conversations/{number}/items", params={"order": "asc"}).json()
    texts = [item["content"][0]["text"] for item in listed["data"]]
    assert texts == ["Who?", said(first), "Why?", said(second)]
    refused = say("When?", previous_response_id=made[0]["id"])
    assert "part of a conversation" in refused["error"]["message"]
    assert "no conversation" in say("x", conversation="conv_0")["error"]["message"]


def test_messages_go_on_where_the_last_one_ended(server: httpx.Client) -> None:
    client = anthropic.Anthropic(base_url=str(server.base_url), api_key="none", max_retries=0)
    options: Any = {"model": "any", "max_tokens": 12, "system": SYSTEM, "extra_body": {"seed": 2}}
    chat: list[Any] = [{"role": "user", "content": "Where are we?"}]
    first = client.messages.create(messages=chat, **options)
    chat += [{"role": "assistant", "content": first.content}, {"role": "user", "content": "Why?"}]
    second = client.messages.create(messages=chat, **options)
    cached = second.usage.cache_read_input_tokens or 0
    read = first.usage.input_tokens + (first.usage.cache_read_input_tokens or 0)
    assert cached >= read - 1


def test_answers_do_not_depend_on_who_else_asks(server: httpx.Client) -> None:
    def respond(seed: int, stream: bool = False) -> str:
        body = {"input": f"Say {seed}", "seed": seed, "max_output_tokens": 16, "store": False}
        if not stream:
            (item,) = server.post("/v1/responses", json=body).json()["output"]
            return item["content"][0]["text"]
        client = openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="none")
        with client.responses.stream(
            model="any", input=f"Say {seed}", extra_body={"seed": seed}, max_output_tokens=16
        ) as events:
            return "".join(e.delta for e in events if e.type == "response.output_text.delta")

    def write(seed: int) -> str:
        chat = [{"role": "user", "content": f"Say {seed}"}]
        body = {"messages": chat, "seed": seed, "max_tokens": 16}
        (block,) = server.post("/v1/messages", json=body).json()["content"]
        return block["text"]

    alone = [respond(seed) for seed in range(4)]
    with ThreadPoolExecutor(12) as pool:
        for use in (respond, write, lambda seed: respond(seed, stream=True)):
            assert list(pool.map(use, range(4))) == alone
        mixed = [pool.submit(use, seed) for seed in range(4) for use in (respond, write)]
        assert [each.result() for each in mixed] == [text for text in alone for _ in range(2)]


def test_calls_of_a_real_model_fit_their_schema() -> None:
    with serving(tiny("motet-tiny", CALLING)) as server:
        base = str(server.base_url)
        claude = anthropic.Anthropic(base_url=base, api_key="none", max_retries=0)
        gpt = openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0)
        for seed in range(3):
            extra = {"seed": seed, "temperature": 1}
            with claude.messages.stream(
                model="any",
                max_tokens=90,
                messages=[{"role": "user", "content": "Go"}],
                tools=[{"name": "set", "input_schema": SCHEMA}],
                tool_choice={"type": "tool", "name": "set", "disable_parallel_tool_use": True},
                extra_body=extra,
            ) as stream:
                message = stream.get_final_message()
            response = gpt.responses.create(
                model="any",
                input="Go",
                tools=[{"type": "function", "name": "set", "parameters": SCHEMA, "strict": True}],
                tool_choice={"type": "function", "name": "set"},
                parallel_tool_calls=False,
                max_output_tokens=90,
                extra_body=extra,
            )
            (used,), (called,) = message.content, response.output
            assert used.type == "tool_use" and called.type == "function_call"
            assert json.loads(called.arguments) == used.input
            jsonschema.validate(used.input, SCHEMA)
            assert message.stop_reason == "tool_use"
