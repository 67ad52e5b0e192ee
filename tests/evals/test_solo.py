from dataclasses import replace

import numpy as np
import pytest

from motet.cli.demo import shipped_model
from motet.evals.solo import same, write
from motet.model import Model
from motet.sampling import Sampling

PROMPTS = ["Once upon a time", "The", "One day, a dog named Tim went to the park and said"]


@pytest.fixture(scope="module")
def model():
    return Model.load(shipped_model())


@pytest.mark.parametrize("sampling", [Sampling(seed=4), Sampling(temperature=0)])
def test_answers_are_the_same_alone(model, sampling):
    prompts = [model.tokenizer.encode(prompt) for prompt in PROMPTS]
    together = write(model, prompts, 20, sampling)
    for i, prompt in enumerate(prompts):
        alone = write(model, [prompt], 20, sampling)
        assert together.tokens[i] == alone.tokens[0]
        np.testing.assert_array_equal(together.logits[i], alone.logits[0])
        assert same(together, i, alone, 0)


def test_a_difference_shows(model):
    prompts = [model.tokenizer.encode(prompt) for prompt in PROMPTS]
    written = write(model, prompts, 5, Sampling(seed=4))
    assert not same(written, 0, written, 1)
    logits = [rows.copy() for rows in written.logits]
    logits[0][2, 7] = np.nextafter(logits[0][2, 7], np.inf)
    assert not same(written, 0, replace(written, logits=logits), 0)
