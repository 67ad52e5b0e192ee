import re

import numpy as np
import pytest

from training.data import BATCH_TOKENS, CURRICULUM, SOURCES
from training.tasks import ANSWER_WEIGHT, KEY_DIGITS


def test_shares_are_whole():
    for phase in CURRICULUM:
        assert phase.text + phase.pass_key + phase.recall == pytest.approx(1)
    assert sum(SOURCES.values()) == pytest.approx(1)


def test_digits_are_one_token_each(pieces):
    ids = pieces.encode(" 58219.")
    assert [pieces.id_to_piece(i) for i in ids][-6:] == ["5", "8", "2", "1", "9", "."]
    assert not any(pieces.is_byte(i) for i in ids)


@pytest.mark.parametrize("length", [48, 100, 256])
@pytest.mark.parametrize("depth", [None, 0.0, 0.4, 1.0])
def test_pass_key_row_tells_and_asks_one_key(diet, pieces, length, depth):
    rng = np.random.default_rng(length)
    tokens, weights = diet.tasks.pass_key(diet.train["tinystories.txt"], length, rng, depth)
    assert tokens.shape == weights.shape == (length + 1,)
    text = pieces.decode(tokens.tolist())
    keys = re.findall(rf"The pass key is (\d{{{KEY_DIGITS}}})\.", text)
    assert len(keys) == 2 and keys[0] == keys[1]
    assert text.index("Remember it.") < text.index("What is the pass key?")
    answer = tokens[weights == ANSWER_WEIGHT]
    assert pieces.decode(answer.tolist()).strip() == keys[0]


def test_pass_key_prompt_is_what_encoding_its_text_gives(diet, pieces):
    rng = np.random.default_rng(5)
    for _ in range(20):
        tokens, weights = diet.tasks.pass_key(diet.train["tinystories.txt"], 200, rng)
        prompt = tokens[: np.flatnonzero(weights == ANSWER_WEIGHT)[-1] + 1]
        assert pieces.encode(pieces.decode(prompt.tolist())) == prompt[1:].tolist()


def test_too_short_for_a_key(diet):
    with pytest.raises(ValueError, match="more than 10 tokens"):
        diet.tasks.pass_key(diet.train["tinystories.txt"], 10, np.random.default_rng(0))


def test_recall_scores_only_what_was_said_before(diet):
    rng = np.random.default_rng(2)
    for _ in range(50):
        tokens, weights = diet.tasks.recall(96, rng)
        scored = np.flatnonzero(weights)
        assert len(scored) >= 7
        before = " ".join(map(str, tokens[1 : scored[0] + 1]))
        assert f" {tokens[scored[0] - 1]} {tokens[scored[0]]} " in f" {before} " or len(scored) > 40


def test_batches_depend_on_seed_and_step_alone(diet):
    first, again = diet.batch(7, 100), diet.batch(7, 100)
    assert np.array_equal(first.tokens, again.tokens)
    assert np.array_equal(first.weights, again.weights)
    other = diet.batch(8, 100)
    assert first.tokens.shape != other.tokens.shape or not np.array_equal(
        first.tokens, other.tokens
    )


def test_curriculum_lengthens_rows_and_keeps_their_tokens(diet, pieces):
    for step in range(0, 100, 3):
        tokens = diet.batch(step, 100).tokens
        rows, length = tokens.shape[0], tokens.shape[1] - 1
        assert length <= (64 if step < 10 else 128 if step < 20 else 256)
        assert rows == BATCH_TOKENS // length
        assert (tokens[:, 0] == pieces.bos_id()).all()
