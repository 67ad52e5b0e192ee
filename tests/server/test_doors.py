"""Who may ask: keys, names, origins, methods, bodies."""

import re
from collections.abc import Generator
from typing import Any

import httpx
import pytest

from motet.server import security
from motet.server.settings import ServerSettings
from tests.server.models import tiny
from tests.server.running import serving

openai = pytest.importorskip("openai")

KEYS = ("sk-first", "schlüssel")
BODY: Any = {"prompt": "Once", "max_tokens": 1}


@pytest.fixture(scope="module")
def locked() -> Generator[httpx.Client]:
    settings = ServerSettings(
        port=0, api_keys=KEYS, origins=("https://chat.example",), body_bytes=1000
    )
    with serving(tiny, settings=settings) as client:
        yield client


@pytest.fixture(scope="module")
def server() -> Generator[httpx.Client]:
    with serving(tiny) as client:
        yield client


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer sk-first"}, 200),
        ({"authorization": "bearer  sk-first"}, 200),
        ({"X-Api-Key": "sk-first"}, 200),
        ({"X-Api-Key": "sk-first", "Authorization": "Bearer other"}, 200),
        ({"X-Api-Key": KEYS[1].encode()}, 200),
        ({"Authorization": "Bearer sk-firs"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "Basic sk-first"}, 401),
        ({"X-Api-Key": ""}, 401),
        ({"X-Api-Key": "\xff".encode("latin-1")}, 401),
    ],
)
def test_keys(locked: httpx.Client, headers: Any, status: int) -> None:
    response = locked.post("/v1/completions", json=BODY, headers=headers)
    assert response.status_code == status
    if status == 401:
        assert response.json()["error"]["type"] == "authentication_error"


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(security.hmac, "compare_digest", compare)
    with serving(tiny, settings=ServerSettings(port=0, api_keys=KEYS)) as client:
        for key in ("sk-first", "x" * 500):
            client.get("/v1/models", headers={"X-Api-Key": key})
    assert compared == [(32, 32)] * 4


def test_whether_it_is_up_is_no_secret(locked: httpx.Client) -> None:
    assert locked.get("/health").json() == {"status": "ok"}
    for path in ("/v1/models", "/metrics", "/docs", "/openapi.json", "/nothing"):
        assert locked.get(path).status_code == 401


def test_a_wrong_key_as_the_libraries_have_it(locked: httpx.Client) -> None:
    client = openai.OpenAI(base_url=f"{locked.base_url}/v1", api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as caught:
        client.completions.create(model="m", prompt="Once")
    assert caught.value.code == "invalid_api_key"
    response = locked.post("/v1/messages", json={})
    assert response.json()["error"]["type"] == "authentication_error"
    assert response.json()["type"] == "error"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("192.168.1.7:80", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("[::1", 403),
        ("", 403),
        ("a\xe9".encode("latin-1"), 403),
    ],
)
def test_names_that_lead_here(server: httpx.Client, host: Any, status: int) -> None:
    assert server.get("/health", headers={"Host": host}).status_code == status


def test_names_that_are_allowed() -> None:
    with serving(tiny, settings=ServerSettings(port=0, hosts=("motet.example",))) as client:
        assert client.get("/health", headers={"Host": "motet.example"}).status_code == 200
        assert client.get("/health", headers={"Host": "other.example"}).status_code == 403


def test_pages_of_other_origins(locked: httpx.Client, server: httpx.Client) -> None:
    for origin in ("https://evil.example", "null", "http://localhost:3000"):
        assert server.get("/health", headers={"Origin": origin}).status_code == 403
    here = str(server.base_url)
    response = server.get("/health", headers={"Origin": here})
    assert response.status_code == 200 and "access-control-allow-origin" not in response.headers
    preflight = {"Access-Control-Request-Method": "POST", "Origin": "https://chat.example"}
    assert (
        "access-control-allow-origin" not in server.options("/v1/models", headers=preflight).headers
    )
    allowed = locked.options("/v1/models", headers=preflight)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://chat.example"
    refused = locked.options("/v1/models", headers=preflight | {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in refused.headers
    told = locked.get("/v1/models", headers={"Origin": "https://chat.example"})
    assert told.status_code == 401 and "access-control-allow-origin" in told.headers


def test_methods(server: httpx.Client) -> None:
    head = server.head("/health")
    assert (head.status_code, head.content) == (200, b"") and head.headers["content-length"] == "15"
    for response, allowed in (
        (server.options("/v1/models"), "GET"),
        (server.get("/v1/completions"), "POST"),
        (server.put("/v1/completions", json=BODY), "POST"),
    ):
        assert response.status_code == 405 and response.headers["allow"] == allowed
        assert response.json()["error"]["type"] == "invalid_request_error"
    for path in ("/api/chat", "/api/generate"):
        missing = server.post(path, json={})
        assert missing.status_code == 404 and "/v1" in missing.json()["error"]["message"]
    assert "/v1" in server.get("/api/tags").json()["error"]["message"]
    missing = server.post("/v1/nothing", json={})
    assert missing.status_code == 404 and missing.json()["error"]["type"] == "not_found_error"


def test_large_bodies(locked: httpx.Client) -> None:
    key = {"X-Api-Key": "sk-first"}
    body = b'{"prompt": "%b", "max_tokens": 1}' % (b"a " * 600)

    def pieces() -> Generator[bytes]:
        yield from (body[i : i + 100] for i in range(0, len(body), 100))

    kind = {"Content-Type": "application/json"}
    for content in (body, pieces()):
        response = locked.post("/v1/completions", content=content, headers=key | kind)
        assert response.status_code == 413 and "1000 bytes" in response.json()["error"]["message"]
    assert locked.post("/v1/completions", json=BODY, headers=key).status_code == 200


def test_content_types(server: httpx.Client) -> None:
    content = b'{"prompt": "Once", "max_tokens": 1}'
    for kind, status in (
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/vnd.api+json", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("", 415),
    ):
        response = server.post("/v1/completions", content=content, headers={"Content-Type": kind})
        assert response.status_code == status, kind


def test_metrics(server: httpx.Client) -> None:
    server.post("/v1/completions", json=BODY)
    server.get("/made/up")
    lines = server.get("/metrics").text.splitlines()
    assert 'motet:http_requests_total{path="/v1/completions",status="200"}' in str(lines)
    assert 'path="other",status="404"' in str(lines) and "/made/up" not in str(lines)
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    for name in (
        "llamacpp:prompt_tokens_total",
        "llamacpp:tokens_predicted_total",
        "vllm:generation_tokens_total",
        'vllm:request_success_total{finished_reason="length"}',
        "vllm:time_to_first_token_seconds_count",
        "vllm:prefix_cache_queries_total",
    ):
        assert float(values[name]) > 0
    assert values["llamacpp:requests_processing"] == values["vllm:num_requests_running"] == "0.0"


def test_the_page_that_describes_it(server: httpx.Client) -> None:
    paths = server.get("/openapi.json").json()["paths"]
    assert {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/health"} <= paths.keys()
    page = server.get("/docs")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert "POST /v1/chat/completions" in page.text and 'id="ChatBody"' in page.text
    assert "<script" not in page.text and "https://" not in page.text  # it needs no network
    for linked in re.findall(r'href="#([^"]+)"', page.text):
        assert f'id="{linked}"' in page.text
