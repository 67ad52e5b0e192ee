"""llama-server's other endpoints: tokens, templates, vectors, ranks, properties, infilling."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import motet
from motet import LLM
from motet.server.llama.infill import infill_prompt
from motet.server.settings import ServerSettings
from tests.models import readers
from tests.server.models import chatting, embedding
from tests.server.running import serving

TEXT = "Once upon a tïme"


@pytest.fixture(scope="module")
def llm() -> Generator[LLM]:
    with chatting() as made:
        yield made


@pytest.fixture(scope="module")
def server(llm: LLM) -> Generator[httpx.Client]:
    settings = ServerSettings(port=0, template_options={"mood": "glad"})
    with serving(lambda: llm, embedding, settings=settings) as client:
        yield client


def ask(server: httpx.Client, path: str, **body: Any) -> Any:
    response = server.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_tokens_and_back(server: httpx.Client, llm: LLM) -> None:
    tokenizer = llm.tokenizer
    assert tokenizer is not None
    plain = tokenizer.encode(TEXT, add_special=False)
    assert ask(server, "/tokenize", content=TEXT)["tokens"] == plain
    assert ask(server, "/tokenize", content=TEXT, add_special=True)["tokens"] == (
        tokenizer.encode(TEXT)
    )
    pieces = ask(server, "/tokenize", content=TEXT, with_pieces=True)["tokens"]
    assert [each["id"] for each in pieces] == plain
    said = b"".join(
        p.encode() if isinstance(p := each["piece"], str) else bytes(p) for each in pieces
    )
    assert said.decode().strip() == TEXT
    assert ask(server, "/detokenize", tokens=plain)["content"].strip() == TEXT
    assert server.post("/detokenize", json={"tokens": [10**6]}).status_code == 400


def test_a_chat_as_text(server: httpx.Client) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    assert ask(server, "/apply-template", messages=messages)["prompt"] == "user: Hi\nassistant:"
    closed = ask(server, "/apply-template", messages=messages, add_generation_prompt=False)
    assert closed["prompt"] == "user: Hi\n"


def test_how_long_a_chat_is(server: httpx.Client, llm: LLM) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    count = ask(server, "/v1/chat/completions/input_tokens", messages=messages)["input_tokens"]
    assert count == len(llm.chat_prompt(messages))


def test_template_options_of_the_server_and_of_the_request() -> None:
    settings = ServerSettings(port=0, template_options={"mood": "glad", "pace": "slow"})
    with serving(lambda: chatting("{{ mood }} {{ pace }}"), settings=settings) as client:
        messages = [{"role": "user", "content": "Hi"}]
        told = ask(client, "/apply-template", messages=messages)
        assert told["prompt"] == "glad slow"
        options = {"pace": "fast"}
        told = ask(client, "/apply-template", messages=messages, chat_template_kwargs=options)
        assert told["prompt"] == "glad fast"


def test_a_thought_that_is_not_wanted_ends_at_once() -> None:
    template = "{{ messages[0].content }}{% if add_generation_prompt %}<think>\n{% endif %}"
    with serving(lambda: chatting(template + "{# </think> #}")) as client:
        asked: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
        assert ask(client, "/apply-template", **asked)["prompt"] == "Hi<think>\n"
        asked["chat_template_kwargs"] = {"enable_thinking": False}
        assert ask(client, "/apply-template", **asked)["prompt"] == "Hi<think>\n</think>"
        closed = ask(client, "/apply-template", **asked, add_generation_prompt=False)
        assert closed["prompt"] == "Hi"


def test_what_a_server_does_not_tell() -> None:
    settings = ServerSettings(port=0, slots=False, metrics=False)
    with serving(chatting, settings=settings) as client:
        assert client.get("/slots").status_code == client.get("/metrics").status_code == 501


def test_vectors(server: httpx.Client) -> None:
    with embedding() as model:
        expected = model.embed([TEXT, "dog"])
        plain = model.embed(TEXT, normalize=False)[0]
    answer = ask(server, "/embedding", content=[TEXT, "dog"])
    assert [each["index"] for each in answer] == [0, 1]
    np.testing.assert_array_equal([each["embedding"][0] for each in answer], expected)
    for p, length in ((-1, None), (0, np.abs(plain).max()), (1, np.abs(plain).sum())):
        vector = ask(server, "/embeddings", input=TEXT, embd_normalize=p)[0]["embedding"][0]
        np.testing.assert_allclose(vector, plain if length is None else plain / length, rtol=1e-6)


def test_properties(server: httpx.Client, llm: LLM) -> None:
    props = server.get("/props").json()
    assert props["total_slots"] == llm.max_sequences
    assert props["default_generation_settings"]["n_ctx"] == llm.max_tokens
    assert props["default_generation_settings"]["params"]["temperature"] == llm.sampling.temperature
    assert props["model_path"] == llm.model.name and "assistant" in props["chat_template"]
    assert server.get("/lora-adapters").json() == []


def test_a_model_that_ranks_nothing_and_fills_in_nothing(server: httpx.Client) -> None:
    for path in ("/v1/rerank", "/rerank", "/reranking", "/v1/reranking"):
        response = server.post(path, json={"query": "a", "documents": ["b"]})
        assert response.status_code == 501 and "ranks no documents" in response.text
    response = server.post("/infill", json={"input_prefix": "a", "input_suffix": "b"})
    assert response.status_code == 501 and "no token for the prefix" in response.text
    bad = {"input_prefix": "a", "input_suffix": "b", "input_extra": [{"filename": 1}]}
    assert server.post("/infill", json=bad).status_code == 400


def test_ranks(tmp_path: Path) -> None:
    file = readers.bert(tmp_path, labels=1)
    documents = ["hello", "the un able", "abc.", ""]
    with LLM(file) as model:
        scores = model.rank("the hello", documents).tolist()
    order = sorted(range(4), key=lambda place: -scores[place])
    with serving(lambda: LLM(file)) as client:
        asked: dict[str, Any] = {"query": "the hello", "documents": documents}
        answer = ask(client, "/v1/rerank", **asked)
        assert [each["index"] for each in answer["results"]] == order
        assert [each["relevance_score"] for each in answer["results"]] == [scores[i] for i in order]
        assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 12
        best = ask(client, "/v1/rerank", **asked, top_n=1, return_documents=True)["results"]
        assert [each["document"]["text"] for each in best] == [documents[order[0]]]
        tei = ask(client, "/rerank", query="the hello", texts=documents, return_text=True, top_n=2)
        assert tei == [{"index": i, "score": scores[i], "text": documents[i]} for i in order[:2]]
        for wrong in ([], None, 123, [1, 2]):
            response = client.post("/rerank", json={"query": "x", "documents": wrong})
            assert response.status_code == 400


def test_the_prompt_of_models_that_fill_in(llm: LLM) -> None:
    """The tiny model has no such tokens; here the file names some."""
    tokenizer = llm.tokenizer
    assert tokenizer is not None
    model = motet.Model.load(llm.model.file.path)
    model.file.metadata.update(  # pyright: ignore[reportAttributeAccessIssue]
        {
            f"tokenizer.ggml.fim_{part}_token_id": i
            for i, part in enumerate(("pre", "suf", "mid"), 5)
        }
    )

    def text(said: str) -> list[int]:
        return tokenizer.encode(said, add_special=False)

    ids = infill_prompt(model, "before", "after", "mid", [("name", "extra")])
    marked = [*text("extra"), 5, *text("before"), 6, *text("after"), 7, *text("mid")]
    assert ids == [*tokenizer.prefix, *marked]
