"""/v1/embeddings."""

from collections.abc import Generator
from typing import Any

import httpx
import numpy as np
import pytest

from motet import LLM
from motet.server.settings import ServerSettings
from tests.server.models import embedding, tiny
from tests.server.running import serving

openai = pytest.importorskip("openai")

TEXTS = ["A dog barks.", "Rates rose.", "One day, a boy went to the park to play."]


@pytest.fixture(scope="module")
def llm() -> Generator[LLM]:
    with embedding() as made:
        yield made


@pytest.fixture(scope="module")
def server(llm: LLM) -> Generator[httpx.Client]:
    with serving(lambda: llm) as client:
        yield client


def test_vectors_are_the_models(server: httpx.Client, llm: LLM) -> None:
    client = openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="none")
    expected = llm.embed(TEXTS)
    found = client.embeddings.create(model="any", input=TEXTS)  # base64, decoded by the library
    assert np.array_equal(np.array([each.embedding for each in found.data], np.float32), expected)
    plain = client.embeddings.create(model="any", input=TEXTS, encoding_format="float")
    assert np.array_equal(np.array([each.embedding for each in plain.data], np.float32), expected)
    assert [each.index for each in found.data] == [0, 1, 2]
    assert llm.tokenizer is not None
    tokens = sum(len(llm.tokenizer.encode(text)) for text in TEXTS)
    assert found.usage.prompt_tokens == found.usage.total_tokens == tokens


def test_one_text_and_token_ids(server: httpx.Client, llm: LLM) -> None:
    assert llm.tokenizer is not None
    ids = [llm.tokenizer.encode(text) for text in TEXTS]
    expected = llm.embed(TEXTS)
    for given, rows in ((TEXTS[0], expected[:1]), (ids[0], expected[:1]), (ids, expected)):
        data = server.post("/v1/embeddings", json={"input": given}).json()["data"]
        assert np.array_equal(np.array([each["embedding"] for each in data], np.float32), rows)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"input": []}, "not empty"),
        ({"input": [1, None]}, "input"),
        ({"input": 5}, "text, token ids"),
        ({"dimensions": 7}, "dimensions is 7"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"input": "a " * 5000}, "truncate_prompt_tokens: -1"),
        ({"input": ["a"] * 2049}, "2049"),
        ({"input": [-1]}, "-1"),
        ({"input": [[5], [5, 99999]]}, "text 1 has token 99999"),
        ({"input": [99999]}, "check_embedding_ctx_length=False"),
        ({"input": [True, 10**400]}, "text 0 has token 1000"),
        ({"other": 1}, "does not know"),
    ],
)
def test_what_is_refused(server: httpx.Client, more: dict, said: str) -> None:
    response = server.post("/v1/embeddings", json={"input": "a"} | more)
    assert response.status_code == 400, response.text
    assert said in response.json()["error"]["message"]


def test_lengths_that_fit(server: httpx.Client, llm: LLM) -> None:
    width = llm.model.config.d_model
    body: Any = {"input": "a " * 5000, "truncate_prompt_tokens": -1, "dimensions": width}
    data = server.post("/v1/embeddings", json=body).json()["data"]
    assert len(data[0]["embedding"]) == width


def test_models_with_and_without_vectors() -> None:
    with serving(tiny) as client:
        response = client.post("/v1/embeddings", json={"input": "a"})
        assert response.status_code == 501 and "--embeddings" in response.json()["error"]["message"]
    settings = ServerSettings(port=0, aliases=("writer",))
    with serving(tiny, embedding, settings=settings) as client:
        answer = client.post("/v1/embeddings", json={"input": "a"}).json()
        assert answer["model"] == "writer" or answer["model"].startswith("motet")
        assert client.post("/v1/completions", json={"prompt": "a"}).status_code == 200


def test_forms_of_llama_server(server: httpx.Client, llm: LLM) -> None:
    parts = {"content": [{"type": "text", "text": "A dog "}, {"type": "text", "text": "barks."}]}
    given = [TEXTS[0], {"prompt_string": TEXTS[0]}, parts]
    data = server.post("/v1/embeddings", json={"input": given}).json()["data"]
    assert data[0]["embedding"] == data[1]["embedding"] == data[2]["embedding"]
    mixed = server.post("/v1/embeddings", json={"input": [5, 6, "text", 7]})
    assert mixed.status_code == 200 and len(mixed.json()["data"]) == 1
    for wrong in ({"content": "text"}, {"content": [{"type": "image_url"}]}, {"a": 1}):
        assert server.post("/v1/embeddings", json={"input": wrong}).status_code in (400, 501)
