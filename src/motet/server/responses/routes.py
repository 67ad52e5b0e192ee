"""The endpoints of the Responses API."""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Depends, Query, Request, Response

from motet.engine import Chunk
from motet.server.asking import ChatCall, Wanted
from motet.server.conversations.registry import Turn, owner_of
from motet.server.failures import Refused
from motet.server.generation import chunks, guarded
from motet.server.replies import reply
from motet.server.responses.body import InputBody, ResponseBody
from motet.server.responses.events import Writing, whole
from motet.server.responses.items import (
    Item,
    Reference,
    chat_of,
    instructed,
    named,
    read_item,
    shown,
)
from motet.server.responses.store import Responses, Stored
from motet.server.service import CurrentService, Served, Service
from motet.server.sse import event, event_stream
from motet.server.thinking import thinking_options
from motet.server.watching import Clock, watched

router = APIRouter(tags=["OpenAI responses"])


Items = tuple[Item, ...]


def _kept(request: Request) -> Responses:
    return request.app.state.responses


Kept = Annotated[Responses, Depends(_kept)]
Owner = Annotated[str, Depends(owner_of)]


@router.post("/v1/responses")
@router.post("/responses", include_in_schema=False)
async def create(
    body: ResponseBody, request: Request, service: CurrentService, kept: Kept, owner: Owner
) -> Response:
    """Have a response written, at once or as a stream of events."""
    served = service.text
    given, history = _read(body, kept, owner)
    logprobs = body.logprobs is not None
    writing = Writing(_begun(body, served), served.llm.tokenizer if logprobs else None)

    def keep(turn: Turn) -> None:
        output = tuple(read_item(item) for item in writing.body["output"])
        turn.add([*chat_of(given), *chat_of(output)])
        if body.store is not False:
            kept.add(_stored(owner, writing.body, given, history + output))

    async def events() -> AsyncGenerator[bytes, None]:
        async with _turn(body, service, owner, given, history) as turn:
            stream = await _call(body, served, turn).begun(service, request)
            yield b""  # nothing has refused it
            told = list(writing.begin())
            for each in told:
                yield _sent(each)
            clock, count = Clock(stream), 0
            written = chunks(service, stream)
            coming = watched(written, stream) if body.return_progress else written
            async for chunk in coming:
                if not isinstance(chunk, Chunk):
                    yield _sent(writing.progress(chunk))
                    continue
                told, count = list(writing.take(chunk)), count + len(chunk.tokens)
                if body.timings_per_token and told:
                    told[-1]["timings"] = clock.timings(count)
                if chunk.completion is not None:
                    keep(turn)
                    continue
                for each in told:
                    yield _sent(each)
        for each in told:  # the conversation has this turn now
            yield _sent(each)

    if body.stream:
        coming = events()
        await anext(coming)
        return event_stream(guarded(coming, lambda failure: _sent(writing.failed(failure))))
    async with _turn(body, service, owner, given, history) as turn:
        call = _call(body, served, turn)
        if logprobs:  # which of the tokens are the text's, a stream alone tells
            async for chunk in chunks(service, await call.begun(service, request)):
                _ = list(writing.take(chunk))
        else:
            (completion,) = await call.completed(service, request)
            _ = list(writing.take(whole(completion)))
        keep(turn)
    return reply(writing.body)


@router.post("/v1/responses/input_tokens")
@router.post("/responses/input_tokens", include_in_schema=False)
async def input_tokens(
    body: InputBody, service: CurrentService, kept: Kept, owner: Owner
) -> dict[str, Any]:
    """How many tokens the model would read."""
    given, history = _read(body, kept, owner)
    async with _turn(body, service, owner, given, history) as turn:
        count = await _call(body, service.text, turn).prompt_tokens(service)
    return {"object": "response.input_tokens", "input_tokens": count}


@router.get("/v1/responses/{name}")
async def retrieve(name: str, kept: Kept, owner: Owner, stream: bool = False) -> Response:
    """A response that is kept."""
    if stream:
        raise Refused(400, "events are not kept; leave stream out", param="stream")
    return reply(kept.get(owner, name).body)


