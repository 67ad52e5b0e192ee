"""/completion: llama-server's own form, for the model that is shipped."""

import json
from collections.abc import Generator
from typing import Any

import httpx
import numpy as np
import pytest

from motet import LLM, Completion, Sampling
from motet.sampling import TokenLogprob
from motet.server.llama.answers import shares_of
from tests.server.models import tiny
from tests.server.running import serving

PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def llm() -> Generator[LLM]:
    with tiny(max_tokens=128) as made:
        yield made


@pytest.fixture(scope="module")
def server(llm: LLM) -> Generator[httpx.Client]:
    with serving(lambda: llm) as client:
        yield client


def ask(server: httpx.Client, **body: Any) -> Any:
    response = server.post("/completion", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def refusal(server: httpx.Client, **body: Any) -> str:
    response = server.post("/completion", json=body)
    assert response.status_code == 400, response.text
    return response.json()["error"]["message"]


def streamed(server: httpx.Client, **body: Any) -> list[Any]:
    text = server.post("/completion", json={**body, "stream": True}).text
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


def alone(llm: LLM, prompt: Any, **options: Any) -> Completion:
    return llm.generate(prompt, **options)


def test_it_says_what_llama_servers_clients_read(server: httpx.Client, llm: LLM) -> None:
    answer = ask(server, prompt=PROMPT, n_predict=8, seed=3, return_tokens=True)
    same = alone(llm, PROMPT, max_tokens=8, seed=3)
    assert answer["content"] == same.text and answer["tokens"] == list(same.tokens)
    assert answer["stop"] and answer["stop_type"] == "limit" and answer["stopping_word"] == ""
    assert answer["tokens_predicted"] == answer["timings"]["predicted_n"] == 8
    assert answer["tokens_evaluated"] == same.usage.prompt_tokens
    assert answer["prompt"].endswith(PROMPT) and not answer["truncated"]
    settings = answer["generation_settings"]
    assert settings["seed"] == 3 and settings["n_predict"] == 8 and settings["logit_bias"] == []
    assert ask(server, prompt=PROMPT, n_predict=8, seed=3)["tokens"] == []


def test_a_stream_says_the_same(server: httpx.Client, llm: LLM) -> None:
    *pieces, last = streamed(server, prompt=PROMPT, n_predict=8, seed=3, timings_per_token=True)
    same = alone(llm, PROMPT, max_tokens=8, seed=3)
    assert "".join(piece["content"] for piece in pieces) == same.text
    assert [token for piece in pieces for token in piece["tokens"]] == list(same.tokens)
    assert not any(piece["stop"] for piece in pieces)
    assert [piece["timings"]["predicted_n"] for piece in pieces] == list(range(1, 9))
    assert last["stop"] and last["content"] == "" and last["stop_type"] == "limit"


def test_how_much_of_the_prompt_is_done(server: httpx.Client) -> None:
    events = streamed(server, prompt="dog " * 60, n_predict=1, return_progress=True)
    seen = [event["prompt_progress"] for event in events if "prompt_progress" in event]
    assert seen[0]["processed"] == seen[0]["cache"] and seen[-1]["processed"] == seen[-1]["total"]
    assert [each["processed"] for each in seen] == sorted({each["processed"] for each in seen})


def test_a_prompt_that_fails_while_it_is_watched(server: httpx.Client) -> None:
    response = server.post(
        "/completion", json={"prompt": "dog " * 500, "stream": True, "return_progress": True}
    )
    assert response.status_code == 400 and "exceeds the available context size" in response.text


def test_prompts_of_every_form(server: httpx.Client, llm: LLM) -> None:
    assert llm.tokenizer is not None
    ids = llm.tokenizer.encode(PROMPT)
    options: dict[str, Any] = {"temperature": 0, "n_predict": 4}
    expected = alone(llm, PROMPT, temperature=0, max_tokens=4).text
    for prompt in (PROMPT, ids, {"prompt_string": PROMPT}, [PROMPT]):
        assert ask(server, prompt=prompt, **options)["content"] == expected
    answers = ask(server, prompt=[PROMPT, ids, {"prompt_string": PROMPT}], **options)
    assert [each["content"] for each in answers] == [expected] * 3
    assert [each["index"] for each in answers] == [0, 1, 2]
    mixed = [*ids, " and", ids[-1]]
    spelt = llm.tokenizer.encode(" and", add_special=False)
    assert ask(server, prompt=mixed, **options)["tokens_evaluated"] == len(ids) + len(spelt) + 1


@pytest.mark.parametrize("prompt", [[], None, 1.5, [[]], [None], [{"text": "x"}], {}, [True]])
def test_what_is_no_prompt(server: httpx.Client, prompt: Any) -> None:
    assert refusal(server, prompt=prompt)


def test_several_answers(server: httpx.Client, llm: LLM) -> None:
    answers = ask(server, prompt=PROMPT, n_predict=4, n=2, seed=5)
    same: Any = llm.generate(PROMPT, max_tokens=4, n=2, seed=5)
    assert [each["content"] for each in answers] == [each.text for each in same]


def test_what_ended_it(server: httpx.Client, llm: LLM) -> None:
    text = alone(llm, PROMPT, temperature=0, max_tokens=12).text
    word = text.split()[2]
    answer = ask(server, prompt=PROMPT, temperature=0, n_predict=12, stop=["zzz", word])
    assert answer["stop_type"] == "word" and answer["stopping_word"] == word
    assert answer["content"] == text[: text.index(word)]
    full = ask(server, prompt=PROMPT, temperature=0, n_predict=-1, ignore_eos=True)
    assert full["truncated"] and full["stop_type"] == "limit"
    assert full["tokens_evaluated"] + full["tokens_predicted"] == 128
    assert {each["bias"] for each in full["generation_settings"]["logit_bias"]} == {None}


def test_probabilities_of_the_model(server: httpx.Client, llm: LLM) -> None:
    asked: dict[str, Any] = {"prompt": PROMPT, "n_predict": 3, "n_probs": 4, "temperature": 0}
    answer = ask(server, **asked)
    same = alone(llm, PROMPT, max_tokens=3, temperature=0, logprobs=4)
    assert same.logprobs is not None
    for said, row in zip(answer["completion_probabilities"], same.logprobs, strict=True):
        assert (said["id"], said["logprob"]) == (row.token, row.logprob)
        assert [(each["id"], each["logprob"]) for each in said["top_logprobs"]] == list(row.top)
        assert bytes(said["bytes"]).decode() == said["token"]
    pieces = streamed(server, **asked)[:-1]
    assert [piece["completion_probabilities"][0] for piece in pieces] == answer[
        "completion_probabilities"
    ]


def test_more_probabilities_than_anybody_reads(server: httpx.Client) -> None:
    assert "1000" in refusal(server, prompt=PROMPT, n_probs=1001)


def test_probabilities_of_what_was_drawn_from(server: httpx.Client) -> None:
    asked: dict[str, Any] = {"prompt": PROMPT, "n_predict": 6, "n_probs": 50, "seed": 1}
    answer = ask(server, **asked, post_sampling_probs=True, temperature=1.5)
    for said in answer["completion_probabilities"]:
        assert said["prob"] == {each["id"]: each["prob"] for each in said["top_probs"]}[said["id"]]
        assert sum(each["prob"] for each in said["top_probs"]) == pytest.approx(1)
    message = refusal(server, **asked, post_sampling_probs=True, repeat_penalty=1.2)
    assert "post_sampling_probs" in message


def test_they_are_those_of_the_logits(llm: LLM) -> None:
    """Of the most probable tokens alone, what the whole row gives."""
    assert llm.tokenizer is not None
    logits = np.random.default_rng(0).normal(0, 2, 300)
    logprobs = logits - np.log(np.exp(logits).sum())
    order = np.argsort(-logprobs)[:20]
    row = TokenLogprob(
        int(order[0]),
        float(logprobs[order[0]]),
        tuple(zip(order.tolist(), logprobs[order].tolist(), strict=True)),
    )
    shares = shares_of(row, Sampling(top_k=20, top_p=1, min_p=0, temperature=2), llm.tokenizer)
    expected = np.exp(logits[order] / 2)
    np.testing.assert_allclose(list(shares.values()), expected / expected.sum())


def test_biases_of_every_form(server: httpx.Client, llm: LLM) -> None:
    assert llm.tokenizer is not None
    first = alone(llm, PROMPT, temperature=0, max_tokens=1)
    token = first.tokens[0]
    text = llm.tokenizer.piece(token).decode()
    banned: list[Any] = [[[token, False]], [[token, -100]], {str(token): -100}, [[text, -100]]]
    for bias in banned:
        answer = ask(server, prompt=PROMPT, temperature=0, n_predict=1, logit_bias=bias)
        assert answer["content"] != first.text
    for bias in (5, [5], [[token]], [[token, "x"]], [[True, 1]]):
        assert "logit_bias" in refusal(server, prompt=PROMPT, logit_bias=bias)


def test_sampling_that_there_is_not_must_be_off(server: httpx.Client) -> None:
    off = {"mirostat": 0, "mirostat_tau": 5.0, "dry_multiplier": 0, "xtc_probability": 0.0}
    off |= {"dynatemp_range": 0, "top_n_sigma": -1, "min_keep": 0, "t_max_predict_ms": 0}
    ask(server, prompt=PROMPT, n_predict=1, lora=[], n_keep=3, cache_prompt=False, **off)
    on = {"mirostat": 2, "dry_multiplier": 0.8, "xtc_probability": 0.5, "dynatemp_range": 0.1}
    on |= {"top_n_sigma": 2, "t_max_predict_ms": 5, "n_indent": 2, "lora": [{"id": 0}], "what": 1}
    for name, value in on.items():
        assert name in refusal(server, prompt=PROMPT, **{name: value})


def test_samplers_that_are_left_out_are_off(server: httpx.Client, llm: LLM) -> None:
    answer = ask(server, prompt=PROMPT, seed=2, n_predict=6, samplers=["top_k", "temperature"])
    same = alone(llm, PROMPT, seed=2, max_tokens=6, top_p=1, min_p=0, typical_p=1)
    assert answer["content"] == same.text
    assert "order" in refusal(server, prompt=PROMPT, samplers=["temperature", "top_k"])
    assert "infill" in refusal(server, prompt=PROMPT, samplers=["infill"])


def test_fields_that_are_picked(server: httpx.Client) -> None:
    fields = ["content", "generation_settings/n_predict", "no/such", "prompt"]
    answer = ask(server, prompt=PROMPT, n_predict=2, response_fields=fields)
    assert answer.keys() == {"content", "generation_settings/n_predict", "prompt"}
    assert answer["generation_settings/n_predict"] == 2


def test_the_servers_own_length(llm: LLM) -> None:
    from motet.server.settings import ServerSettings

    with serving(tiny, settings=ServerSettings(port=0, max_tokens=3)) as client:
        assert ask(client, prompt=PROMPT)["tokens_predicted"] <= 3
        assert ask(client, prompt=PROMPT, n_predict=5, ignore_eos=True)["tokens_predicted"] == 5
        assert (
            client.get("/props").json()["default_generation_settings"]["params"]["n_predict"] == 3
        )
