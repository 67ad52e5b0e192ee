"""What both clients make of a server that has too much to do, or fails."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import httpx
import openai
import pytest

from motet import LLM
from motet.server.settings import ServerSettings
from tests.server.replying import Replying
from tests.server.running import serving


def clients(server: httpx.Client) -> tuple[openai.OpenAI, anthropic.Anthropic]:
    base = str(server.base_url)
    return (
        openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0),
        anthropic.Anthropic(base_url=base, api_key="none", max_retries=0),
    )


def respond(client: openai.OpenAI, **options: Any) -> Any:
    return client.responses.create(model="any", input="Hello", **options)


def write(client: anthropic.Anthropic, **options: Any) -> Any:
    chat: Any = [{"role": "user", "content": "Hello"}]
    return client.messages.create(model="any", max_tokens=9, messages=chat, **options)


def test_a_full_queue_is_a_rate_limit() -> None:
    model = Replying(lambda _: "Hi")
    made: list[LLM] = []

    def make() -> LLM:
        made.append(LLM(model, max_sequences=1, max_waiting=1))  # type: ignore[arg-type]
        return made[0]

    with serving(make) as server, ThreadPoolExecutor(2) as pool:
        gpt, claude = clients(server)
        model.made.gate.clear()
        try:
            busy = [pool.submit(respond, gpt), pool.submit(write, claude)]
            while made[0].load().running + made[0].load().waiting < 2:
                time.sleep(0.005)
            for stream in (False, True):
                with pytest.raises(openai.RateLimitError) as refusal:
                    respond(gpt, stream=stream)
                assert int(refusal.value.response.headers["retry-after"]) >= 1
                with pytest.raises(anthropic.RateLimitError) as limit:
                    write(claude, stream=stream)
                assert limit.value.type == "rate_limit_error"
        finally:
            model.made.gate.set()
        for each in busy:
            each.result()


def test_what_takes_too_long_ends() -> None:
    model = Replying(lambda _: "Hi")
    settings = ServerSettings(port=0, timeout=0.05)

    def open_late() -> None:
        """Let the model compute once the request that it has is late."""
        assert model.made.entered.wait(10)
        time.sleep(0.1)
        model.made.gate.set()

    with serving(lambda: LLM(model), settings=settings) as server:  # type: ignore[arg-type,return-value]
        gpt, claude = clients(server)
        asks: list[Callable[[], Any]] = [lambda: respond(gpt), lambda: write(claude)]
        for ask in asks:
            model.made.entered.clear()
            model.made.gate.clear()
            opening = threading.Thread(target=open_late)
            opening.start()
            with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as late:
                ask()
            assert late.value.status_code == 408
            opening.join()


def test_an_error_in_the_middle_of_a_stream_is_told() -> None:
    model = Replying(lambda _: "This takes a while. " * 150)
    with serving(lambda: LLM(model)) as server:  # type: ignore[arg-type,return-value]
        gpt, claude = clients(server)
        events = iter(respond(gpt, stream=True))
        for event in events:
            if event.type == "response.output_text.delta":
                model.made.fail = RuntimeError("broken")
                break
        *_, last = events
        assert last.type == "response.failed"
        assert "broken" in last.response.error.message
        model.made.fail = RuntimeError("broken")
        with pytest.raises(anthropic.APIStatusError, match="broken"):
            list(write(claude, stream=True))
