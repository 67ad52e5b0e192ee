"""Server-sent events."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any

from fastapi import Response
from starlette.types import Receive, Scope, Send

from motet.server.replies import dumped

_log = logging.getLogger("motet")

PING_SECONDS = 15.0
"""After which a comment shows a client that waits, and proxies, that the server is there."""
STALL_SECONDS = 60.0
"""After which a client that reads nothing of what is there has left."""
DONE = b"data: [DONE]\n\n"
_PING = b": wait\n\n"


def event(data: dict[str, Any], name: str | None = None) -> bytes:
    """An event on the wire."""
    head = b"" if name is None else b"event: %b\n" % name.encode()
    return b"%bdata: %b\n\n" % (head, dumped(data))


def event_stream(
    events: AsyncGenerator[bytes, None], held: AsyncExitStack | None = None
) -> Response:
    """The response that sends ``events``, which is closed when the client goes away.

    ``held``: what is let go at the end, whether or not a first event was asked for.
    """
    return _EventStream(events, held)


class _EventStream(Response):
    """Sends events as they come: what a reader doesn't take is not asked for.

    One task sends, and this one waits beside it, so that an event costs no task of its own.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], held: AsyncExitStack | None) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._events = events
        self._held = held or AsyncExitStack()
        self._sent = 0
        self._sending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        sending = gone = None
        try:
            await send(start)
            sending = asyncio.ensure_future(self._send(send))
            gone = asyncio.ensure_future(left(receive))
            await self._watch(sending, gone, send)
        finally:
            tasks = {task for task in (sending, gone) if task is not None}
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            await self._events.aclose()
            await self._held.aclose()

    async def _send(self, send: Send) -> None:
        async for each in self._events:
            self._sending = True
            await send({"type": "http.response.body", "body": each, "more_body": True})
            self._sending = False
            self._sent += 1
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _watch(
        self, sending: "asyncio.Future[None]", gone: "asyncio.Future[None]", send: Send
    ) -> None:
        """Wait for the end of the events, or for that of the client's patience or ours."""
        sent, stalled = -1, 0.0
        while not gone.done():
            await asyncio.wait(
                {sending, gone}, timeout=PING_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if sending.done():
                return sending.result()
            moved, sent = self._sent != sent, self._sent
            if moved or gone.done():
                stalled = 0.0
            elif self._sending or not await _pinged(send):
                stalled += PING_SECONDS
            if stalled >= STALL_SECONDS:
                _log.warning("a client has read nothing for %d seconds: it has left", stalled)
                return None
        return None


async def left(receive: Receive) -> None:
    """Wait until the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _pinged(send: Send) -> bool:
    """Send a comment. False where the client takes nothing."""
    message = {"type": "http.response.body", "body": _PING, "more_body": True}
    try:
        await asyncio.wait_for(send(message), PING_SECONDS)
    except asyncio.TimeoutError:
        return False
    return True
