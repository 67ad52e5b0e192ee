"""Motet behind Ray Serve: replicas of a model, each conversation at one of them.

    serve run deploy.ray_serve:application model=model.gguf state_dir=/shared/state

A replica is `motet serve` without a socket of its own: the same application, so clients find the
same APIs at Ray's proxy. Requests with the same ``X-Session-Id`` go to the same replica, where what
was said is still in memory; a conversation's id is a good one. Conversations are written to
``state_dir``, which all replicas see, after each turn: when a replica ends, however it ends,
another goes on with them. More in docs/deploy.md.
"""

import asyncio
from pathlib import Path

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter

from motet import LLM, AsyncLLM, Model
from motet.server.app import create_app
from motet.server.service import Served, Service
from motet.server.settings import ServerSettings

_LOOK_SECONDS = 0.05


class Settings(BaseModel):
    """What ``serve run`` takes as name=value; another name is refused."""

    model_config = ConfigDict(extra="forbid")

    model: str
    """A path that every node has, or an hf:// address."""
    state_dir: Path
    """A directory that all nodes share."""
    threads: int = Field(1, ge=1)
    """Of a replica, which is given as many cores."""
    min_replicas: int = Field(1, ge=1)
    max_replicas: int = Field(4, ge=1)
    target_requests: float = Field(8, gt=0)
    """Of a replica, under way and waiting: with more of them another one is started."""
    upscale_seconds: float = Field(10, ge=0)
    downscale_seconds: float = Field(300, ge=0)
    """For which there have to be more, or fewer, before there is another one, or one less."""
    shutdown_seconds: float = Field(60, ge=0)
    """That answers under way get to end."""
    max_sequences: int = Field(16, ge=1)
    max_tokens: int | None = None
    kv_bytes: int | None = None
    self_extend: str | None = None
    packed_cache: str | None = None
    """As in ``motet.LLM`` and ``motet.Model.load``: with a packed cache, replicas of one node share
    the memory of the weights."""
    chat_template_file: Path | None = None
    """A Jinja chat template to use instead of the model's own."""
    api_keys: tuple[str, ...] = ()


@serve.ingress()
class Replica:
    """One server, as Ray starts and ends it."""

    def __init__(self, settings: Settings) -> None:
        self._service = Service(
            ServerSettings(
                hosts=("*",),  # who may ask under which name is the proxy's business
                api_keys=settings.api_keys,
                state_dir=settings.state_dir,
                shared_state=True,
                timeout=None,
            ),
            lambda: [_served(settings)],
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_app(self._service)

    async def check_health(self) -> None:
        """Once the model is loaded; Ray sends no request before, and starts another replica where
        this raises."""
        while self._service.status == "loading":
            await asyncio.sleep(_LOOK_SECONDS)
        if self._service.failure is not None:
            raise self._service.failure
        self._service.first.llm.load()  # raises where its engine has ended


def application(settings: Settings) -> serve.Application:
    """What ``serve run`` and ``serve deploy`` start."""
    return serve.deployment(
        Replica,
        ray_actor_options={"num_cpus": settings.threads},
        max_ongoing_requests=512,
        autoscaling_config=AutoscalingConfig(
            min_replicas=settings.min_replicas,
            max_replicas=settings.max_replicas,
            target_ongoing_requests=settings.target_requests,
            upscale_delay_s=settings.upscale_seconds,
            downscale_delay_s=settings.downscale_seconds,
        ),
        request_router_config=RequestRouterConfig(request_router_class=ConsistentHashRouter),
        health_check_period_s=5,
        health_check_timeout_s=600,
        graceful_shutdown_timeout_s=settings.shutdown_seconds,
    ).bind(settings)


def _served(settings: Settings) -> Served:
    model = Model.load(settings.model, settings.threads, packed_cache=settings.packed_cache)
    if settings.chat_template_file is not None and model.tokenizer is not None:
        template = settings.chat_template_file.read_text("utf-8")
        model.tokenizer = model.tokenizer.with_chat_template(template)
    llm = LLM(
        model,
        max_sequences=settings.max_sequences,
        max_tokens=settings.max_tokens,
        kv_bytes=settings.kv_bytes,
        self_extend=settings.self_extend,
        max_waiting=512,
    )
    return Served(model.name, AsyncLLM(llm))
