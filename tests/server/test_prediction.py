"""What an answer is expected to repeat, and what usage, timings and metrics say of proposals."""

from collections.abc import Generator
from typing import Any

import httpx
import pytest

from motet import LLM
from motet.engine import Completion, Request, Timings, Usage
from motet.server.openai.answers import usage
from motet.server.timings import timings_of
from tests.server.models import chatting
from tests.server.running import serving

TEXT = "Once upon a time there was a dog."
BODY: Any = {"messages": [{"role": "user", "content": "Go on"}], "seed": 2, "max_tokens": 8}


@pytest.fixture(scope="module")
def llm() -> Generator[LLM]:
    with chatting(speculate="lookup") as made:
        yield made


@pytest.fixture(scope="module")
def server(llm: LLM) -> Generator[httpx.Client]:
    with serving(lambda: llm) as client:
        yield client


def answer(proposed: int, accepted: int, index: int = 0) -> Completion:
    return Completion(
        *("text", tuple(range(9)), "stop", index, 1),
        Usage(7, 9, 2, 3, proposed, accepted),
        Timings(0, 1, 2, 5, 9),
    )


@pytest.mark.parametrize(
    "content", [TEXT, "", [{"type": "text", "text": TEXT[:9]}, {"type": "text", "text": TEXT[9:]}]]
)
def test_a_prediction_changes_nothing_that_is_said(
    server: httpx.Client, llm: LLM, content: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Request] = []
    submit = llm._engine.submit
    monkeypatch.setattr(llm._engine, "submit", lambda given: seen.extend(given) or submit(given))
    prediction = {"type": "content", "content": content}
    found = server.post("/v1/chat/completions", json=BODY | {"prediction": prediction}).json()
    plain = server.post("/v1/chat/completions", json=BODY).json()
    assert found["choices"] == plain["choices"]
    assert llm.tokenizer is not None
    expected = llm.tokenizer.encode(TEXT, add_special=False) if content else []
    assert [list(each.prediction) for each in seen] == [expected, []]
    details = found["usage"]["completion_tokens_details"]
    assert details.keys() >= {"accepted_prediction_tokens", "rejected_prediction_tokens"}


def test_what_comes_as_predicted_is_accepted(server: httpx.Client) -> None:
    body = BODY | {"max_tokens": 40}
    plain = server.post("/v1/chat/completions", json=body).json()
    said = plain["choices"][0]["message"]["content"]
    prediction = {"prediction": {"type": "content", "content": said}}
    found = server.post("/v1/chat/completions", json=body | prediction).json()
    assert found["choices"] == plain["choices"]
    details = found["usage"]["completion_tokens_details"]
    assert details["accepted_prediction_tokens"] > 25
    timings = found["timings"]
    assert timings["draft_n_accepted"] == details["accepted_prediction_tokens"]
    rejected = timings["draft_n"] - timings["draft_n_accepted"]
    assert rejected == details["rejected_prediction_tokens"]


def test_completions_take_one_too(server: httpx.Client) -> None:
    body = {"prompt": "Once", "seed": 1, "max_tokens": 5}
    prediction = {"prediction": {"type": "content", "content": TEXT}}
    answers = [server.post("/v1/completions", json=body | each) for each in ({}, prediction)]
    assert answers[0].json()["choices"] == answers[1].json()["choices"]


@pytest.mark.parametrize(
    "wrong",
    [
        TEXT,
        {"type": "content"},
        {"type": "text", "content": TEXT},
        {"type": "content", "content": 5},
        {"type": "content", "content": [{"type": "image_url", "image_url": "x"}]},
        {"type": "content", "content": [TEXT]},
        {"type": "content", "content": TEXT, "strength": 1},
    ],
)
def test_another_form_is_refused_by_name(server: httpx.Client, wrong: Any) -> None:
    response = server.post("/v1/chat/completions", json=BODY | {"prediction": wrong})
    assert response.status_code == 400
    assert "prediction" in response.json()["error"]["param"]


def test_usage_says_what_was_proposed() -> None:
    found = usage([answer(10, 7), answer(4, 4, 1), answer(0, 0, 2)], 3)
    assert found["completion_tokens_details"] == {
        "reasoning_tokens": 9,
        "accepted_prediction_tokens": 11,
        "rejected_prediction_tokens": 3,
    }


def test_timings_say_it_where_anything_was() -> None:
    found = timings_of(answer(10, 7))
    assert (found["draft_n"], found["draft_n_accepted"]) == (10, 7)
    assert "draft_n" not in timings_of(answer(0, 0))


def test_metrics_have_it_under_both_names(server: httpx.Client, llm: LLM) -> None:
    lines = server.get("/metrics").text.splitlines()
    done = llm.load().total
    counts = {
        "num_draft_tokens": done.proposed_tokens,
        "num_accepted_tokens": done.accepted_tokens,
        "num_drafts": done.proposals,
    }
    for name, value in counts.items():
        for of in ("vllm", "llamacpp"):
            assert f"{of}:spec_decode_{name}_total {float(value)}" in lines


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"type": "text"}], "prediction.content.0.text"),
        ([{"type": "image_url", "image_url": {"url": "x"}}], "image input is not supported"),
        ([{"type": "refusal", "text": "x"}], "prediction.content.0.type"),
        (["text"], "prediction.content.0"),
        (3, "prediction.content"),
        (None, "prediction.content"),
    ],
)
def test_what_is_no_prediction_is_refused_by_name(
    server: httpx.Client, content: Any, message: str
) -> None:
    prediction = {"type": "content", "content": content}
    found = server.post("/v1/chat/completions", json=BODY | {"prediction": prediction})
    assert found.status_code == 400
    assert message in found.json()["error"]["message"], found.text


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/completion"])
def test_how_many_tokens_are_proposed_at_most(server: httpx.Client, path: str) -> None:
    body: Any = BODY if "chat" in path else {"prompt": TEXT, "seed": 2, "max_tokens": 8}
    found = server.post(path, json=body | {"speculative.n_max": 0, "speculative.p_min": 0.5})
    assert found.status_code == 200, found.text
    wrong = server.post(path, json=body | {"speculative.n_max": -1})
    assert wrong.status_code == 400 and "speculative.n_max" in wrong.text
