"""/v1/completions, by OpenAI's own library, by hand, and as lm-evaluation-harness reads it."""

import json
from collections.abc import Generator
from typing import Any

import httpx
import pytest

from motet import LLM
from tests.server.models import tiny
from tests.server.running import serving

openai = pytest.importorskip("openai")

PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def llm() -> Generator[LLM]:
    with tiny() as made:
        yield made


@pytest.fixture(scope="module")
def server(llm: LLM) -> Generator[httpx.Client]:
    with serving(lambda: llm) as client:
        yield client


def ask(server: httpx.Client, **body: Any) -> Any:
    response = server.post("/v1/completions", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_it_answers_as_the_model_does(server: httpx.Client, llm: LLM) -> None:
    client = openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="none")
    answer = client.completions.create(model="any", prompt=PROMPT, seed=4)
    alone = llm.generate(PROMPT, seed=4, max_tokens=16)
    assert answer.choices[0].text == alone.text and answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 16 and answer.object == "text_completion"
    stream = client.completions.create(model="any", prompt=PROMPT, seed=4, stream=True)
    chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == alone.text
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["length"]


def test_usage_in_each_event(server: httpx.Client) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"prompt": [PROMPT, "The dog"], "stream": True, "stream_options": options}
    lines = server.post("/v1/completions", json=body).text.split("\n\n")
    *parts, last = [json.loads(line.removeprefix("data: ")) for line in lines if "{" in line]
    counts = [part["usage"]["completion_tokens"] for part in parts]
    assert counts == sorted(counts) and counts[0] == 1
    assert last["usage"] == {**last["usage"], **parts[-1]["usage"]} and last["choices"] == []


def test_prompts_of_every_form(server: httpx.Client, llm: LLM) -> None:
    assert llm.tokenizer is not None
    texts = [PROMPT, "The dog"]
    ids = [llm.tokenizer.encode(text) for text in texts]
    asked: Any = {"temperature": 0, "max_tokens": 5}
    alone = [each.text for each in llm.generate(texts, temperature=0, max_tokens=5)]
    for prompt, expected in (
        (texts, alone),
        (ids, alone),
        ([texts[0], ids[1]], alone),
        (ids[1], alone[1:]),
        (texts[1], alone[1:]),
    ):
        answer = ask(server, prompt=prompt, **asked)
        assert [choice["text"] for choice in answer["choices"]] == expected
        assert [choice["index"] for choice in answer["choices"]] == list(range(len(expected)))


def test_several_answers_to_several_prompts(server: httpx.Client, llm: LLM) -> None:
    prompts = [PROMPT, "The dog"]
    answer = ask(server, prompt=prompts, seed=1, max_tokens=4, n=2, best_of=2)
    alone = llm.generate(prompts, seed=1, max_tokens=4, n=2)
    assert [choice["text"] for choice in answer["choices"]] == [each.text for each in alone]
    assert answer["usage"]["completion_tokens"] == 16
    assert answer["usage"]["prompt_tokens"] == sum(each.usage.prompt_tokens for each in alone[::2])


def test_stop_strings_and_biases(server: httpx.Client, llm: LLM) -> None:
    whole = ask(server, prompt=PROMPT, temperature=0, max_tokens=20)["choices"][0]["text"]
    word = whole.split()[2]
    cut = ask(server, prompt=PROMPT, temperature=0, max_tokens=20, stop=[word, "\n\n"])
    assert cut["choices"][0] == {
        "index": 0,
        "text": whole[: whole.index(word)],
        "logprobs": None,
        "finish_reason": "stop",
    }
    token = llm.generate(PROMPT, temperature=0, max_tokens=1).tokens[0]
    other = ask(server, prompt=PROMPT, temperature=0, max_tokens=1, logit_bias={str(token): -100})
    assert not whole.startswith(other["choices"][0]["text"])


