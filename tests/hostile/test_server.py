"""What a server must outlive: nonsense at every level is refused quickly, and it serves on."""

import json
import random
import socket
import time
from collections.abc import Generator
from typing import Any

import httpx
import pytest

from motet import LLM
from motet.server.settings import ServerSettings
from tests.server.models import chatting, embedding
from tests.server.running import serving

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
JSON = {"Content-Type": "application/json"}
GOOD: dict[str, Any] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2},
    "/v1/completions": {"prompt": "Once", "max_tokens": 2},
    "/v1/embeddings": {"input": "Once"},
}
DEEP = "[" * 100_000 + "]" * 100_000
NESTED = '{"a":' * 900 + "1" + "}" * 900
"""As deep as Python's own parser reads."""


@pytest.fixture(scope="module")
def llm() -> Generator[LLM]:
    with chatting(max_waiting=64) as made:
        yield made


@pytest.fixture(scope="module")
def server(llm: LLM) -> Generator[httpx.Client]:
    settings = ServerSettings(port=0, body_bytes=1 << 21)
    with serving(lambda: llm, embedding, settings=settings) as client:
        yield client


@pytest.fixture(autouse=True)
def _serves_on(server: httpx.Client, llm: LLM) -> Generator[None]:
    """After each test it answers, and nothing is left of what came before."""
    yield
    for path in PATHS:
        assert server.post(path, json=GOOD[path]).status_code == 200
    assert llm.load().running == llm.load().waiting == 0


def refused(server: httpx.Client, path: str, content: str | bytes) -> str:
    """The message with which a body is refused, which takes no time."""
    begun = time.monotonic()
    response = server.post(path, content=content, headers=JSON)
    assert time.monotonic() - begun < 10
    assert 400 <= response.status_code < 500, response.text
    said = response.json()["error"]["message"]
    assert 0 < len(said) < 2000 and "Traceback" not in said
    return said


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"{}",
        b'{"model"',
        b"\xff\xfe\x00",
        b'{"model": "\xc3\x28"}',
        b"\xef\xbb\xbf{}",
        b"NaN",
        b"1e999",
        b"9" * 100_000,
        b'{"seed": ' + b"9" * 5000 + b"}",
        DEEP.encode(),
        DEEP.replace("[", "{").encode(),
        b'{"model": "a\x00b"}',
    ],
)
def test_bodies(server: httpx.Client, path: str, content: bytes) -> None:
    refused(server, path, content)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "value",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1e308",
        "9" * 4000,
        '"\\ud800"',
        '"\\udfff\\ud800"',
        "[[[[]]]]",
        "[null]",
        "[{}]",
        "{}",
        '{"": ""}',
        "true",
        '"' + "x " * 50_000 + '"',
        NESTED,
        "[" + ",".join(["{}"] * 20_000) + "]",
        "[" + ",".join(['"a"', "1"] * 20_000) + "]",
        json.dumps({str(i): i for i in range(50_000)}),
    ],
)
def test_values_of_every_field(server: httpx.Client, path: str, value: str) -> None:
    """Each field with a value that it was not made for: refused by name, or of no effect."""
    document = server.get("/openapi.json").json()
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    fields = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"]
    for name in (*fields, "user", "metadata", "never_heard_of"):
        if name == "stream":
            continue
        body = {key: json.dumps(each) for key, each in GOOD[path].items()} | {name: value}
        text = "{" + ",".join(f"{json.dumps(key)}:{each}" for key, each in body.items()) + "}"
        begun = time.monotonic()
        response = server.post(path, content=text, headers=JSON)
        assert response.status_code < 500 or response.status_code == 501, (name, response.text)
        assert len(response.content) < 20_000
        assert time.monotonic() - begun < 10, name


@pytest.mark.parametrize(
    "message",
    [
        '{"role": "user", "content": "\\ud800"}',
        '{"role": "\\ud800", "content": "a"}',
        '{"role": "user", "content": "a", "\\ud800": 1}',
        '{"role": "user", "content": "a", "name": "\\ud800"}',
        '{"role": "user", "content": "a", "name": NaN}',
        f'{{"role": "user", "content": "a", "name": {NESTED}}}',
        '{"role": "user", "content": [{"type": "text", "text": "\\udc00"}]}',
        '{"role": "user", "content": [{"type": "text"}]}',
        '{"role": "user", "content": [{"type": "\\udc00"}]}',
        '{"role": "user", "content": null}',
        '{"role": "", "content": "a"}',
        '{"content": "a"}',
        "[]",
        "null",
    ],
)
@pytest.mark.parametrize("stream", ["true", "false"])
def test_messages(server: httpx.Client, message: str, stream: str) -> None:
    text = f'{{"messages": [{message}], "max_tokens": 2, "stream": {stream}}}'
    response = server.post("/v1/chat/completions", content=text, headers=JSON)
    assert response.status_code in (200, 400), response.text
    assert '"error"' not in response.text or response.status_code == 400


