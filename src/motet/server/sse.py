"""Server-sent events."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from fastapi.responses import StreamingResponse

PING_SECONDS = 15.0
"""After which a comment shows a client that waits, and proxies, that the server is there."""
DONE = b"data: [DONE]\n\n"


def event(data: dict[str, Any], name: str | None = None) -> bytes:
    """An event on the wire."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    head = f"event: {name}\n" if name is not None else ""
    return f"{head}data: {text}\n\n".encode("utf-8", "replace")


def event_stream(events: AsyncGenerator[bytes, None]) -> StreamingResponse:
    """The response that sends ``events``, which is closed when the client goes away."""
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(_pinged(events), headers=headers, media_type="text/event-stream")


async def _pinged(events: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    coming: asyncio.Future[bytes] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(events))
            await asyncio.wait({coming}, timeout=PING_SECONDS)
            if not coming.done():
                yield b": wait\n\n"
                continue
            try:
                yield coming.result()
            except StopAsyncIteration:
                return
            coming = None
    finally:
        if coming is not None and not coming.done():
            coming.cancel()
            await asyncio.wait({coming})
        await events.aclose()
