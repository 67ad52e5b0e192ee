"""What a model's file recommends is the default, and what a caller says comes before it."""

import logging

import pytest

from motet import LLM, Model, Sampling
from motet.cli.demo import shipped_model
from motet.sampling.recommended import recommended


def test_nothing_recommended_is_the_default():
    assert recommended({"general.name": "x"}) == Sampling()


def test_keys_become_fields(caplog):
    keys = {
        "general.sampling.temp": 0.5,
        "general.sampling.top_k": 20,
        "general.sampling.top_p": 0.75,
        "general.sampling.min_p": 0.0,
        "general.sampling.penalty_repeat": 1.25,
        "general.sampling.penalty_last_n": 32,
        "general.sampling.mirostat": 2,
    }
    with caplog.at_level(logging.INFO, "motet"):
        found = recommended(keys)
    assert found == Sampling(
        temperature=0.5,
        top_k=20,
        top_p=0.75,
        min_p=0.0,
        repeat_penalty=1.25,
        repeat_last_n=32,
    )
    assert "general.sampling.mirostat is 2" in caplog.text


@pytest.mark.parametrize(("key", "value"), [("temp", -1.0), ("top_k", "many"), ("top_p", 1.5)])
def test_what_cannot_be_is_left_out(key, value, caplog):
    found = recommended({f"general.sampling.{key}": value, "general.sampling.min_p": 0.5})
    assert found == Sampling(min_p=0.5)
    assert f"general.sampling.{key} is not used" in caplog.text


def test_an_llm_samples_as_its_model_recommends():
    model = Model.load(shipped_model())
    model.file.metadata["general.sampling.temp"] = 0.0  # pyright: ignore
    with LLM(model) as llm:
        assert llm.sampling.temperature == 0
        greedy = llm.generate("Once", max_tokens=8)
        assert greedy.text == llm.generate("Once", max_tokens=8, temperature=0).text
        warm = [llm.generate("Once", max_tokens=8, temperature=2.0, seed=s) for s in range(4)]
        assert any(each.text != greedy.text for each in warm)
        assert llm.generate("Once", Sampling(seed=1), max_tokens=8).usage.completion_tokens == 8
