"""A server in a thread of the tests, at a port of its own."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import httpx

from motet import LLM, AsyncLLM
from motet.server.run import bound, server_of
from motet.server.service import Served, Service
from motet.server.settings import ServerSettings


@contextmanager
def serving(
    *makes: Callable[[], LLM], settings: ServerSettings | None = None
) -> Generator[httpx.Client]:
    """A client of a server of these models; ``client.base_url`` is where it is."""
    settings = settings or ServerSettings(port=0, shutdown_seconds=2)

    def load() -> list[Served]:
        llms = [make() for make in makes]
        name = settings.aliases[0] if settings.aliases else None
        return [
            Served(
                name or llm.model.name, AsyncLLM(llm), aliases=settings.aliases, tags=settings.tags
            )
            for llm in llms
        ]

    service = Service(settings, load)
    listening = bound(settings)
    server = server_of(service)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, timeout=60) as client:
            client._motet_app = server.config.app  # type: ignore[attr-defined]
            while service.status == "loading":
                time.sleep(0.01)
            if service.failure is not None:
                raise service.failure
            yield client
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
