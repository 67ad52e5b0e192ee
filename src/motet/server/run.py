"""The server process: from a free port to the last answer."""

import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from motet.errors import OptionError
from motet.server.app import create_app
from motet.server.service import Service
from motet.server.settings import ServerSettings

_BACKLOG = 2048


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
    settings = service.settings
    config = uvicorn.Config(
        create_app(service),
        log_level="info" if settings.access_log else "warning",
        access_log=settings.access_log,
        server_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_seconds)),
    )
    server = _Server(config, service)
    with listening, _signals_end_nothing():
        server.run([listening])
    if service.failure is not None:
        raise service.failure


class _Server(uvicorn.Server):
    """Tells the service when it is to stop, so that nothing further is begun."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        service.on_failure = self._give_up

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._service.status == "ready":
            self._service.status = "stopping"
        super().handle_exit(sig, frame)

    def _give_up(self) -> None:
        self.should_exit = True


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