def test_echo_and_log_probabilities(server: httpx.Client, llm: LLM) -> None:
    """As lm-evaluation-harness reads them: the last token is what was generated."""
    assert llm.tokenizer is not None
    context, whole = llm.tokenizer.encode(PROMPT), llm.tokenizer.encode(PROMPT + " there was")
    body = {
        "prompt": [whole, context],
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": 1,
        "echo": True,
    }
    choices = ask(server, **body, seed=1234, model="x")["choices"]
    alone = llm.generate([whole, context], temperature=0, max_tokens=1, logprobs=1, echo=True)
    for choice, completion, ids in zip(choices, alone, (whole, context), strict=True):
        found = choice["logprobs"]
        assert len({len(found[name]) for name in found}) == 1
        assert completion.prompt_logprobs is not None
        expected = [each and each.logprob for each in completion.prompt_logprobs]
        assert found["token_logprobs"][:-1] == expected
        assert found["token_logprobs"][0] is found["top_logprobs"][0] is None
        assert all(len(top) == 1 for top in found["top_logprobs"][1:])
        assert len(found["tokens"]) == len(ids) + 1
        assert choice["text"] == completion.text
    found = choices[0]["logprobs"]
    scored = zip(
        found["token_logprobs"][len(context) : -1],
        found["top_logprobs"][len(context) : -1],
        strict=True,
    )
    assert all(value <= max(top.values()) for value, top in scored)
    offsets, tokens = found["text_offset"], found["tokens"]
    assert offsets == [sum(map(len, tokens[:i])) for i in range(len(tokens))]


def test_scoring_alone(server: httpx.Client, llm: LLM) -> None:
    body: Any = {"prompt": PROMPT, "max_tokens": 0, "logprobs": 2, "echo": True}
    choice = ask(server, **body)["choices"][0]
    assert choice["text"] == PROMPT and choice["finish_reason"] == "length"
    assert len(choice["logprobs"]["tokens"]) == llm.generate(PROMPT).usage.prompt_tokens


def test_a_stream_with_log_probabilities(server: httpx.Client) -> None:
    body: Any = {"prompt": [PROMPT, "The"], "temperature": 0, "max_tokens": 4, "logprobs": 2}
    whole = ask(server, **body)["choices"]
    with server.stream("POST", "/v1/completions", json=body | {"stream": True}) as response:
        lines = [line[6:] for line in response.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    parts: list[list[Any]] = [[], []]
    for line in lines:
        choice = json.loads(line)["choices"][0]
        parts[choice["index"]].append(choice["logprobs"])
    for choice, found in zip(whole, parts, strict=True):
        assert {name: [x for part in found for x in part[name]] for name in found[0]} == choice[
            "logprobs"
        ]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"prompt": []}, "not empty"),
        ({"prompt": {"a": 1}}, "text, token ids"),
        ({"prompt": None}, "missing"),
        ({"prompt": [[]]}, "prompt 0 is empty"),
        ({"prompt": [1, "a"]}, "list with"),
        ({"prompt": [True]}, "list with"),
        ({"prompt": [10**9]}, "1000000000"),
        ({"prompt": [10**30]}, "1000000"),
        ({"prompt": ["a", 5]}, "5 at 1"),
        ({"best_of": 3}, "best_of is 3"),
        ({"suffix": "end"}, "/infill"),
        ({"max_tokens": -2}, "max_tokens"),
        ({"n": 0}, "n: "),
        ({"n": 99}, "99 answers"),
        ({"logprobs": 21}, "logprobs"),
        ({"stream": True, "echo": True, "logprobs": 1}, "echoes"),
        ({"logit_bias": {"5000": 1}}, "5000"),
        ({"stop": [""]}, "stop"),
        ({"stop": [1]}, "stop"),
        ({"seed": 1.5}, "seed"),
        ({"temperature": 1e300}, "temperature"),
    ],
)
def test_what_is_refused(server: httpx.Client, more: dict, said: str) -> None:
    response = server.post("/v1/completions", json={"prompt": PROMPT, "max_tokens": 2} | more)
    assert response.status_code == 400, response.text
    assert said in response.json()["error"]["message"]
