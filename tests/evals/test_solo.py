from dataclasses import replace

import numpy as np
import pytest

from motet.evals.solo import generate, same
from motet.sampling import Sampling
from tests.evals.models import MODELS, loaded

PROMPTS = ["Once upon a time", "The", "One day, a dog named Tim went to the park and said"]


@pytest.mark.parametrize("sampling", [Sampling(seed=4), Sampling(temperature=0)])
@pytest.mark.parametrize("name", MODELS)
def test_answers_are_the_same_alone(name, sampling):
    model = loaded(name)
    prompts = [model.tokenizer.encode(prompt) for prompt in PROMPTS]
    together = generate(model, prompts, 20, sampling)
    for i, prompt in enumerate(prompts):
        alone = generate(model, [prompt], 20, sampling)
        assert together.tokens[i] == alone.tokens[0]
        np.testing.assert_array_equal(together.logits[i], alone.logits[0])
        assert same(together, i, alone, 0)


def test_a_difference_shows():
    model = loaded("motet-tiny")
    prompts = [model.tokenizer.encode(prompt) for prompt in PROMPTS]
    answers = generate(model, prompts, 5, Sampling(seed=4))
    assert not same(answers, 0, answers, 1)
    logits = [rows.copy() for rows in answers.logits]
    logits[0][2, 7] = np.nextafter(logits[0][2, 7], np.inf)
    assert not same(answers, 0, replace(answers, logits=logits), 0)
