"""The server process: from a free port to the last answer."""

import asyncio
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from motet.errors import OptionError
from motet.server.app import create_app
from motet.server.protocol import Protocol
from motet.server.service import Service
from motet.server.settings import ServerSettings

_BACKLOG = 2048
_CONNECTIONS = 4096
"""At once; what comes beyond them is told that the server is busy (503)."""
_KEEP_SECONDS = 75
"""For a client's next request on the same connection: more than it may take to read an answer."""
_LOOK_SECONDS = 0.05
_LAST_SECONDS = 2
"""For clients to take what is there once all answers have ended."""


def bound(settings: ServerSettings) -> socket.socket:
    """A socket at the address that clients are told. Raises OptionError where there is none."""
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
    except OSError as error:
        opened.close()
        raise OptionError(
            f"no server can listen at {host}, port {port}: {error.strerror or error}",
            hint="choose another --port; 0 takes one that is free",
        ) from error
    return opened


def run(service: Service, listening: socket.socket) -> None:
    """Serve until a signal comes; answers under way get ``shutdown_seconds`` to end.

    A second Ctrl-C ends them at once. Raises what loading the models raises.
    """
    server = server_of(service)
    _allow_connections()
    with listening, _signals_end_nothing():
        server.run([listening])
    if service.failure is not None:
        raise service.failure


def server_of(service: Service) -> uvicorn.Server:
    """What ``run`` runs."""
    settings = service.settings
    config = uvicorn.Config(
        create_app(service),
        log_level="info" if settings.access_log else "warning",
        access_log=settings.access_log,
        server_header=False,
        backlog=_BACKLOG,
        http=Protocol,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_SECONDS,
        ws="none",
        timeout_graceful_shutdown=_LAST_SECONDS,
    )
    return _Server(config, service)


class _Server(uvicorn.Server):
    """Tells the service when it is to stop, so that nothing further is begun."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._seconds = service.settings.shutdown_seconds
        service.on_failure = self._give_up

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._service.status == "loading":  # nothing is under way, and loading can't be stopped
            os._exit(128 + sig)
        if self._service.status == "ready":
            self._service.status = "stopping"
        super().handle_exit(sig, frame)
        if self.force_exit:  # what is cut off says so with a traceback
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let answers under way end, while new requests are told that the server stops."""
        end = time.monotonic() + self._seconds
        under_way = set(self.server_state.tasks)
        while any(not task.done() for task in under_way):
            if self.force_exit or time.monotonic() > end:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        if not self.force_exit:
            await self._service.close()
        await super().shutdown(sockets)

    def _give_up(self) -> None:
        self.should_exit = True


def _allow_connections() -> None:
    """Open files are limited to 1024 on most systems unless one asks for more."""
    wanted = _CONNECTIONS + 1024
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@contextmanager
def _signals_end_nothing() -> Generator[None]:
    """uvicorn sends itself again, at the end, the signals that stopped it: all is done by then."""
    before = {which: signal.signal(which, _ignore) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


def _ignore(_: int, __: FrameType | None) -> None:
    pass
