"""/v1/chat/completions, by OpenAI's own library and by hand."""

import asyncio
import json
from collections.abc import Generator
from typing import Any

import httpx
import pytest

from motet import LLM
from motet.chat_formats import ToolCallDelta
from motet.engine import Chunk, Completion, Timings, Usage
from motet.server.openai.answers import Head
from motet.server.openai.chat import _choice, _Writer
from tests.server.models import chatting, embedding, tiny
from tests.server.running import serving

openai = pytest.importorskip("openai")

MESSAGES: Any = [{"role": "user", "content": "Once upon a time"}]
GREEDY: Any = {"messages": MESSAGES, "temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def llm() -> Generator[LLM]:
    with chatting() as made:
        yield made


@pytest.fixture(scope="module")
def server(llm: LLM) -> Generator[httpx.Client]:
    with serving(lambda: llm) as client:
        yield client


@pytest.fixture(scope="module")
def client(server: httpx.Client) -> Any:
    return openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="none", max_retries=0)


def events(response: httpx.Response) -> list[Any]:
    """The data of a stream's events, but for the last, which says that it is done."""
    lines = [line for line in response.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_it_answers_as_the_model_does(client: Any, llm: LLM) -> None:
    answer = client.chat.completions.create(model="any", messages=MESSAGES, seed=5, max_tokens=20)
    alone = llm.chat(MESSAGES, seed=5, max_tokens=20)
    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason) == (alone.text, alone.finish_reason)
    assert (choice.message.role, choice.message.refusal, choice.logprobs) == (
        "assistant",
        *2 * [None],
    )
    assert answer.model == "motet-tiny.gguf" and answer.id.startswith("chatcmpl-")
    assert answer.system_fingerprint.startswith("b")
    assert answer.usage.prompt_tokens == alone.usage.prompt_tokens
    assert answer.usage.completion_tokens == alone.usage.completion_tokens == 20
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0
    assert answer.timings["predicted_n"] == 20


def test_a_stream_says_the_same(client: Any) -> None:
    asked = {"model": "any", "messages": MESSAGES, "seed": 5, "max_tokens": 20}
    whole = client.chat.completions.create(**asked)
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    first, *_, end, last = chunks
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", None)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert end.choices[0].finish_reason == "length" and end.choices[0].delta.content is None
    assert last.choices == [] and last.usage.completion_tokens == 20
    assert len({c.id for c in chunks}) == 1 and all(c.usage is None for c in chunks[:-1])


@pytest.mark.parametrize("n", [1, 2])
def test_usage_in_each_event(server: httpx.Client, n: int) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = GREEDY | {"stream": True, "stream_options": options, "n": n}
    *parts, last = events(server.post("/v1/chat/completions", json=body))
    counts = [part["usage"]["completion_tokens"] for part in parts]
    assert counts == sorted(counts) and counts[0] <= 1
    assert last["usage"] == {**last["usage"], **parts[-1]["usage"]}
    assert last["usage"]["completion_tokens"] == 12 * n
    body["stream_options"] = {"continuous_usage_stats": True}
    *_, end = events(server.post("/v1/chat/completions", json=body))
    assert end["choices"] and end["usage"]["completion_tokens"] == 12 * n


def test_several_answers_come_interleaved(server: httpx.Client) -> None:
    body = {"messages": MESSAGES, "seed": 3, "max_tokens": 6, "n": 3}
    whole = server.post("/v1/chat/completions", json=body).json()
    texts = {choice["index"]: "" for choice in whole["choices"]}
    roles, reasons = [], []
    for each in events(server.post("/chat/completions", json=body | {"stream": True})):
        choice = each["choices"][0]
        texts[choice["index"]] += choice["delta"].get("content") or ""
        roles += [choice["index"]] * ("role" in choice["delta"])
        reasons += [choice["index"]] * (choice["finish_reason"] is not None)
    assert sorted(roles) == sorted(reasons) == [0, 1, 2]
    assert texts == {c["index"]: c["message"]["content"] for c in whole["choices"]}
    assert whole["usage"]["completion_tokens"] == 18
    assert whole["usage"]["prompt_tokens"] < 18 * 3


