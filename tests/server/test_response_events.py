"""The events of responses and messages, all of them of the official clients' types."""

from typing import Any

import anthropic.types as anthropic_types
import openai.types.responses as openai_types
import pydantic
import pytest

from motet.chat_formats import ToolCall, ToolCallDelta
from motet.engine import Chunk, Completion
from motet.engine.completion import Timings, Usage
from motet.sampling import TokenLogprob
from motet.server.anthropic import events as messages
from motet.server.failures import Failure
from motet.server.responses.events import Writing, whole
from tests.scripted import EOS, ByteTokenizer

TIMINGS = Timings(0.0, 0.1, 0.2, 5, 3)
CALLS = (ToolCall("call_1", "look", '{"at": "sea"}'), ToolCall("call_2", "look", "{}"))


def completion(text: str = "", reason: str = "stop", **fields: Any) -> Completion:
    return Completion(text, (1, 2, 3), reason, 0, 7, Usage(9, 3, 4, 2), TIMINGS, **fields)


THOUGHT = [
    Chunk(0, "", reasoning="Let me "),
    Chunk(0, "", reasoning="see."),
    Chunk(0, "I "),
    Chunk(0, "look"),
    Chunk(0, "", tool_calls=(ToolCallDelta(0, "call_1", "look", ""),)),
    Chunk(0, "", tool_calls=(ToolCallDelta(0, "call_1", "", '{"at": '),)),
    Chunk(0, "", tool_calls=(ToolCallDelta(0, "call_1", "", '"sea"}'),)),
    Chunk(0, "", tool_calls=(ToolCallDelta(1, "call_2", "look", "{}"),)),
    Chunk(
        0,
        "",
        completion=completion("I look", "tool_calls", reasoning="Let me see.", tool_calls=CALLS),
    ),
]


def writing(tokenizer: Any = None) -> Writing:
    body = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "output": [],
        "status": "in_progress",
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    return Writing(body, tokenizer)


def told(chunks: list[Chunk], tokenizer: Any = None) -> list[dict[str, Any]]:
    """A response's events, validated."""
    made = writing(tokenizer)
    given = [*made.begin(), *(event for chunk in chunks for event in made.take(chunk))]
    adapter = pydantic.TypeAdapter(openai_types.ResponseStreamEvent)
    assert [adapter.validate_python(event).type for event in given] == [e["type"] for e in given]
    assert [event["sequence_number"] for event in given] == list(range(len(given)))
    return given


def said(chunks: list[Chunk]) -> list[dict[str, Any]]:
    """A message's events, validated."""
    made = messages.Writing(50)
    given = [*made.begin("m", Usage(9, 0, 4)), *(e for chunk in chunks for e in made.take(chunk))]
    adapter = pydantic.TypeAdapter(anthropic_types.RawMessageStreamEvent)
    for event in given:
        if event["type"] != "ping":
            assert adapter.validate_python(event).type == event["type"]
    return given


def test_a_response_tells_of_each_item_in_the_official_order() -> None:
    text = ["content_part.added", "output_text.delta", "output_text.delta", "output_text.done"]
    thoughts = [each.replace("output_text", "reasoning_text") for each in text]
    call = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done"]
    names = [event["type"].removeprefix("response.") for event in told(THOUGHT)]
    assert names == [
        *("created", "in_progress"),
        *("output_item.added", *thoughts, "content_part.done", "output_item.done"),
        *("output_item.added", *text, "content_part.done", "output_item.done"),
        *(call[0], call[1], *call[1:], "output_item.done"),
        *(*call, "output_item.done"),
        "completed",
    ]


def test_events_and_the_whole_answer_make_the_same_response() -> None:
    streamed = told(THOUGHT)[-1]["response"]
    at_once = told([whole(THOUGHT[-1].completion)])[-1]["response"]  # type: ignore[arg-type]

    def nameless(response: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**item, "id": ""} for item in response["output"]]

    assert nameless(streamed) == nameless(at_once)
    kinds = ["reasoning", "message", "function_call", "function_call"]
    assert [item["type"] for item in streamed["output"]] == kinds
    assert [item["arguments"] for item in streamed["output"][2:]] == ['{"at": "sea"}', "{}"]
    usage = openai_types.Response.model_validate(streamed).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (9, 3, 12)
    assert usage.input_tokens_details.cached_tokens == 4
    assert usage.output_tokens_details.reasoning_tokens == 2


