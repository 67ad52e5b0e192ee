"""Measurements beyond the trained length: with Self-Extend alone, and as far as it reaches."""

from dataclasses import replace

import numpy as np
import pytest

from motet.errors import CapacityError, OptionError, UnsupportedError
from motet.evals.hellaswag import hellaswag
from motet.evals.perplexity import perplexity
from motet.evals.speed import measure
from motet.evals.tasks import Task
from motet.model import Model
from motet.self_extend import AutoExtend, SelfExtend
from tests.evals.models import loaded
from tests.models import tiny

SETTING = SelfExtend(4, 16)
TRAINED = 64
REACH = 208


@pytest.fixture
def model() -> Model:
    shipped = Model.load(loaded("motet-tiny").file.path, 1)
    shipped.config = replace(shipped.config, context_length=TRAINED)
    return shipped


TOKENS = np.random.default_rng(0).integers(3, 1000, 500).tolist()
TASK = Task(1, "the cat sat on the mat and " * 12, 0, ("ran", "slept a while", "ate", "was sad"))


def test_perplexity(model):
    *_, result = perplexity(model, TOKENS, ctx=REACH, self_extend=SETTING)
    assert result.tokens == 2 * (REACH - REACH // 2 - 1)
    *_, other = perplexity(model, TOKENS, ctx=REACH, self_extend=SETTING, parallel=2, batch=77)
    assert other == result
    context = model.context(self_extend=SETTING)
    assert context.memory.context_length == REACH
    with pytest.raises(OptionError, match=r"trained for 64 .*--self-extend auto"):
        perplexity(model, TOKENS, ctx=65)
    with pytest.raises(OptionError, match=r"209 tokens is beyond .* reaches: 208"):
        perplexity(model, TOKENS, ctx=REACH + 1, self_extend=SETTING)


def test_within_the_trained_length_auto_changes_nothing(model):
    assert list(perplexity(model, TOKENS, ctx=TRAINED, self_extend="auto")) == list(
        perplexity(model, TOKENS, ctx=TRAINED)
    )
    window = list(perplexity(model, TOKENS, ctx=TRAINED, self_extend=SETTING))
    assert window != list(perplexity(model, TOKENS, ctx=TRAINED))


def test_hellaswag(model):
    count = len(model.tokenizer.encode(TASK.context))
    assert TRAINED < count < REACH
    *_, result = hellaswag(model, [TASK, TASK], self_extend=SETTING)
    assert len(set(result.answers[0].scores)) == 4
    assert list(hellaswag(model, [TASK], self_extend=SETTING, batch=9))[-1].answers == (
        result.answers[0],
    )
    with pytest.raises(CapacityError, match=r"context is 64 tokens .*--self-extend auto"):
        hellaswag(model, [TASK])
    with pytest.raises(CapacityError, match="context is 96 tokens"):
        hellaswag(model, [TASK], self_extend=SelfExtend(2, 32))


@pytest.mark.parametrize("setting", [SETTING, AutoExtend()])
def test_speed(model, setting):
    speeds = list(
        measure(model, prompts=[200], generate=8, parallel=[1, 2], repeat=1, self_extend=setting)
    )
    assert [(speed.test, speed.sequences) for speed in speeds] == [
        ("prefill", 1),
        ("decode", 1),
        ("decode", 2),
    ]


def test_speed_beyond_the_reach(model):
    options = {"generate": 8, "parallel": [1], "repeat": 1}
    with pytest.raises(OptionError, match=r"trained for 64 .*--self-extend auto"):
        measure(model, prompts=[200], **options)
    with pytest.raises(OptionError, match=r"make 209, but Self-Extend reaches 208"):
        measure(model, prompts=[201], **options, self_extend=SETTING)


@pytest.mark.parametrize("architecture", ["mamba", "jamba", "rwkv6"])
def test_models_without_positions(tmp_path, architecture):
    model = tiny.load(tmp_path, architecture)
    with pytest.raises(UnsupportedError, match="Self-Extend groups positions"):
        perplexity(model, [1] * 100, ctx=50, self_extend="auto")
    with pytest.raises(UnsupportedError, match="Self-Extend groups positions"):
        measure(model, prompts=[9], generate=1, parallel=[1], repeat=1, self_extend=SETTING)
