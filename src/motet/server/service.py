"""The models that are served, from loading to the end."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Literal

from fastapi import Depends, Request

from motet.async_llm import AsyncLLM
from motet.context import position_limit
from motet.errors import UnsupportedError
from motet.pooling import choose_pooling
from motet.runnable import Decodes
from motet.server.conversations.registry import Conversations
from motet.server.failures import Refused
from motet.server.metrics import Metrics
from motet.server.settings import ServerSettings

_log = logging.getLogger("motet")


@dataclass(frozen=True)
class Served:
    """A model, and what clients call it."""

    name: str
    llm: AsyncLLM
    pooling: str | None = None
    """Of vectors, where the server was told another one than the file has."""
    aliases: tuple[str, ...] = ()
    """All that it was named, ``name`` among them; none where that is its file's."""
    tags: tuple[str, ...] = ()
    created: int = field(default_factory=lambda: int(time.time()))
    """Unix time at which it was loaded."""

    @property
    def writes(self) -> bool:
        """Whether it continues texts."""
        return isinstance(self.llm.model.family, Decodes) and not self.ranks

    @property
    def ranks(self) -> bool:
        """Whether it scores documents for a query."""
        return "rank" in self.llm.model.family.pooled_heads

    @property
    def embeds(self) -> bool:
        """Whether it is known how it makes vectors of texts."""
        if self.ranks:
            return False
        return choose_pooling(self.pooling, self.llm.model) not in ("none", "rank")

    @property
    def context_length(self) -> int:
        """Tokens of a sequence, prompt and answer together, or of a text that becomes a vector."""
        return self.llm.max_tokens if self.writes else position_limit(self.llm.model)


class Service:
    """What endpoints work with. One for each app."""

    def __init__(self, settings: ServerSettings, load: Callable[[], list[Served]]) -> None:
        """``load`` gives the models, those that clients mean by default first; it may take long."""
        self.settings = settings
        self.models: list[Served] = []
        self.status: Literal["loading", "ready", "failed", "stopping"] = "loading"
        self.begun = time.time()
        """Unix time."""
        self.failure: Exception | None = None
        """Why loading failed."""
        self.metrics = Metrics(self)
        self.conversations = Conversations(self)
        self.on_ready: Callable[[], object] = lambda: None
        """Called when the models are loaded."""
        self.on_failure: Callable[[], object] = lambda: None
        """Called when loading has failed."""
        self._load = load

    async def start(self) -> None:
        """Load the models in another thread, while the server says that it is loading."""
        try:
            self.models = await asyncio.to_thread(self._load)
            await asyncio.to_thread(self._prepare_grammars)
            self.status = "ready"
        except Exception as error:
            self.failure, self.status = error, "failed"
            self.on_failure()
            return
        for served in self.models:
            _log.info("%s is ready", served.name)
        self.on_ready()

    async def close(self) -> None:
        """Save conversations, and end the models' threads; answers under way end with an error."""
        self.status = "stopping"
        await self.conversations.save_all()
        for served in self.models:
            await served.llm.close()

    @property
    def first(self) -> Served:
        """The model that clients mean by default. Raises Refused where there is none yet."""
        self.require_ready()
        return self.models[0]

    @property
    def text(self) -> Served:
        """The model that writes. Raises Refused where there is none, or none yet."""
        return self._first(lambda served: served.writes, "writes no text")

    @property
    def vectors(self) -> Served:
        """The model that makes vectors. Raises as ``text`` does."""
        hint = "makes no vectors: serve one made for that (--embeddings MODEL), or say --pooling"
        return self._first(lambda served: served.embeds, hint)

    @property
    def reranker(self) -> Served:
        """The model that ranks documents. Raises as ``text`` does."""
        hint = "ranks no documents: serve a reranker (--rerank MODEL)"
        return self._first(lambda served: served.ranks, hint)

    def require_ready(self) -> None:
        """Raise Refused, with 503, while models are loaded and once the server stops."""
        if self.status == "loading":
            raise Refused(503, "Loading model")
        if self.status != "ready":
            raise Refused(503, "the server is stopping")

    def _prepare_grammars(self) -> None:
        """So that the first answer held to a grammar doesn't wait for it, and others beside it."""
        for served in self.models:
            if served.writes:
                with suppress(UnsupportedError):  # without llguidance, or a vocabulary
                    served.llm.grammars.prepare()

    def _first(self, serves: Callable[[Served], bool], lacks: str) -> Served:
        self.require_ready()
        for served in self.models:
            if serves(served):
                return served
        raise Refused(501, f"{self.models[0].name} {lacks}")


def _service(request: Request) -> Service:
    return request.app.state.service


CurrentService = Annotated[Service, Depends(_service)]
"""What an endpoint declares to be given the service."""