def test_what_a_delta_told_is_as_it_was_then() -> None:
    added = [e["item"] for e in told(THOUGHT) if e["type"] == "response.output_item.added"]
    assert [item.get("content", item.get("arguments")) for item in added] == [[], [], "", ""]


def test_a_response_that_is_cut_is_incomplete() -> None:
    *_, closed, last = told([Chunk(0, "I"), Chunk(0, "", completion=completion("I", "length"))])
    assert closed["item"]["status"] == "incomplete"
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


def test_an_empty_answer_is_an_empty_message() -> None:
    (item,) = told([Chunk(0, "", completion=completion())])[-1]["response"]["output"]
    assert item["content"][0]["text"] == ""


def test_an_error_fails_the_response() -> None:
    made = writing()
    list(made.begin())
    list(made.take(THOUGHT[0]))
    event = made.failed(Failure(500, "it broke"))
    parsed = openai_types.ResponseFailedEvent.model_validate(event)
    assert parsed.response.status == "failed"
    assert parsed.response.error is not None
    assert parsed.response.error.message == "it broke"


def test_log_probabilities_are_those_of_the_text() -> None:
    def chunk(token: int, **fields: Any) -> Chunk:
        entry = TokenLogprob(token, -0.5, ((token, -0.5), (65, -float("inf"))))
        return Chunk(0, fields.pop("text", ""), (token,), (entry,), **fields)

    chunks = [
        chunk(97, reasoning="a"),
        chunk(0xC3),  # half a character
        chunk(0xA9, text="é"),
        chunk(EOS, completion=completion("é", reasoning="a")),
    ]
    given = told(chunks, ByteTokenizer())
    deltas = [e for e in given if e["type"] == "response.output_text.delta"]
    assert [entry["bytes"] for e in deltas for entry in e["logprobs"]] == [[0xC3], [0xA9]]
    part = given[-1]["response"]["output"][1]["content"][0]
    assert part["logprobs"] == deltas[0]["logprobs"]
    assert part["logprobs"][0]["top_logprobs"][1]["logprob"] == -9999.0


def test_a_message_tells_of_each_block() -> None:
    given = said(THOUGHT)
    names = [e["type"].replace("content_block_", "") for e in given]
    assert names == [
        *("message_start", "ping"),
        *("start", "delta", "delta", "delta", "stop"),
        *("start", "delta", "delta", "stop"),
        *("start", "delta", "delta", "stop"),
        *("start", "delta", "stop"),
        *("message_delta", "message_stop"),
    ]
    starts = [e["content_block"]["type"] for e in given if e["type"] == "content_block_start"]
    assert starts == ["thinking", "text", "tool_use", "tool_use"]
    deltas = [e["delta"]["type"] for e in given if e["type"] == "content_block_delta"]
    assert deltas[:3] == ["thinking_delta", "thinking_delta", "signature_delta"]
    assert [e["index"] for e in given if e["type"] == "content_block_stop"] == [0, 1, 2, 3]
    assert given[0]["message"]["usage"]["cache_read_input_tokens"] == 4
    assert given[0]["message"]["usage"]["input_tokens"] == 5
    assert given[-2]["delta"]["stop_reason"] == "tool_use"
    assert given[-2]["usage"]["output_tokens"] == 3


@pytest.mark.parametrize(
    ("made", "room", "reason"),
    [
        (completion("x"), 3, "end_turn"),
        (completion("x", stop="\n"), 3, "stop_sequence"),
        (completion("x", "length"), 3, "max_tokens"),
        (completion("x", "length"), 4, "model_context_window_exceeded"),
        (completion("x", "tool_calls", tool_calls=CALLS), 3, "tool_use"),
    ],
)
def test_why_a_message_ends(made: Completion, room: int, reason: str) -> None:
    message = messages.finished("m", made, room)
    parsed = anthropic_types.Message.model_validate(message)
    assert parsed.stop_reason == reason
    assert parsed.stop_sequence == made.stop


def test_arguments_that_are_cut_short_are_given_as_far_as_they_go() -> None:
    cut = (ToolCall("call_1", "look", '{"at": "sea", "for": "wh'), ToolCall("call_2", "look", ""))
    made = completion("", "length", tool_calls=cut)
    inputs = [block["input"] for block in messages.finished("m", made, 3)["content"]]
    assert inputs == [{"at": "sea", "for": "wh"}, {}]
