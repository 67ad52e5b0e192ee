"""From a model's chunks to a response: its items, and the events that tell of them."""

import time
from collections.abc import Iterator
from typing import Any

from motet.chat_formats import ToolCallDelta
from motet.engine import Chunk, Completion
from motet.sampling import TokenLogprob
from motet.server.failures import Failure
from motet.server.logprobs import token_entry
from motet.server.responses.items import new_id
from motet.tokenizer import Tokenizer

Event = dict[str, Any]

_PARTS = {"message": "output_text", "reasoning": "reasoning_text"}


class Writing:
    """A response while it is written. ``body`` is as clients get it; each method gives events."""

    def __init__(self, body: dict[str, Any], tokenizer: Tokenizer | None) -> None:
        """``tokenizer``: of the model, where log probabilities are to be told."""
        self.body = body
        self._tokenizer = tokenizer
        self._sequence = 0
        self._item: dict[str, Any] | None = None
        """The one that is written; the last of the body's."""
        self._call = -1
        """Its number among the calls, where it is one."""
        self._logprobs: list[TokenLogprob] = []
        """Of tokens whose text is held back."""

    def begin(self) -> Iterator[Event]:
        """Before the first chunk."""
        yield self._event("created", response={**self.body, "output": []})
        yield self._event("in_progress", response={**self.body, "output": []})

    def progress(self, said: dict[str, Any]) -> Event:
        """How much of the prompt is computed."""
        return self._event("in_progress", response={**self.body, "output": []}, **said)

    def take(self, chunk: Chunk) -> Iterator[Event]:
        """What a chunk adds. The last one ends the response."""
        if chunk.logprobs and self._tokenizer:
            self._logprobs += [p for p in chunk.logprobs if p.token not in self._tokenizer.eog]
        if chunk.reasoning:
            self._logprobs.clear()
            yield from self._say("reasoning", chunk.reasoning)
        if chunk.text:
            yield from self._say("message", chunk.text)
        for delta in chunk.tool_calls:
            self._logprobs.clear()
            yield from self._add_to_call(delta)
        if chunk.completion is not None:
            yield from self._end(chunk.completion)

    def failed(self, failure: Failure) -> Event:
        """An error has ended it."""
        code = "rate_limit_exceeded" if failure.status == 429 else "server_error"
        if failure.status == 400:
            code = "invalid_prompt"
        self.body |= {"status": "failed", "error": {"code": code, "message": failure.message}}
        return self._event("failed", response=self.body)

    def _say(self, kind: str, text: str) -> Iterator[Event]:
        """Add to the text of an item of this type."""
        item = self._item
        if item is None or item["type"] != kind:
            yield from self._close("completed")
            item = {"type": kind, "id": new_id(kind), "status": "in_progress", "content": []}
            item |= {"role": "assistant"} if kind == "message" else {"summary": []}
            yield from self._open(item)
            item["content"].append({"type": _PARTS[kind], "text": ""})
            part = item["content"][0]
            if kind == "message":
                part |= {"annotations": [], "logprobs": []}
            yield self._at("content_part.added", content_index=0, part=_copy(part))
        part = item["content"][0]
        part["text"] += text
        fields: dict[str, Any] = {"delta": text, "content_index": 0}
        if kind == "message":
            fields["logprobs"] = self._told_logprobs()
            part["logprobs"] += fields["logprobs"]
        yield self._at(f"{_PARTS[kind]}.delta", **fields)

    def _add_to_call(self, delta: ToolCallDelta) -> Iterator[Event]:
        item = self._item
        if item is None or item["type"] != "function_call" or self._call != delta.index:
            yield from self._close("completed")
            item = {
                "type": "function_call",
                "id": new_id("function_call"),
                "call_id": delta.id,
                "name": delta.name,
                "arguments": "",
                "status": "in_progress",
            }
            self._call = delta.index
            yield from self._open(item)
        if delta.arguments:
            item["arguments"] += delta.arguments
            yield self._at("function_call_arguments.delta", delta=delta.arguments)

    def _open(self, item: dict[str, Any]) -> Iterator[Event]:
        self._item = item
        self.body["output"].append(item)
        index = len(self.body["output"]) - 1
        yield self._event("output_item.added", output_index=index, item=_copy(item))

    def _close(self, status: str) -> Iterator[Event]:
        """Nothing more is added to the item that is written."""
        item = self._item
        if item is None:
            return
        if item["type"] == "function_call":
            done = {"name": item["name"], "arguments": item["arguments"]}
            yield self._at("function_call_arguments.done", **done)
        else:
            part = item["content"][0]
            done = {"text": part["text"], "content_index": 0}
            if item["type"] == "message":
                done["logprobs"] = part["logprobs"]
            yield self._at(f"{part['type']}.done", **done)
            yield self._at("content_part.done", content_index=0, part=part)
        item["status"] = status
        index = len(self.body["output"]) - 1
        yield self._event("output_item.done", output_index=index, item=item)
        self._item = None

    def _end(self, completion: Completion) -> Iterator[Event]:
        cut = completion.finish_reason == "length"
        status = "incomplete" if cut else "completed"
        if not self.body["output"]:
            yield from self._say("message", "")
        yield from self._close(status)
        usage = completion.usage
        self.body |= {
            "status": status,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "completed_at": None if cut else int(time.time()),
            "usage": {
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": {
                    "cached_tokens": usage.cached_tokens,
                    "cache_write_tokens": 0,
                },
                "output_tokens": usage.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            },
        }
        yield self._event(status, response=self.body)

    def _told_logprobs(self) -> list[dict[str, Any]]:
        """Those of the text that is said now."""
        if self._tokenizer is None:
            return []
        told = [token_entry(each, self._tokenizer) for each in self._logprobs]
        self._logprobs.clear()
        return told

    def _at(self, kind: str, **fields: Any) -> Event:
        """An event of the item that is written."""
        assert self._item is not None
        index = len(self.body["output"]) - 1
        return self._event(kind, item_id=self._item["id"], output_index=index, **fields)

    def _event(self, kind: str, **fields: Any) -> Event:
        self._sequence += 1
        return {
            "type": f"response.{kind}",
            "sequence_number": self._sequence - 1,
            **fields,
        }


def whole(completion: Completion) -> Chunk:
    """The one chunk that an answer is which was not streamed."""
    deltas = [
        ToolCallDelta(index, call.id, call.name, call.arguments)
        for index, call in enumerate(completion.tool_calls)
    ]
    return Chunk(
        completion.index,
        completion.text,
        completion.tokens,
        completion.logprobs,
        completion,
        completion.reasoning or "",
        tuple(deltas),
    )


def _copy(value: dict[str, Any]) -> dict[str, Any]:
    """As it is now: it goes on growing."""
    return {key: list(entry) if isinstance(entry, list) else entry for key, entry in value.items()}
