"""A server of a small model that answers in conversations by a route of its own, ``/ask/ID``.

    python -m tests.server.conversing STATE_DIR [MODEL]

tells on standard output which port it is at.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import Body, FastAPI, Request

from motet import LLM, AsyncLLM, Model
from motet.cli.demo import shipped_model
from motet.server.app import create_app
from motet.server.conversations.registry import owner_of
from motet.server.run import bound
from motet.server.service import Served, Service
from motet.server.settings import ServerSettings

TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"


def talker(model: Path | str | None = None, max_sequences: int = 8, **options: Any) -> LLM:
    """An LLM whose model has a chat template."""
    loaded = Model.load(model or shipped_model())
    assert loaded.tokenizer is not None
    loaded.tokenizer.chat_templates = {"default": TEMPLATE}  # pyright: ignore
    return LLM(loaded, max_sequences=max_sequences, **options)


def conversing(make: Callable[[], LLM], settings: ServerSettings) -> tuple[FastAPI, Service]:
    """An app that answers in conversations."""

    def load() -> list[Served]:
        llm = make()
        return [Served(llm.model.name, AsyncLLM(llm))]

    service = Service(settings, load)
    app = create_app(service)

    @app.post("/ask/{id}")
    async def ask(
        id: str,
        request: Request,
        text: str = Body(),
        seed: int = Body(1),
        max_tokens: int = Body(8),
        fail: bool = Body(False),
    ) -> dict[str, Any]:
        async with service.conversations.turn(id, owner_of(request)) as turn:
            asked = {"role": "user", "content": text}
            messages = [*turn.messages, asked]
            answer = await service.text.llm.chat(
                messages,
                conversation=turn.conversation,
                max_tokens=max_tokens,
                seed=seed,
                logprobs=1,
            )
            if fail:
                raise ValueError("after it was computed")
            turn.add([asked, {"role": "assistant", "content": answer.text}])
        logprobs = [each.logprob for each in answer.logprobs or ()]
        return {
            "text": answer.text,
            "logprobs": logprobs,
            "cached": answer.usage.cached_tokens,
            "prompt": answer.usage.prompt_tokens,
        }

    return app, service


def _main(state_dir: str, model: str | None = None) -> None:
    settings = ServerSettings(port=0, state_dir=Path(state_dir))
    app, _ = conversing(lambda: talker(model), settings)
    listening = bound(settings)
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listening])


if __name__ == "__main__":
    _main(*sys.argv[1:])
