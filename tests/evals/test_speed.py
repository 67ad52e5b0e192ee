from typing import Any

import pytest

from motet.errors import OptionError
from motet.evals.speed import Speed, measure
from tests.evals.models import loaded
from tests.scripted import ScriptedModel


def test_every_length_and_every_number_of_sequences_is_measured():
    model: Any = ScriptedModel()
    speeds = list(measure(model, prompts=[4, 9], generate=3, parallel=[2, 1, 4], repeat=2))
    assert [(speed.test, speed.prompt, speed.sequences, speed.tokens) for speed in speeds] == [
        (test, prompt, sequences, tokens)
        for prompt in (4, 9)
        for test, sequences, tokens in [
            ("prefill", 1, prompt),
            ("decode", 1, 3),
            ("decode", 2, 6),
            ("decode", 4, 12),
        ]
    ]
    assert all(len(speed.seconds) == 2 and min(speed.seconds) > 0 for speed in speeds)
    assert {speed.weight_bytes for speed in speeds} == {0, 3 * model.bytes_per_token}
    lengths = [len(held) for held in model.made.memory.held]
    assert lengths == [9 + 3] * 4 + [9] * 4  # each sequence, and its prompt kept to go back to


def test_figures_of_one_measurement():
    speed = Speed("decode", 4, 64, 80, (2.0, 1.0, 4.0), 3000)
    assert speed.tokens_per_second == 40
    assert speed.spread == 1.5
    assert speed.bandwidth == 1500


def test_lengths_past_the_trained_one_are_refused():
    model: Any = ScriptedModel()
    with pytest.raises(OptionError, match=r"100 tokens and 29 .* make 129, .* trained for 128"):
        measure(model, prompts=[4, 100], generate=29, parallel=[1], repeat=1)


@pytest.mark.parametrize("name", ["mamba", "jamba"])
def test_recurrent_models(name):
    speeds = list(measure(loaded(name), prompts=[70], generate=2, parallel=[3], repeat=1))
    assert [(speed.test, speed.sequences) for speed in speeds] == [("prefill", 1), ("decode", 3)]


def test_without_attention_prompts_may_be_longer_than_the_training():
    speeds = measure(loaded("mamba"), prompts=[300], generate=2, parallel=[1], repeat=1)
    assert [speed.prompt for speed in speeds] == [300, 300]
