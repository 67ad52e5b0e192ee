"""What every answer says of itself."""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import Response

from motet import __version__
from motet.async_llm import AsyncStream
from motet.engine import Completion
from motet.server.failures import Failure
from motet.server.replies import dumped
from motet.server.service import Served
from motet.server.sse import event
from motet.tokenizer import Tokenizer


@dataclass(frozen=True)
class Head:
    """What all parts of one response begin with."""

    object: str
    model: str
    fingerprint: str
    id: str
    created: int = field(default_factory=lambda: int(time.time()))

    def fields(self) -> dict[str, Any]:
        """In the order in which clients see them."""
        return {
            "id": self.id,
            "object": self.object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def head(served: Served, kind: str, prefix: str) -> Head:
    """Of a new response of that ``kind``; its id begins with ``prefix``."""
    arithmetic = served.llm.model.kernels.arithmetic.replace(", ", "-").replace(" ", "-")
    return Head(kind, served.name, f"b{__version__}/{arithmetic}", f"{prefix}-{uuid.uuid4().hex}")


class ChunkWriter:
    """Chunks as events. What all have in common is encoded once: there is one for each token."""

    def __init__(self, head_: Head, tokenizer: Tokenizer | None, says_usage: bool) -> None:
        """``says_usage``: with a place for it in each event, empty but in the last."""
        self._fields = {**head_.fields(), **({"usage": None} if says_usage else {})}
        self._opening = b'data: %b,"choices":[{"index":' % dumped(self._fields)[:-1]
        self._tokenizer = tokenizer


def usage(completions: Sequence[Completion], n: int) -> dict[str, Any]:
    """Tokens of all answers, ``n`` to a prompt, which counts once."""
    first = [each.usage for each in completions if each.index % n == 0]
    prompt = sum(each.prompt_tokens for each in first)
    written = sum(each.usage.completion_tokens for each in completions)
    tokens = _tokens(prompt, written, sum(each.cached_tokens for each in first))
    proposed = sum(each.usage.proposed_tokens for each in completions)
    accepted = sum(each.usage.accepted_tokens for each in completions)
    details = {
        "reasoning_tokens": sum(each.usage.reasoning_tokens for each in completions),
        "accepted_prediction_tokens": accepted,
        "rejected_prediction_tokens": proposed - accepted,
    }
    return {**tokens, "completion_tokens_details": details}


def usage_so_far(stream: AsyncStream, written: int) -> dict[str, Any]:
    """Of all answers, which have so many tokens until now."""
    return _tokens(stream.prompt_tokens, written, stream.cached_tokens)


def _tokens(prompt: int, written: int, cached: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


async def whole(
    head_: Head, choices: Callable[[], Sequence[dict[str, Any]]], rest: dict[str, Any], large: bool
) -> Response:
    """The response that is no stream. ``large``: write it in another thread, choice by choice,
    so that others get their turn meanwhile."""

    def written() -> bytes:
        return b'%b,"choices":[%b],%b' % (
            dumped(head_.fields())[:-1],
            b",".join(dumped(choice) for choice in choices()),
            dumped(rest)[1:],
        )

    content = await asyncio.to_thread(written) if large else written()
    return Response(content, media_type="application/json")


def error_event(failed: Failure) -> bytes:
    """What ends a stream that failed."""
    return event(failed.body(""))
