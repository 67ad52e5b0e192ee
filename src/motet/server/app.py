"""The ASGI application: every endpoint, and what surrounds them all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from motet import __version__
from motet.server import status
from motet.server.anthropic import messages
from motet.server.failures import add_handlers
from motet.server.metrics import Metrics
from motet.server.responses import routes as responses
from motet.server.responses.store import Responses
from motet.server.security import Gate
from motet.server.service import Service

ROUTERS = (status.router, responses.router, messages.router)


def create_app(service: Service) -> FastAPI:
    """The application that serves ``service``, which it starts and closes."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(service.start())
        yield
        service.status = "stopping"
        await loading
        await service.close()

    settings = service.settings
    app = FastAPI(
        title="Motet",
        version=__version__,
        description="Language models on this machine: each answer is what it would be alone.",
        lifespan=lifespan,
        max_body_size=settings.body_bytes,
    )
    app.state.service = service
    app.state.responses = Responses()
    for router in ROUTERS:
        app.include_router(router)
    add_handlers(app)
    app.add_middleware(_Counted, metrics=service.metrics)
    app.add_middleware(Gate, settings=settings)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["*"],
            allow_headers=["*"],
        )
    return app


class _Counted:
    """Counts responses by endpoint and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                path = "other" if route is None else route.path
                self._metrics.responded(path, message["status"])
            await send(message)

        await self._app(scope, receive, counted if scope["type"] == "http" else send)
