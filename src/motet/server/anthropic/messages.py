"""The endpoints of the Messages API."""

from collections.abc import AsyncGenerator

from fastapi import APIRouter, Request, Response

from motet.async_llm import AsyncStream
from motet.engine import Usage
from motet.server.anthropic.blocks import chat_of
from motet.server.anthropic.body import MessageBody, PromptBody
from motet.server.anthropic.events import Event, Writing, finished
from motet.server.asking import ChatCall, Wanted
from motet.server.failures import Failure, Refused
from motet.server.generation import chunks, guarded
from motet.server.replies import reply
from motet.server.service import CurrentService, Served, Service
from motet.server.sse import event, event_stream
from motet.server.thinking import thinking_options

router = APIRouter(tags=["Anthropic messages"])


@router.post("/v1/messages")
async def create(body: MessageBody, request: Request, service: CurrentService) -> Response:
    """Have a message written, at once or as a stream of events."""
    served = service.text
    call = _call(body, served)
    if body.stream:
        stream = await call.begun(service, request)
        events = _events(service, stream, served.name, Writing(body.max_tokens))
        return event_stream(guarded(events, _failed))
    (completion,) = await call.completed(service, request)
    return reply(finished(served.name, completion, body.max_tokens))


@router.post("/v1/messages/count_tokens")
async def count_tokens(body: PromptBody, service: CurrentService) -> dict[str, int]:
    """How many tokens the model would read."""
    return {"input_tokens": await _call(body, service.text).prompt_tokens(service)}


def _call(body: PromptBody, served: Served) -> ChatCall:
    if body.thread is not None:  # details by which a client knows that it is to go on without
        raise Refused(
            400,
            "thread: no messages are kept here; leave it out and send all of them",
            details={"error_code": "thread_unsupported_request", "unsupported": ["thread"]},
        )
    wanted = Wanted()
    if isinstance(body, MessageBody):
        form = body.output_config.format
        wanted = Wanted(
            body.sampling(),
            max_tokens=body.max_tokens,
            stop=body.stop_sequences,
            json_schema=form and form.schema_,
        )
    thinking, effort = body.thinking, body.output_config.effort
    on = None if thinking is None else thinking.type != "disabled"
    options = thinking_options(served, "output_config.effort", effort=effort) or {}
    options |= thinking_options(served, "thinking", on) or {}
    choice = body.tool_choice
    return ChatCall(
        messages=chat_of(body.messages, body.system),
        wanted=wanted,
        tools=[tool.as_chat() for tool in body.tools or ()] or None,
        tool_choice=body.chat_choice,
        parallel_tool_calls=not (choice and choice.disable_parallel_tool_use),
        template_options=options or None,
        continues=body.continues,
    )


async def _events(
    service: Service, stream: AsyncStream, model: str, writing: Writing
) -> AsyncGenerator[bytes, None]:
    begun = False
    async for chunk in chunks(service, stream):
        if not begun:  # now it is known how much of the prompt was in memory
            begun = True
            usage = Usage(stream.prompt_tokens, 0, stream.cached_tokens)
            for each in writing.begin(model, usage):
                yield _sent(each)
        for each in writing.take(chunk):
            yield _sent(each)


def _failed(failure: Failure) -> bytes:
    return event(failure.body("/v1/messages"), "error")


def _sent(each: Event) -> bytes:
    return event(each, each["type"])
