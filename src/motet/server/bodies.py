"""What a request may carry, before anything looks into it: JSON, and so many bytes."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from motet.server.failures import Failure, Refused

_MOST_PARTS = 500_000
"""Opening brackets: nobody else is served while JSON is read, and lists take longest."""


class Bodies:
    """Refuses bodies that are too large, or no JSON by what they say of themselves."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        """``limit``: bytes."""
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        if refusal is not None:
            await refusal.response(scope["path"])(scope, receive, send)
            return
        read = parts = 0

        async def counted() -> Message:
            nonlocal read, parts
            message = await receive()
            piece = message.get("body", b"")
            read += len(piece)
            parts += piece.count(b"[") + piece.count(b"{")
            if read > self._limit:  # it came in pieces, without a length
                raise Refused(413, self._too_large)
            if parts > _MOST_PARTS:
                raise Refused(413, f"the body has more than {_MOST_PARTS} '[' and '{{': send less")
            return message

        await self._app(scope, counted, send)

    def _refusal(self, headers: Headers) -> Failure | None:
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._limit:
            return Failure(413, self._too_large, headers={"Connection": "close"})
        if length in ("", "0") and "transfer-encoding" not in headers:
            return None
        kind = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind == "application/json" or (kind.startswith("application/") and kind[-5:] == "+json"):
            return None
        return Failure(415, f"the body is {kind[:80]!r}: send JSON, as 'application/json'")

    @property
    def _too_large(self) -> str:
        return f"the body has more than {self._limit} bytes (--max-body allows more)"
