"""From a model's chunks to a message: its blocks, and the events that tell of them."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from pydantic_core import from_json

from motet.engine import Chunk, Completion, Usage

Event = dict[str, Any]


def message(model: str, usage: Usage) -> dict[str, Any]:
    """One that has nothing yet."""
    return {
        "id": f"msg_{uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage_of(usage),
    }


def finished(model: str, completion: Completion, max_tokens: int) -> dict[str, Any]:
    """A whole answer as a message."""
    content: list[dict[str, Any]] = []
    if completion.reasoning:
        content.append({"type": "thinking", "thinking": completion.reasoning, "signature": ""})
    if completion.text:
        content.append({"type": "text", "text": completion.text})
    for call in completion.tool_calls:
        # One that max_tokens cut short: what there is of its arguments.
        given = from_json(call.arguments or "{}", allow_partial="trailing-strings")
        content.append({"type": "tool_use", "id": call.id, "name": call.name, "input": given})
    return {
        **message(model, completion.usage),
        "content": content,
        **_ending(completion, max_tokens),
    }


def usage_of(usage: Usage) -> dict[str, Any]:
    """As the API counts: tokens that were in memory are none of the input's."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


class Writing:
    """A message while it is written; each method gives events."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._index = -1
        """Of the last block."""
        self._kind: tuple[str, int] | None = None
        """Of the block that is written: its type, and a call's number."""

    def begin(self, model: str, usage: Usage) -> Iterator[Event]:
        """Before the first chunk."""
        yield {"type": "message_start", "message": message(model, usage)}
        yield {"type": "ping"}

    def take(self, chunk: Chunk) -> Iterator[Event]:
        """What a chunk adds. The last one ends the message."""
        if chunk.reasoning:
            yield from self._open("thinking", {"thinking": "", "signature": ""})
            yield self._delta("thinking", thinking=chunk.reasoning)
        if chunk.text:
            yield from self._open("text", {"text": ""})
            yield self._delta("text", text=chunk.text)
        for call in chunk.tool_calls:
            fields = {"id": call.id, "name": call.name, "input": {}}
            yield from self._open("tool_use", fields, call.index)
            if call.arguments:
                yield self._delta("input_json", partial_json=call.arguments)
        if chunk.completion is not None:
            yield from self._close()
            yield {
                "type": "message_delta",
                "delta": _ending(chunk.completion, self._max_tokens),
                "usage": usage_of(chunk.completion.usage),
            }
            yield {"type": "message_stop"}

    def _open(self, kind: str, fields: dict[str, Any], number: int = 0) -> Iterator[Event]:
        if self._kind == (kind, number):
            return
        yield from self._close()
        self._kind = (kind, number)
        self._index += 1
        block = {"type": kind, **fields}
        yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _close(self) -> Iterator[Event]:
        if self._kind is None:
            return
        if self._kind[0] == "thinking":  # clients wait for one; there is nothing to sign for
            yield self._delta("signature", signature="")
        self._kind = None
        yield {"type": "content_block_stop", "index": self._index}

    def _delta(self, kind: str, **fields: str) -> Event:
        delta = {"type": f"{kind}_delta", **fields}
        return {"type": "content_block_delta", "index": self._index, "delta": delta}


def _ending(completion: Completion, max_tokens: int) -> dict[str, Any]:
    if completion.stop is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": completion.stop}
    reason = {"stop": "end_turn", "tool_calls": "tool_use"}.get(completion.finish_reason)
    if reason is None:
        full = len(completion.tokens) < max_tokens
        reason = "model_context_window_exceeded" if full else "max_tokens"
    return {"stop_reason": reason, "stop_sequence": None}