def test_log_probabilities(client: Any, llm: LLM) -> None:
    asked = {"model": "any", **GREEDY, "max_tokens": 5, "logprobs": True, "top_logprobs": 3}
    whole = client.chat.completions.create(**asked).choices[0]
    found = whole.logprobs.content
    alone = llm.chat(MESSAGES, temperature=0, max_tokens=5, logprobs=3)
    assert alone.logprobs is not None
    assert [each.logprob for each in found] == [each.logprob for each in alone.logprobs]
    assert b"".join(bytes(each.bytes) for each in found).decode() == whole.message.content
    assert all(each.top_logprobs[0].logprob == each.logprob for each in found)
    streamed = [
        each
        for chunk in client.chat.completions.create(**asked, stream=True)
        if chunk.choices[0].logprobs
        for each in chunk.choices[0].logprobs.content
    ]
    assert streamed == found


def test_what_changes_nothing_is_taken(server: httpx.Client) -> None:
    more = {
        "user": "me",
        "metadata": {"a": "b"},
        "store": False,
        "service_tier": "auto",
        "cache_prompt": False,
        "parallel_tool_calls": True,
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "stop": None,
        "n": 1,
        "min_tokens": 0,
        "modalities": ["text"],
        "max_completion_tokens": 12,
    }
    plain, other = (
        server.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
        for body in (GREEDY, GREEDY | more)
    )
    assert plain == other


def test_parts_are_joined_and_developers_are_the_system(server: httpx.Client, llm: LLM) -> None:
    parts = [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]
    body = {**GREEDY, "messages": [{"role": "developer", "content": parts}]}
    said = server.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]
    alone = llm.chat([{"role": "system", "content": "One\ntwo"}], temperature=0, max_tokens=12)
    assert said["content"] == alone.text


