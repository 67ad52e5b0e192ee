"""The rows of the order model, and the model that ships for docs/self-extend.md."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from motet import Model
from motet.evals.haystack import Haystacks
from motet.evals.needle import Arm, search
from training.data import BATCH_TOKENS, TRAINED_LENGTH
from training.tasks import ANSWER_WEIGHT, KEY_DIGITS

MODELS = Path(__file__).parents[2] / "training" / "models"


@pytest.mark.parametrize("length", [100, 256])
def test_a_row_tells_two_keys_and_asks_for_the_last(diet, pieces, length):
    rng = np.random.default_rng(length)
    places = []
    for _ in range(40):
        tokens, weights = diet.tasks.order(diet.train["tinystories.txt"], length, rng)
        assert tokens.shape == weights.shape == (length + 1,)
        text = pieces.decode(tokens.tolist())
        told = re.findall(rf"The pass key is (\d{{{KEY_DIGITS}}})\. Remember it\.", text)
        asked = re.search(rf"The last pass key is (\d{{{KEY_DIGITS}}})", text)
        assert len(told) == 2 and asked is not None and asked[1] == told[1]
        answer = tokens[weights == ANSWER_WEIGHT]
        assert pieces.decode(answer.tolist()).strip() == told[1]
        places.append(text.index(told[0]))
    assert len(set(places)) > 10


def test_too_short_for_two_keys(diet):
    with pytest.raises(ValueError, match="more than 10 tokens"):
        diet.tasks.order(diet.train["tinystories.txt"], 10, np.random.default_rng(0))


def test_batches(texts, pieces):
    pytest.importorskip("torch", reason="needs torch")
    from training.order import OrderDiet

    diet = OrderDiet(texts, pieces, seed=3)
    for step in range(0, 100, 7):
        first, again = diet.batch(step, 100), diet.batch(step, 100)
        assert np.array_equal(first.tokens, again.tokens)
        rows, length = first.tokens.shape[0], first.tokens.shape[1] - 1
        assert length <= (64 if step < 15 else 128 if step < 35 else TRAINED_LENGTH)
        assert rows == BATCH_TOKENS // length


def test_the_record_is_of_the_file():
    record = json.loads((MODELS / "motet-order.json").read_text())
    raw = (MODELS / "motet-order.gguf").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == record["sha256"]
    assert len(raw) < 1_000_000


def test_it_tells_which_key_came_last():
    model = Model.load(MODELS / "motet-order.gguf", 1)
    assert model.config.context_length == TRAINED_LENGTH
    maker = Haystacks(model.tokenizer)
    trials = [maker.make("order", n, d, s) for n in (128, 256) for d in (0, 0.5) for s in range(5)]
    found = [one for some in search(model, trials, Arm("plain", None)) for one in some]
    assert sum(one.exact for one in found) >= 16
    assert sum(one.preferred for one in found) >= 16
