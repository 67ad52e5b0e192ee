"""Prefix reuse on every kind of memory: the same bits as without it."""

from typing import Any

import numpy as np
import pytest

from motet.llm import LLM
from tests.models import tiny

ARCHITECTURES = ["llama", "deepseek2", "gemma3", "mamba", "mamba2", "jamba", "rwkv6", "rwkv7"]
ARCHITECTURES += ["qwen35", "kimi-linear", "nemotron_h_moe", "falcon-h1", "lfm2moe", "gpt-oss"]
ARCHITECTURES += ["gemma4"]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request, tmp_path_factory):
    return tiny.load(tmp_path_factory.mktemp("models"), request.param)


def prompts(count: int) -> list[list[int]]:
    """Some begin alike, some begin as others go on, some are the same."""
    rng = np.random.default_rng(1)
    common = rng.integers(0, tiny.VOCAB, 90).tolist()
    made = [[*common[: rng.integers(1, 90)], *rng.integers(0, 40, 9).tolist()] for _ in range(9)]
    made += [[*made[i], *rng.integers(0, 40, 5).tolist()] for i in range(6)]
    return [made[i] for i in rng.integers(0, len(made), count)]


def ask(llm: LLM, prompt: Any) -> Any:
    return llm.generate(prompt, max_tokens=12, logprobs=2, seed=4)


def test_every_bit_is_the_same_with_and_without(model):
    asked = prompts(24)
    with LLM(model, max_sequences=1, prefix_reuse=False) as plain:
        expected = [ask(plain, prompt) for prompt in asked]
    with LLM(model, max_sequences=3, ubatch=16) as llm:
        answers = ask(llm, asked)
        answers += [ask(llm, prompt) for prompt in asked]
    for answer, alone in zip(answers, expected * 2, strict=True):
        assert answer.tokens == alone.tokens
        assert answer.logprobs == alone.logprobs
    assert sum(answer.usage.cached_tokens for answer in answers) > 500


def test_the_same_prompt_again_computes_one_token(model):
    """And one that begins alike goes on from where an earlier one was seen to part from it."""
    prompt = prompts(1)[0] * 2
    other = [*prompt[:-9], *([1] * 9)]
    with LLM(model, max_sequences=4) as llm:
        reused = [ask(llm, p).usage.cached_tokens for p in (prompt, prompt, other, other)]
        third = [*prompt[:-9], 2, 3]
        reused.append(ask(llm, third).usage.cached_tokens)
    last = len(prompt) - 1
    assert reused[:2] == [0, last]
    assert reused[3:] == [last, len(prompt) - 9]
