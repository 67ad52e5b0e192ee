"""How far a streamed answer is, in llama-server's form: the prompt's progress, and timings."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from motet.async_llm import AsyncStream
from motet.engine import Chunk
from motet.server.timings import timings

_LOOK_SECONDS = 0.02
"""Between two looks at how much of a prompt is computed."""


class Clock:
    """Since a stream was begun, as the server sees it."""

    def __init__(self, stream: AsyncStream) -> None:
        self._stream = stream
        self._begun = time.perf_counter()
        self._first = 0.0

    def timings(self, written: int) -> dict[str, float]:
        """Now that an answer has so many tokens; the first call is for the first one."""
        now = time.perf_counter()
        self._first = self._first or now
        cached = self._stream.cached_tokens
        computed = self._stream.prompt_tokens - cached
        return timings(cached, computed, self._first - self._begun, written, now - self._first)


async def watched(
    coming: AsyncIterator[Chunk], stream: AsyncStream
) -> AsyncIterator[Chunk | dict[str, Any]]:
    """How much of the prompt is computed, as often as that changes, and then the chunks."""
    begun = time.perf_counter()
    said = -1
    first = asyncio.ensure_future(anext(coming))
    try:
        done = False
        while not done:
            await asyncio.wait({first}, timeout=_LOOK_SECONDS)
            done = first.done()
            total, cached = stream.prompt_tokens, stream.cached_tokens
            processed = total if done else round(stream.prompt_progress * total)
            for count in (cached, processed):
                if count > said and processed:
                    elapsed = 0.0 if count == cached else time.perf_counter() - begun
                    yield _progress(total, cached, count, elapsed)
                    said = count
        yield await first
    except StopAsyncIteration:
        return
    finally:
        first.cancel()
    async for chunk in coming:
        yield chunk


def _progress(total: int, cached: int, processed: int, seconds: float) -> dict[str, Any]:
    return {
        "prompt_progress": {
            "total": total,
            "cache": cached,
            "processed": processed,
            "time_ms": seconds * 1e3,
        },
        "timings": timings(cached, processed - cached, seconds, 0, 0.0),
    }