@router.delete("/v1/responses/{name}")
async def delete(name: str, kept: Kept, owner: Owner) -> dict[str, Any]:
    """Forget a response. Those that went on from it are left."""
    kept.remove(owner, name)
    return {"id": name, "object": "response", "deleted": True}


@router.post("/v1/responses/{name}/cancel")
async def cancel(name: str, kept: Kept, owner: Owner) -> dict[str, Any]:
    """For responses that are made in the background, which this server's never are."""
    kept.get(owner, name)
    raise Refused(400, "the response was not made in the background; close its connection instead")


@router.get("/v1/responses/{name}/input_items")
async def input_items(
    name: str,
    kept: Kept,
    owner: Owner,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> Response:
    """The items of a response's request."""
    items = [shown(item) for item in kept.get(owner, name).given]
    if order == "desc":
        items.reverse()
    if after is not None:
        places = [place for place, item in enumerate(items) if item["id"] == after]
        if not places:
            raise Refused(400, f"the response has no item {after[:80]!r}", param="after")
        items = items[places[0] + 1 :]
    page = items[:limit]
    listed = {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(items) > limit,
    }
    return reply(listed)


def _read(body: InputBody, kept: Responses, owner: str) -> tuple[Items, Items]:
    """The request's items, and after those of the responses that it goes on from."""
    given = tuple(
        kept.item(owner, item.id) if isinstance(item, Reference) else named(item)
        for item in body.input
    )
    if body.previous_response_id is None:
        return given, given
    before = kept.get(owner, body.previous_response_id, "previous_response_id")
    if before.body["conversation"] is not None:
        raise Refused(
            400,
            "the response is part of a conversation; name that, as conversation",
            param="previous_response_id",
        )
    return given, before.history + given


@asynccontextmanager
async def _turn(
    body: InputBody, service: Service, owner: str, given: Items, history: Items
) -> AsyncIterator[Turn]:
    """The turn that a response is: of a conversation, where one is named."""
    if body.conversation is None:
        yield Turn(list(chat_of(history)), None)
        return
    async with service.conversations.turn(body.conversation.id, owner) as turn:
        turn.messages += chat_of(given)
        yield turn


def _call(body: InputBody, served: Served, turn: Turn) -> ChatCall:
    tools, choice = body.chat_tools
    effort = body.reasoning.effort if body.reasoning else None
    wanted = Wanted(body.sampling(), json_schema=body.json_schema)
    if isinstance(body, ResponseBody):
        wanted = Wanted(
            body.sampling(),
            max_tokens=body.max_output_tokens,
            logprobs=body.logprobs,
            json_schema=body.json_schema,
        )
    return ChatCall(
        messages=instructed(turn.messages, body.instructions),
        conversation=turn.conversation,
        wanted=wanted,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        template_options=thinking_options(served, "reasoning.effort", effort=effort),
    )


def _begun(body: ResponseBody, served: Served) -> dict[str, Any]:
    """A response before anything is written. What the request left open is said as it is here."""
    given = body.model_dump(mode="json", by_alias=True)
    sampling = served.llm.sampling
    return {
        "id": f"resp_{uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "conversation": given["conversation"],
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "model": served.name,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": body.reasoning and body.reasoning.effort, "summary": None},
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": body.store is not False,
        "temperature": sampling.temperature if body.temperature is None else body.temperature,
        "text": {
            "format": given["text"]["format"] or {"type": "text"},
            "verbosity": "medium",
        },
        "tool_choice": given["tool_choice"] or "auto",
        "tools": given["tools"] or [],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": sampling.top_p if body.top_p is None else body.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": body.user,
    }


def _stored(owner: str, body: dict[str, Any], given: Items, history: Items) -> Stored:
    size = len(json.dumps(body)) + sum(len(item.model_dump_json()) for item in history)
    return Stored(owner, body, given, history, size)


def _sent(each: dict[str, Any]) -> bytes:
    return event(each, each["type"])
