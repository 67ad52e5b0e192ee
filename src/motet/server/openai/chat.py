"""``/v1/chat/completions``."""

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, Request, Response

from motet.async_llm import AsyncStream
from motet.engine import Chunk, Completion
from motet.sampling import TokenLogprob
from motet.server.conversations.registry import Turn, owner_of
from motet.server.failures import Refused
from motet.server.generation import chunks, guarded
from motet.server.llama.prompts import raw_text, vocabulary
from motet.server.logprobs import token_entry
from motet.server.openai.answers import (
    ChunkWriter,
    Head,
    error_event,
    head,
    usage,
    usage_so_far,
    whole,
)
from motet.server.openai.chat_body import ChatBody
from motet.server.replies import dumped
from motet.server.service import CurrentService, Served, Service
from motet.server.sse import DONE, event, event_stream
from motet.server.timings import timings_of
from motet.server.watching import Clock, watched
from motet.tokenizer import Tokenizer

router = APIRouter(tags=["OpenAI"])


@router.post("/v1/chat/completions")
@router.post("/chat/completions", include_in_schema=False)
async def chat_completions(body: ChatBody, service: CurrentService, request: Request) -> Response:
    """Answer a conversation."""
    served = service.text
    async with AsyncExitStack() as held:
        turn: Turn | None = None
        number = body.conversation_id
        if number is not None:
            turns = service.conversations.turn(number, owner_of(request))
            turn = await held.enter_async_context(turns)
        call = body.call(served, turn)
        if body.verbose and body.stream:
            raise Refused(400, "verbose: not of a stream", param="verbose")
        if body.stream:
            stream = await call.begun(service, request)
            writer = _Writer(
                head(served, "chat.completion.chunk", "chatcmpl"),
                served.llm.tokenizer,
                body.include_usage and not body.usage_in_each,
            )
            rest = held.pop_all()
            events = _events(service, stream, writer, body, turn, rest)
            return event_stream(guarded(events, error_event), rest)
        completions = await call.completed(service, request)
        if turn is not None:
            turn.add([*body.said(), _message(completions[0])])
    took: dict[str, Any] = {}
    if len(completions) == 1:
        took["timings"] = timings_of(completions[0])
    if body.verbose or (body.verbose is None and service.settings.verbose):
        text = raw_text(await call.prompt_ids(service), vocabulary(served.llm.model))
        took["__verbose"] = {"prompt": text}
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
    """What the assistant said."""
    calls = [
        {"id": call.id, "type": "function", "function": _function(call.name, call.arguments)}
        for call in completion.tool_calls
    ]
    said: dict[str, Any] = {
        "role": "assistant",
        "content": None if calls and not completion.text else completion.text,
    }
    if completion.reasoning is not None:
        said["reasoning_content"] = completion.reasoning
    if calls:
        said["tool_calls"] = calls
    return said


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
    stream: AsyncStream,
    writer: "_Writer",
    body: ChatBody,
    turn: Turn | None,
    held: AsyncExitStack,
) -> AsyncGenerator[bytes, None]:
    """``held``: the turn's end, which is over before a client can begin the next one."""
    finished: list[Completion] = []
    clock, counts = Clock(stream), Counter[int]()
    written = chunks(service, stream)
    coming = watched(written, stream) if body.return_progress else written
    async for chunk in coming:
        spent: dict[str, Any] = {}
        if not isinstance(chunk, Chunk):
            spent = {"usage": usage_so_far(stream, 0)} if body.usage_in_each else spent
            yield writer.progress({**chunk, **spent})
            continue
        counts[chunk.index] += len(chunk.tokens)
        took = clock.timings(counts[chunk.index]) if body.timings_per_token else None
        if body.usage_in_each:
            spent = {"usage": usage_so_far(stream, counts.total())}
        events = writer.events(chunk, took, spent)
        if chunk.completion is not None:
            finished.append(chunk.completion)
            events += writer.end(chunk.completion, body.n in (None, 1), spent)
        if events:
            yield events
    if turn is not None:
        turn.add([*body.said(), _message(finished[0])])
    await held.aclose()
    if body.include_usage:
        yield writer.usage(finished, body.n or 1)
    yield DONE


class _Writer(ChunkWriter):
    """Those of a chat."""

    def __init__(self, head_: Head, tokenizer: Tokenizer | None, says_usage: bool) -> None:
        super().__init__(head_, tokenizer, says_usage)
        self._begun: set[int] = set()

    def progress(self, said: dict[str, Any]) -> bytes:
        """How much of the prompt is computed."""
        return event({**self._fields, "choices": [], **said})

    def events(
        self,
        chunk: Chunk,
        took: dict[str, float] | None = None,
        spent: dict[str, Any] | None = None,
    ) -> bytes:
        """What a chunk says, and before an answer's first one who says it.

        ``spent``: further fields of each event.
        """
        rest = b"," + dumped(spent)[1:-1] if spent else b""
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
            timed = b',"timings":' + dumped(took) if took else b""
            said = self._event(chunk.index, b",".join(delta), logprobs or b"null", timed + rest)
        if chunk.index not in self._begun:
            self._begun.add(chunk.index)
            role = b'"role":"assistant","content":null'
            return self._event(chunk.index, role, b"null", rest) + said
        return said

    def end(self, completion: Completion, with_timings: bool, spent: dict[str, Any]) -> bytes:
        """That an answer is whole, and why; ``spent``: further fields."""
        choice = {
            "index": completion.index,
            "delta": {},
            "logprobs": None,
            "finish_reason": completion.finish_reason,
        }
        took = {"timings": timings_of(completion)} if with_timings else {}
        return event({**self._fields, "choices": [choice], **took, **spent})

    def usage(self, completions: Sequence[Completion], n: int) -> bytes:
        """The last event, which has no choices."""
        took = {"timings": timings_of(completions[0])} if len(completions) == 1 else {}
        return event({**self._fields, "choices": [], "usage": usage(completions, n), **took})

    def _event(self, index: int, delta: bytes, logprobs: bytes, rest: bytes) -> bytes:
        return b'%b%d,"delta":{%b},"logprobs":%b,"finish_reason":null}]%b}\n\n' % (
            self._opening,
            index,
            delta,
            logprobs,
            rest,
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