@pytest.mark.parametrize(
    ("more", "param", "said"),
    [
        ({"frobnicate": 1}, "frobnicate", "does not know the field"),
        ({"enable_thinking": False}, "enable_thinking", "chat_template_kwargs"),
        ({"thinking": {"type": "disabled"}}, "thinking", "chat_template_kwargs"),
        ({"reasoning": {"effort": "low"}}, "reasoning", "give reasoning_effort"),
        ({"options": {"num_ctx": 4096}}, "options", "--ctx"),
        ({"one": 1, "two": 2, "three": 3}, "one", "(and 2 more: two, three)"),
        ({f"x{n}": 1 for n in range(9)}, "x0", "(and 8 more: x1, x2, x3, x4, x5, …)"),
        ({"samplers": ["top_p", "top_k"]}, "samplers", "in this order"),
        ({"samplers": ["mirostat"]}, "samplers", "mirostat"),
        ({"store": True}, None, "store is true: this server can only do false"),
        (
            {"stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
            "false",
        ),
        ({"min_tokens": 5}, None, "min_tokens is 5"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": "hello"}, "messages", "list"),
        ({"messages": [{}]}, "messages.0.role", "missing"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content", "string"),
        ({"functions": [{"name": "f"}]}, None, "tools"),
        ({"top_logprobs": 3}, "top_logprobs", "logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "20"),
        ({"max_completion_tokens": 5}, "max_completion_tokens", "max_tokens is 12"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "for streams"),
        ({"temperature": -1}, "temperature", "greater"),
        ({"response_format": {"type": "sound"}}, "response_format.type", "json_schema"),
        ({"response_format": {"type": "json_schema"}}, None, "schema is missing"),
        (
            {"grammar": 'root ::= "a"', "response_format": {"type": "json_object"}},
            None,
            "response_format and grammar",
        ),
        ({"logit_bias": {"x": 1}}, "logit_bias.x", "integer"),
        ({"reasoning_effort": "enormous"}, "reasoning_effort", "none"),
        ({"modalities": ["audio"]}, "modalities.0", "text"),
        ({"audio": {"voice": "x"}}, "audio", "does not know"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages.0.content",
            "image input",
        ),
    ],
)
def test_what_is_refused(server: httpx.Client, more: dict, param: str | None, said: str) -> None:
    response = server.post("/v1/chat/completions", json=GREEDY | more)
    error = response.json()["error"]
    assert response.status_code == 400 and error["type"] == "invalid_request_error"
    assert error["param"] == param and said in error["message"]


def test_errors_as_the_library_has_them(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="a", messages=[{"role": "user", "content": "a " * 999}]
        )
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.body["n_prompt_tokens"] > caught.value.body["n_ctx"] == 256
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("another")
    assert [model.id for model in client.models.list()] == ["motet-tiny.gguf"]
    assert client.models.retrieve("motet-tiny.gguf").owned_by == "motet"


def test_many_tasks_at_once(server: httpx.Client, llm: LLM) -> None:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.base_url}/v1", api_key="x") as client:

            async def one(seed: int) -> str:
                asked = {"model": "m", "messages": MESSAGES, "seed": seed, "max_tokens": 8}
                stream = await client.chat.completions.create(**asked, stream=True)
                return "".join([c.choices[0].delta.content or "" async for c in stream])

            return await asyncio.gather(*(one(seed) for seed in range(12)))

    alone = [llm.chat(MESSAGES, seed=seed, max_tokens=8).text for seed in range(12)]
    assert asyncio.run(ask()) == alone


def test_models_that_can_not_chat() -> None:
    with serving(tiny) as client:
        response = client.post("/v1/chat/completions", json=GREEDY)
        assert (
            response.status_code == 400
            and "no chat template" in response.json()["error"]["message"]
        )
    with serving(embedding) as client:
        response = client.post("/v1/chat/completions", json=GREEDY)
        assert (
            response.status_code == 501 and "writes no text" in response.json()["error"]["message"]
        )


def _completion(**more: Any) -> Completion:
    timings = Timings(0.0, 0.1, 0.2, 3, 2)
    return Completion("", (1, 2), "tool_calls", 0, 1, Usage(3, 2), timings, **more)


def test_calls_of_tools_and_thoughts_are_written(llm: LLM) -> None:
    from motet.chat_formats import ToolCall

    call = ToolCall("call_1", "look", '{"a": 1}')
    choice = _choice(_Served(llm), _completion(reasoning="Hm.", tool_calls=(call,)))  # type: ignore
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "Hm.",
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "look", "arguments": '{"a": 1}'},
            }
        ],
    }
    writer = _Writer(Head("chat.completion.chunk", "m", "b", "chatcmpl-1", 1), None, False)
    first, second, third = (
        json.loads(line.removeprefix("data: "))["choices"][0]["delta"]
        for chunk in (
            Chunk(0, "", (1,), reasoning='"\n'),
            Chunk(0, "", (2,), tool_calls=(ToolCallDelta(0, "call_1", "look", "{"),)),
            Chunk(0, "", (3,), tool_calls=(ToolCallDelta(0, "call_1", "", "}"),)),
        )
        for line in writer.events(chunk).decode().split("\n\n")
        if line and "role" not in line
    )
    assert first == {"reasoning_content": '"\n'}
    assert second["tool_calls"] == [
        {
            "index": 0,
            "id": "call_1",
            "type": "function",
            "function": {"name": "look", "arguments": "{"},
        }
    ]
    assert third["tool_calls"] == [{"index": 0, "function": {"arguments": "}"}}]


class _Served:
    """As much of one as writing an answer needs."""

    def __init__(self, llm: LLM) -> None:
        self.llm = llm


