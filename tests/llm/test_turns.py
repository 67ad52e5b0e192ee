"""Chats of three turns that are edited on the way, on memory that goes back to checkpoints alone:
how much is computed again, and that the answers are those of a fresh start."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest

from motet import LLM, Model
from tests.models.tiny import metadata, write
from tests.server.running import serving
from tests.tokenizer.vocabularies import bpe_metadata

ARCHITECTURES = ("mamba2", "jamba", "rwkv6", "granitehybrid", "falcon-h1", "nemotron_h")
ARCHITECTURES += ("lfm2", "lfm2moe", "qwen35", "rwkv7", "kimi-linear")
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
SYSTEM = {"role": "system", "content": "Be brief, and say what is so."}
QUESTIONS = ("What is in the box?", "Who put it in there?", "And when was that?")
LETTERS = "[b-df-gi-k]{12}"
"""What answers are: no two of them are one token."""
SEED = 3

Messages = list[dict[str, str]]


class Said(NamedTuple):
    """An answer, and what its usage says."""

    answer: str
    prompt: int
    cached: int


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory):
    @cache
    def make(architecture: str) -> Model:
        keys = metadata(architecture, context_length=1000) | bpe_metadata()
        keys["tokenizer.chat_template"] = TEMPLATE
        return Model.load(write(tmp_path_factory.mktemp("turns") / "m.gguf", keys), 1)

    return make


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def check_turns(ask: Callable[[Messages], Said], model: Model) -> None:
    """What is reused reaches to the end of what was computed, or else to where a message begins or
    a prompt's last token stands; nothing before that is computed again."""

    def length(messages: Messages, begun: str = "") -> int:
        assert model.tokenizer is not None
        said = "".join(f"[{m['role']}] {m['content']}\n" for m in messages)
        return len(model.tokenizer.encode(said + begun))

    messages: Messages = [SYSTEM]
    cached: list[int] = []
    for question in QUESTIONS:
        messages.append(user(question))
        said = ask(messages)
        cached.append(said.cached)
        messages.append({"role": "assistant", "content": said.answer})
    # Of an answer all is held but the token chosen last.
    assert cached == [0, length(messages[:3]) - 2, length(messages[:5]) - 2]
    again = ask(messages[:-1])
    assert again.cached == again.prompt - 1
    for kept, question in ((5, "Why?"), (3, "Was it you?"), (1, "Is there a box?")):
        edited = ask([*messages[:kept], user(question)])
        assert edited.cached == length(messages[:kept], "[user] ")
    back = ask(messages[:-1])
    assert back.cached == back.prompt - 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_three_turns_and_edits(models, architecture: str) -> None:
    model = models(architecture)
    asked: Any = {"max_tokens": 12, "regex": LETTERS, "logprobs": 2, "seed": SEED}
    with (
        LLM(model, max_sequences=4, ubatch=64) as llm,
        LLM(model, max_sequences=1, prefix_reuse=False) as fresh,
    ):

        def ask(messages: Messages) -> Said:
            found, expected = (each.chat(messages, **asked) for each in (llm, fresh))
            assert (found.text, found.tokens) == (expected.text, expected.tokens)
            assert found.logprobs == expected.logprobs
            assert expected.usage.cached_tokens == 0
            return Said(found.text, found.usage.prompt_tokens, found.usage.cached_tokens)

        check_turns(ask, model)


@pytest.mark.parametrize(
    "architecture", ["granitehybrid", "lfm2", "qwen35", "rwkv7", "kimi-linear"]
)
def test_a_server_says_so(models, architecture: str) -> None:
    model = models(architecture)
    with (
        serving(lambda: LLM(model, max_sequences=4)) as client,
        LLM(model, prefix_reuse=False) as fresh,
    ):

        def ask(messages: Messages) -> Said:
            body = {"messages": messages, "max_tokens": 12, "guided_regex": LETTERS, "seed": SEED}
            found = client.post("/v1/chat/completions", json=body).json()
            text, usage = found["choices"][0]["message"]["content"], found["usage"]
            assert text == fresh.chat(messages, max_tokens=12, regex=LETTERS, seed=SEED).text
            cached = usage["prompt_tokens_details"]["cached_tokens"]
            assert found["timings"]["cache_n"] == cached
            return Said(text, usage["prompt_tokens"], cached)

        check_turns(ask, model)
