"""The ASGI application: every endpoint, and what surrounds them all."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from motet import __version__
from motet.server import reference, status
from motet.server.anthropic import messages
from motet.server.bodies import Bodies
from motet.server.conversations import endpoints as conversations
from motet.server.failures import add_handlers
from motet.server.llama import completion, props, rerank, slots, tokens, vectors
from motet.server.metrics import Metrics
from motet.server.openai import chat, completions, embeddings
from motet.server.page.files import page_files
from motet.server.page.routes import page_router
from motet.server.responses import routes as responses
from motet.server.responses.store import Responses
from motet.server.security import Gate
from motet.server.service import Service

_THREADS = 64
"""For what would keep the event loop waiting: a few slow grammars are not in others' way."""

ROUTERS = (
    reference.router,
    status.router,
    chat.router,
    completions.router,
    embeddings.router,
    responses.router,
    messages.router,
    rerank.router,
    conversations.router,
    completion.router,
    tokens.router,
    vectors.router,
    props.router,
    slots.router,
)


def create_app(service: Service) -> FastAPI:
    """The application that serves ``service``, which it starts and closes."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        threads = ThreadPoolExecutor(_THREADS, "motet-serve")
        asyncio.get_running_loop().set_default_executor(threads)
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
        docs_url=None,  # reference's instead: FastAPI's loads scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    app.state.responses = Responses()
    for router in ROUTERS:
        app.include_router(router)
    files = page_files() if settings.page else {}
    if files:
        app.include_router(page_router(files))
    add_handlers(app)
    app.add_middleware(Bodies, limit=settings.body_bytes)
    app.add_middleware(Gate, settings=settings, open=files.keys())
    app.add_middleware(_Requests, metrics=service.metrics)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST", "DELETE", "OPTIONS"],
            allow_headers=["*"],
        )
    return app


class _Requests:
    """Counts responses by endpoint and status; answers HEAD as GET, without the body."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # The server that carries this out knows that it was HEAD, and sends no body.
        asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.responded(_path(asked), message["status"])
            await send(message)

        await self._app(asked, receive, counted)


def _path(scope: Scope) -> str:
    """The endpoint's, where there is one: clients can make up any."""
    return getattr(scope.get("route"), "path", "other")