def test_wrong_items_are_not_all_counted(server: httpx.Client) -> None:
    many = ",".join(["1"] * 500_000)
    for field in ("messages", "tools", "stop"):
        text = f'{{"messages": [{{"role": "user", "content": "a"}}], "{field}": [{many}]}}'
        refused(server, "/v1/chat/completions", text)
    keys = ",".join(f'"{number}": 1' for number in range(100_000))
    assert "256 fields" in refused(server, "/v1/completions", f"{{{keys}}}")


def test_mutated_requests(server: httpx.Client) -> None:
    numbers = random.Random(5)
    for _ in range(300):
        path = numbers.choice(PATHS)
        body = bytearray(json.dumps(GOOD[path]).encode())
        for _ in range(numbers.randint(1, 4)):
            place = numbers.randrange(len(body))
            if numbers.random() < 0.5:
                body[place] = numbers.randrange(256)
            else:
                del body[place : place + numbers.randint(1, 5)]
            if not body:
                body = bytearray(b"{}")
        response = server.post(path, content=bytes(body), headers=JSON)
        assert response.status_code in (200, 400), (bytes(body), response.text)


def test_text_that_looks_like_markup(server: httpx.Client) -> None:
    for text in (
        "{{ 7 * 7 }}",
        "{% raw %}",
        "</s><s>",
        "\x00\x01",
        "\r\n\r\ndata: x\n\n",
        "\u2028",
    ):
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 1, "stream": True}
        lines = server.post("/v1/chat/completions", json=body).text.split("\n\n")
        assert lines[-2:] == ["data: [DONE]", ""]
        assert all(line.startswith("data: ") for line in lines[:-1])


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET " + b"/x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 50_000 + b"\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n{}",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 500\r\n\r\n{",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/models/..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /health HTTP/1.0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_what_is_hardly_http(server: httpx.Client, sent: bytes) -> None:
    url = server.base_url
    with socket.create_connection((url.host, url.port or 80), timeout=5) as opened:
        opened.sendall(sent)
        opened.settimeout(0.3)
        try:
            answer = opened.recv(65536)
        except (TimeoutError, ConnectionError):
            answer = b""  # it waits for the rest, or has hung up
    assert b" 200 " not in answer[:20] and b" 500 " not in answer[:20] and b"root:" not in answer


def test_headers_without_an_end(server: httpx.Client) -> None:
    url = server.base_url
    for piece in (b"A: b\r\n" * 1000, b"x" * 6000):
        with socket.create_connection((url.host, url.port or 80), timeout=5) as opened:
            opened.sendall(b"GET /health HTTP/1.1\r\nA: ")
            with pytest.raises(ConnectionError):
                for _ in range(1000):
                    opened.sendall(piece)
                    time.sleep(0.001)


def test_connections_that_say_nothing(server: httpx.Client) -> None:
    url = server.base_url
    opened = [socket.create_connection((url.host, url.port or 80)) for _ in range(200)]
    for each in opened[::2]:
        each.sendall(b"POST /v1/completions HTTP/1.1\r\n")
    assert server.get("/health").status_code == 200
    for each in opened:
        each.close()


def test_models_of_made_up_names(server: httpx.Client) -> None:
    for name in ("../../etc/passwd", "%00", "a" * 5000, "%ff", "%ed%a0%80", "{}"):
        response = server.get(f"/v1/models/{name}")
        assert response.status_code in (400, 404)
        assert len(response.content) < 1000


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("part", ["[]", "{}"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_great_many_lists_and_objects(
    server: httpx.Client, path: str, part: str, chunked: bool
) -> None:
    text = b'{"user":[' + b",".join([part.encode()] * 500_000) + b"]}"
    content = iter([text[:100], text[100:]]) if chunked else text
    response = server.post(path, content=content, headers=JSON)
    assert response.status_code == 413 and "500000 '['" in response.text, response.text


STOPS = [f"z{i}" for i in range(257)]
BIASES = dict.fromkeys(range(100_001), 1)


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v1/completions", {"prompt": ["a"] * 100_000}, "answers in one call"),
        ("/v1/completions", {"prompt": "a", "stop": STOPS}, "stop strings"),
        ("/completion", {"prompt": "a", "stop": STOPS}, "stop strings"),
        (
            "/v1/completions",
            {"prompt": "a", "logit_bias": BIASES},
            "bias",
        ),
        ("/completion", {"prompt": "a", "logit_bias": BIASES}, "bias"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "a"}] * 10_001},
            "messages",
        ),
    ],
)
def test_more_than_anybody_means(
    server: httpx.Client, path: str, body: dict[str, Any], said: str
) -> None:
    assert said in refused(server, path, json.dumps(body))


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"POST /v1/completions HTTP/1.1\r\nHost: a",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{",
    ],
)
def test_requests_whose_rest_does_not_come(
    server: httpx.Client, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motet.server.protocol.PATIENCE", 0.2)
    url = server.base_url
    with socket.create_connection((url.host, url.port or 80), timeout=20) as opened:
        opened.sendall(begun)
        assert opened.recv(100) == b""
