"""From an endpoint to the model's answers, the one way: clients that leave, times, metrics."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

from fastapi import Request

from motet.async_llm import AsyncStream
from motet.engine import Chunk, Completion
from motet.server.failures import ClientLeft, Failure, failure
from motet.server.security import key_of
from motet.server.service import Service
from motet.server.sse import left

Result = TypeVar("Result")


def client_of(request: Request) -> str:
    """Whose request it is: clients take turns. The key that was given, or the address."""
    return key_of(request.scope) or (request.client.host if request.client else "")


async def completed(service: Service, request: Request, work: Awaitable[Result]) -> Result:
    """Wait for what was asked of a model. When the client goes away it is cancelled.

    Raises ClientLeft then, and what ``work`` does.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(left(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientLeft
        result = task.result()
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.wait({task, gone})
    for each in result if isinstance(result, list) else [result]:
        if isinstance(each, Completion):
            service.metrics.observe(each)
    return result


async def begun(stream: AsyncStream) -> AsyncStream:
    """Hand a stream's requests in, so that what refuses them does so before a response begins."""
    try:
        await stream.begin()
    except BaseException:
        stream.close()
        raise
    return stream


async def chunks(service: Service, stream: AsyncStream) -> AsyncIterator[Chunk]:
    """The chunks of a stream that was begun; leaving the loop cancels what is not finished."""
    async with stream:
        async for chunk in stream:
            if chunk.completion is not None:
                service.metrics.observe(chunk.completion)
            yield chunk


async def guarded(
    events: AsyncGenerator[bytes, None], on_error: Callable[[Failure], bytes]
) -> AsyncGenerator[bytes, None]:
    """``events``, and where an error ends them the event that says so in the API's own form."""
    try:
        async for each in events:
            yield each
    except Exception as error:
        yield on_error(failure(error))
    finally:
        await events.aclose()
