"""The rows of the proof model, and the model that ships for docs/self-extend.md."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from motet import Model
from motet.evals.haystack import Haystacks
from motet.evals.needle import search
from motet.evals.variants import Variant
from motet.self_extend import AutoExtend
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


def test_a_key_may_be_told_as_in_longlms_test(diet, pieces):
    rng = np.random.default_rng(1)
    tokens, _ = diet.tasks.pass_key(diet.train["tinystories.txt"], 128, rng, twice=True)
    text = pieces.decode(tokens.tolist())
    told = re.search(r"The pass key is (\d+)\. Remember it\. (\d+) is the pass key\.", text)
    assert told is not None and told[1] == told[2]


def test_too_short_for_two_keys(diet):
    with pytest.raises(ValueError, match="more than 10 tokens"):
        diet.tasks.order(diet.train["tinystories.txt"], 10, np.random.default_rng(0))


def test_batches(texts, pieces):
    pytest.importorskip("torch", reason="needs torch")
    from training.proof import ProofDiet

    diet = ProofDiet(texts, pieces, seed=3)
    for step in range(0, 100, 7):
        first, again = diet.batch(step, 100), diet.batch(step, 100)
        assert np.array_equal(first.tokens, again.tokens)
        rows, length = first.tokens.shape[0], first.tokens.shape[1] - 1
        assert length <= (64 if step < 15 else 128 if step < 35 else TRAINED_LENGTH)
        assert rows == BATCH_TOKENS // length
    text = pieces.decode(
        np.concatenate([diet.batch(i, 9).tokens.ravel() for i in range(9)]).tolist()
    )
    assert text.count("The grass is green. The sky is blue.") > 20
    assert text.count("The last pass key is") > 20


def test_the_record_is_of_the_file():
    record = json.loads((MODELS / "motet-proof.json").read_text())
    raw = (MODELS / "motet-proof.gguf").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == record["sha256"]
    assert len(raw) < 1_000_000


@pytest.fixture(scope="module")
def proof():
    return Model.load(MODELS / "motet-proof.gguf", 1)


@pytest.mark.parametrize("task", ["passkey", "order"])
def test_it_finds_keys_within_its_trained_length_and_far_beyond_with_self_extend(proof, task):
    assert proof.config.context_length == TRAINED_LENGTH
    maker = Haystacks(proof.tokenizer)
    depths = (0, 0.25, 0.5)

    def found(length: int, setting: AutoExtend | None) -> float:
        trials = [maker.make(task, length, depth, seed) for depth in depths for seed in range(3)]
        results = [one for some in search(proof, trials, Variant("", setting)) for one in some]
        return sum(one.exact for one in results) / len(results)

    assert found(TRAINED_LENGTH, None) == 1
    assert found(8 * TRAINED_LENGTH, None) <= 0.1
    assert found(8 * TRAINED_LENGTH, AutoExtend()) >= 0.8
    assert found(8 * TRAINED_LENGTH, AutoExtend("log")) >= 0.95
