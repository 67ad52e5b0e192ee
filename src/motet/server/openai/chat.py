"""``/v1/chat/completions``."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from motet.async_llm import AsyncStream
from motet.engine import Chunk, Completion
from motet.sampling import TokenLogprob
from motet.server.asking import ChatCall
from motet.server.conversations.registry import Turn, owner_of
from motet.server.generation import chunks, guarded
from motet.server.logprobs import token_entry
from motet.server.openai.answers import Head, error_event, head, usage, whole
from motet.server.openai.chat_body import ChatBody
from motet.server.replies import dumped
from motet.server.service import CurrentService, Served, Service
from motet.server.sse import DONE, event, event_stream
from motet.server.timings import timings_of
from motet.tokenizer import Tokenizer

router = APIRouter(tags=["OpenAI"])


@router.post("/v1/chat/completions")
@router.post("/chat/completions", include_in_schema=False)
async def chat_completions(body: ChatBody, service: CurrentService, request: Request) -> Response:
    """Answer a conversation."""
    served = service.text
    call = body.call(served)
    if body.conversation_id is not None:
        return await _turn(body, body.conversation_id, call, service, request)
    if body.stream:
        stream = await call.begun(service, request)
        head_ = head(served, "chat.completion.chunk", "chatcmpl")
        return event_stream(guarded(_events(service, served, stream, head_, body), error_event))
    return await _whole(served, call, await call.completed(service, request))


async def _turn(
    body: ChatBody, number: str, call: ChatCall, service: Service, request: Request
) -> Response:
    """Answer as a turn of a conversation, which what is asked and the answer become part of."""
    served = service.text
    owner = owner_of(request)

    def continued(turn: Turn) -> ChatCall:
        messages = [*turn.messages, *call.messages]
        return replace(call, messages=messages, conversation=turn.conversation)

    def keep(turn: Turn, completion: Completion) -> None:
        turn.add([*call.messages, _message(completion)])

    async def events() -> AsyncGenerator[bytes, None]:
        async with service.conversations.turn(number, owner) as turn:
            stream = await continued(turn).begun(service, request)
            yield b""  # nothing has refused it
            head_ = head(served, "chat.completion.chunk", "chatcmpl")
            told = _events(service, served, stream, head_, body, partial(keep, turn))
            async for each in told:
                yield each

    if body.stream:
        told = events()
        await anext(told)
        return event_stream(guarded(told, error_event))
    async with service.conversations.turn(number, owner) as turn:
        completions = await continued(turn).completed(service, request)
        keep(turn, completions[0])
    return await _whole(served, call, completions)


async def _whole(served: Served, call: ChatCall, completions: Sequence[Completion]) -> Response:
    """The answers of a request that is no stream."""
    took = {"timings": timings_of(completions[0])} if len(completions) == 1 else {}
    return await whole(
        head(served, "chat.completion", "chatcmpl"),
        lambda: [_choice(served, each) for each in completions],
        {"usage": usage(completions, call.wanted.n), **took},
        large=call.wanted.logprobs is not None,
    )


def _choice(served: Served, completion: Completion) -> dict[str, Any]:
    """A whole answer."""
    return {
        "index": completion.index,
        "message": {**_message(completion), "refusal": None},
        "logprobs": _logprobs(served.llm.tokenizer, completion.logprobs),
        "finish_reason": completion.finish_reason,
    }


def _message(completion: Completion) -> dict[str, Any]:
    """What an answer says."""
    calls = [
        {"id": call.id, "type": "function", "function": _function(call.name, call.arguments)}
        for call in completion.tool_calls
    ]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if calls and not completion.text else completion.text,
    }
    if completion.reasoning is not None:
        message["reasoning_content"] = completion.reasoning
    if calls:
        message["tool_calls"] = calls
    return message


def _function(name: str, arguments: str) -> dict[str, str]:
    return {"name": name, "arguments": arguments}


def _logprobs(
    tokenizer: Tokenizer | None, found: Sequence[TokenLogprob] | None
) -> dict[str, Any] | None:
    """Of the tokens that a message consists of, which what ended it is none of."""
    if found is None or tokenizer is None:
        return None
    kept = [token_entry(each, tokenizer) for each in found if each.token not in tokenizer.eog]
    return {"content": kept, "refusal": None}


async def _events(
    service: Service,
    served: Served,
    stream: AsyncStream,
    head_: Head,
    body: ChatBody,
    on_end: Callable[[Completion], object] = lambda _: None,
) -> AsyncGenerator[bytes, None]:
    """``on_end`` is called with each answer before it is told that it is whole."""
    writer = _Writer(head_, served.llm.tokenizer, body.include_usage)
    finished: list[Completion] = []
    async for chunk in chunks(service, stream):
        events = writer.events(chunk)
        if chunk.completion is not None:
            finished.append(chunk.completion)
            on_end(chunk.completion)
            events += writer.end(chunk.completion, with_timings=body.n in (None, 1))
        if events:
            yield events
    if body.include_usage:
        yield writer.usage(finished, body.n or 1)
    yield DONE


class _Writer:
    """Chunks as events. What all have in common is encoded once: there is one for each token."""

    def __init__(self, head_: Head, tokenizer: Tokenizer | None, says_usage: bool) -> None:
        """``says_usage``: with a place for it in each event, empty but in the last."""
        self._fields = {**head_.fields(), **({"usage": None} if says_usage else {})}
        self._opening = b'data: %b,"choices":[{"index":' % dumped(self._fields)[:-1]
        self._tokenizer = tokenizer
        self._begun: set[int] = set()

    def events(self, chunk: Chunk) -> bytes:
        """What a chunk says, and before an answer's first one who says it."""
        delta: list[bytes] = []
        if chunk.reasoning:
            delta.append(b'"reasoning_content":' + dumped(chunk.reasoning))
        if chunk.text or (chunk.logprobs and not delta):
            delta.append(b'"content":' + dumped(chunk.text))
        if chunk.tool_calls:
            delta.append(b'"tool_calls":' + dumped(_call_deltas(chunk)))
        said = logprobs = b""
        if delta:
            if chunk.logprobs:
                logprobs = dumped(_logprobs(self._tokenizer, chunk.logprobs))
            said = self._event(chunk.index, b",".join(delta), logprobs or b"null")
        if chunk.index not in self._begun:
            self._begun.add(chunk.index)
            return self._event(chunk.index, b'"role":"assistant","content":null', b"null") + said
        return said

    def end(self, completion: Completion, with_timings: bool) -> bytes:
        """That an answer is whole, and why."""
        choice = {
            "index": completion.index,
            "delta": {},
            "logprobs": None,
            "finish_reason": completion.finish_reason,
        }
        took = {"timings": timings_of(completion)} if with_timings else {}
        return event({**self._fields, "choices": [choice], **took})

    def usage(self, completions: Sequence[Completion], n: int) -> bytes:
        """The last event, which has no choices."""
        took = {"timings": timings_of(completions[0])} if len(completions) == 1 else {}
        return event({**self._fields, "choices": [], "usage": usage(completions, n), **took})

    def _event(self, index: int, delta: bytes, logprobs: bytes) -> bytes:
        return b'%b%d,"delta":{%b},"logprobs":%b,"finish_reason":null}]}\n\n' % (
            self._opening,
            index,
            delta,
            logprobs,
        )


def _call_deltas(chunk: Chunk) -> list[dict[str, Any]]:
    """What a chunk adds to calls of tools; a call's first one says which."""
    found: list[dict[str, Any]] = []
    for delta in chunk.tool_calls:
        if delta.name:
            function = _function(delta.name, delta.arguments)
            said = {"id": delta.id, "type": "function", "function": function}
        else:
            said = {"function": {"arguments": delta.arguments}}
        found.append({"index": delta.index, **said})
    return found