@pytest.mark.parametrize("stream", [False, True])
def test_turns_of_a_conversation(server: httpx.Client, llm: LLM, stream: bool) -> None:
    number = server.post("/v1/conversations", json={}).json()["id"]
    chat: list[Any] = []
    for text in ("One day", "And then"):
        asked = {"role": "user", "content": text}
        body = {"messages": [asked], "temperature": 0, "max_tokens": 10, "conversation": number}
        response = server.post("/v1/chat/completions", json=body | {"stream": stream})
        if stream:
            deltas = [each["choices"][0]["delta"] for each in events(response)]
            said = "".join(delta.get("content") or "" for delta in deltas)
        else:
            said = response.json()["choices"][0]["message"]["content"]
        chat.append(asked)
        assert said == llm.chat(chat, temperature=0, max_tokens=10).text
        chat.append({"role": "assistant", "content": said})
    items = server.get(f"/v1/conversations/{number}/items?order=asc").json()["data"]
    assert [item["role"] for item in items] == ["user", "assistant"] * 2
    for wrong in ({"conversation": "conv_none"}, {"conversation": number, "n": 2}):
        response = server.post("/v1/chat/completions", json=GREEDY | {"stream": stream} | wrong)
        assert response.status_code == (404 if "n" not in wrong else 400)
    assert server.delete(f"/v1/conversations/{number}").status_code == 200


def test_llama_servers_progress_and_timings(server: httpx.Client) -> None:
    asked = {
        "messages": [{"role": "user", "content": "dog " * 40}],
        "max_tokens": 3,
        "stream": True,
        "return_progress": True,
        "timings_per_token": True,
    }
    text = server.post("/v1/chat/completions", json=asked).text
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    seen = [event["prompt_progress"] for event in events if "prompt_progress" in event]
    assert seen[0]["processed"] == seen[0]["cache"] and seen[-1]["processed"] == seen[-1]["total"]
    said = [
        event
        for event in events
        if event["choices"] and event["choices"][0]["delta"].get("content")
    ]
    assert all(event["timings"]["predicted_n"] > 0 for event in said) and said


def test_how_long_each_token_took(server: httpx.Client) -> None:
    body = GREEDY | {"stream": True, "timings_per_token": True}
    first, *parts = events(server.post("/v1/chat/completions", json=body))
    assert "timings" not in first
    counts = [part["timings"]["predicted_n"] for part in parts]
    assert counts == sorted(counts) and counts[-1] == 12
    assert parts[0]["timings"]["prompt_n"] + parts[0]["timings"]["cache_n"] > 0


def test_samplers_that_are_left_out(server: httpx.Client, llm: LLM) -> None:
    asked = {"messages": MESSAGES, "seed": 5, "max_tokens": 20, "top_k": 3}
    body = asked | {"samplers": ["top_p", "temperature"]}
    choice = server.post("/v1/chat/completions", json=body).json()["choices"][0]
    off: Any = {"top_k": 0, "min_p": 0.0, "typical_p": 1.0, "repeat_penalty": 1.0}
    assert choice["message"]["content"] == llm.chat(MESSAGES, seed=5, max_tokens=20, **off).text


def test_what_the_model_read(server: httpx.Client, llm: LLM) -> None:
    body = GREEDY | {"max_tokens": 1, "verbose": True}
    told = server.post("/v1/chat/completions", json=body).json()["__verbose"]["prompt"]
    assert told.endswith(llm.render_chat(body["messages"]))
    refused = server.post("/v1/chat/completions", json=body | {"stream": True})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "verbose"


@pytest.mark.parametrize(
    "more",
    [
        {"functions": None, "function_call": None, "audio": None, "tools": None, "stop": None},
        {"include_reasoning": True, "echo": False, "add_special_tokens": False},
        {"dynatemp_range": 0, "dynatemp_exponent": 1, "xtc_probability": 0, "xtc_threshold": 0.1},
        {"samplers": ["penalties", "dry", "top_k", "typ_p", "top_p", "min_p", "temperature"]},
        {"dry_multiplier": 0, "dry_base": 1.75, "dry_allowed_length": 2, "top_n_sigma": -1},
    ],
)
def test_what_clients_send_that_asks_for_nothing(server: httpx.Client, more: dict) -> None:
    plain, same = (server.post("/v1/chat/completions", json=GREEDY | body) for body in ({}, more))
    assert same.status_code == 200, same.text
    assert same.json()["choices"] == plain.json()["choices"]
