"""HTTP as uvicorn reads it, with an end to how long and how large a request may be on its way."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD_BYTES = 1 << 16
PATIENCE = 60.0
"""Seconds for a request's headers to come, and between two pieces of its body."""


class Protocol(HttpToolsProtocol):
    """The parser keeps what a client sends until its headers are complete, however long that is."""

    _unread = 0
    """Bytes of a request whose headers aren't complete."""
    _in_head = True
    _receiving = True
    """Whether a request has not come as a whole yet; uvicorn itself ends what is idle after one."""
    _begun = _heard = 0.0
    """When the connection or the request began, when something came: of the loop's clock."""
    _watching: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begun = self._heard = self.loop.time()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watching is not None:
            self._watching.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._heard = self.loop.time()
        self._unread += len(data)
        super().data_received(data)
        if self._in_head and self._unread > _HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The headers have more than {_HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        self._receiving, self._begun = True, self.loop.time()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= _HEAD_BYTES // 128:
            raise ValueError("too many headers")  # the parser calls that an invalid request
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._unread, self._in_head, self._receiving = 0, True, False
        super().on_message_complete()

    def _watch(self) -> None:
        """Close the connection when the rest of a request does not come; look again later."""
        since = self._begun if self._in_head else self._heard
        if self._receiving and self.loop.time() - since > PATIENCE:
            self.transport.close()
        else:
            self._watching = self.loop.call_later(PATIENCE / 4, self._watch)
