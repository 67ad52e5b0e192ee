"""HTTP as uvicorn reads it, with an end to what a request may say before its body."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD_BYTES = 1 << 16


class Protocol(HttpToolsProtocol):
    """The parser keeps what a client sends until its headers are complete, however long that is."""

    _unread = 0
    """Bytes of a request whose headers aren't complete."""
    _in_head = True

    def data_received(self, data: bytes) -> None:
        self._unread += len(data)
        super().data_received(data)
        if self._in_head and self._unread > _HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The headers have more than {_HEAD_BYTES} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= _HEAD_BYTES // 128:
            raise ValueError("too many headers")  # the parser calls that an invalid request
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._unread, self._in_head = 0, True
        super().on_message_complete()
