"""Clients that vanish or don't read: what they asked for is dropped, and others go on."""

import json
import socket
import threading
import time
from collections.abc import AsyncGenerator, Generator
from typing import Any

import httpx
import pytest

from motet import LLM
from motet.server import sse
from tests.server.models import chatting, tiny
from tests.server.running import serving

LONG: Any = {"prompt": "Once upon a time", "max_tokens": 200, "temperature": 0}


@pytest.fixture
def llm() -> Generator[LLM]:
    """Whose steps take a while."""
    with chatting(max_sequences=4) as made:
        decode = made._engine._context.decode

        def slow(*given: Any, **more: Any) -> Any:
            time.sleep(0.02)
            return decode(*given, **more)

        made._engine._context.decode = slow  # type: ignore[method-assign]
        yield made


@pytest.fixture
def server(llm: LLM) -> Generator[httpx.Client]:
    with serving(lambda: llm) as client:
        yield client


def wait_for(met: Any) -> None:
    end = time.monotonic() + 10
    while not met():
        assert time.monotonic() < end
        time.sleep(0.002)


def idle(llm: LLM) -> bool:
    load = llm.load()
    return load.running == load.waiting == load.sequences_used == 0


def request_of(body: str, url: httpx.URL, path: str) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {url.host}:{url.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


def connected(server: httpx.Client, body: str, path: str = "/v1/completions") -> socket.socket:
    """A connection over which a request was sent."""
    url = server.base_url
    opened = socket.create_connection((url.host, url.port or 80), timeout=10)
    opened.sendall(request_of(body, url, path))
    return opened


@pytest.mark.parametrize("stream", ["true", "false"])
def test_a_client_that_vanishes(server: httpx.Client, llm: LLM, stream: str) -> None:
    body = f'{{"prompt": "Once", "max_tokens": 200, "n": 2, "stream": {stream}}}'
    opened = connected(server, body)
    wait_for(lambda: llm.load().sequences_used == 2)
    time.sleep(0.05)
    steps = llm.load().total.steps
    opened.close()
    wait_for(lambda: idle(llm))
    assert llm.load().total.steps - steps <= 6, "it was computed on"  # 199 are left


def test_clients_that_vanish_while_they_wait(server: httpx.Client, llm: LLM) -> None:
    body = '{"prompt": "Once", "max_tokens": 200, "stream": true}'
    opened = [connected(server, body) for _ in range(12)]
    wait_for(lambda: llm.load().running + llm.load().waiting == 12)
    for each in opened:
        each.close()
    wait_for(lambda: idle(llm))
    assert server.post("/v1/completions", json=LONG | {"max_tokens": 2}).status_code == 200


def test_a_stream_that_is_left_by_the_library(server: httpx.Client, llm: LLM) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="none")
    with client.completions.create(model="m", stream=True, **LONG) as stream:
        next(iter(stream))
        assert llm.load().running == 1
    wait_for(lambda: idle(llm))


def test_a_turn_of_a_conversation_that_is_left(server: httpx.Client, llm: LLM) -> None:
    """It wasn't said; the conversation goes on."""
    number = server.post("/v1/conversations", json={}).json()["id"]
    asked = {"messages": [{"role": "user", "content": "Hi"}], "conversation": number}
    for stream in (True, False):
        body = json.dumps({**asked, "stream": stream, "max_tokens": 200})
        opened = connected(server, body, "/v1/chat/completions")
        wait_for(lambda: llm.load().running == 1)
        refused = server.post("/v1/chat/completions", json=asked)
        assert refused.status_code == 409
        opened.close()
        wait_for(lambda: llm.load().running == 0)

    def answered() -> bool:
        more = {**asked, "max_tokens": 2}
        return server.post("/v1/chat/completions", json=more).status_code == 200

    wait_for(answered)
    assert len(server.get(f"/v1/conversations/{number}/items").json()["data"]) == 2


def test_a_request_that_takes_too_long(llm: LLM) -> None:
    from motet.server.settings import ServerSettings

    with serving(lambda: llm, settings=ServerSettings(port=0, timeout=0.2)) as client:
        response = client.post("/v1/completions", json=LONG)
        assert response.status_code == 408
        assert response.json()["error"]["type"] == "timeout_error"
        text = client.post("/v1/completions", json=LONG | {"stream": True}).text
        *_, last = (line for line in text.split("\n\n") if line)
        assert '"error"' in last and "timeout_error" in last
        assert idle(llm)


def test_an_answer_that_the_end_of_the_server_cuts_off(server: httpx.Client, llm: LLM) -> None:
    threading.Timer(0.3, llm.close).start()
    response = server.post("/v1/completions", json=LONG)
    assert response.status_code == 503 and int(response.headers["retry-after"]) >= 1
    assert response.json()["error"]["type"] == "unavailable_error"


def test_a_queue_that_is_full() -> None:
    openai = pytest.importorskip("openai")
    with serving(lambda: tiny(max_sequences=1, max_waiting=1)) as client:
        prompts = ["Once"] * 9
        response = client.post("/v1/completions", json={"prompt": prompts, "max_tokens": 200})
        assert response.status_code == 400  # never would there be room
        streams = []
        opened = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="k", max_retries=0)
        with pytest.raises(openai.RateLimitError) as caught:
            for _ in range(9):
                streams.append(opened.completions.create(model="m", stream=True, **LONG))
        assert int(caught.value.response.headers["retry-after"]) >= 1
        assert caught.value.type == "rate_limit_error"
        for stream in streams:
            assert len("".join(chunk.choices[0].text for chunk in stream)) > 50


def test_pings_while_a_client_waits(
    server: httpx.Client, llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "PING_SECONDS", 0.05)
    decode = llm._engine._context.decode

    def slower(*given: Any, **more: Any) -> Any:
        time.sleep(0.2)
        return decode(*given, **more)

    llm._engine._context.decode = slower  # type: ignore[method-assign]
    body = LONG | {"max_tokens": 3, "stream": True}
    text = server.post("/v1/completions", json=body).text
    assert text.count(": wait\n\n") >= 3 and text.endswith("data: [DONE]\n\n")


def test_a_client_that_does_not_read(server: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It neither holds the engine nor keeps its answer for ever; others go on meanwhile."""
    monkeypatch.setattr(sse, "PING_SECONDS", 0.1)
    monkeypatch.setattr(sse, "STALL_SECONDS", 0.4)
    closed = threading.Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"data: " + b"x" * 65536 + b"\n\n"
        finally:
            closed.set()

    app: Any = _app_of(server)
    app.add_api_route("/endless", lambda: sse.event_stream(endless()))
    url = server.base_url
    opened = socket.create_connection((url.host, url.port or 80))
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    opened.sendall(f"GET /endless HTTP/1.1\r\nHost: {url.host}\r\n\r\n".encode())
    assert server.post("/v1/completions", json=LONG | {"max_tokens": 2}).status_code == 200
    assert closed.wait(10)
    opened.close()


def _app_of(server: httpx.Client) -> Any:
    return server._motet_app  # type: ignore[attr-defined]
