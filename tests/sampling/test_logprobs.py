import math

import numpy as np
import pytest

from motet.sampling import token_logprob, token_logprobs


def test_log_probabilities_by_hand():
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])).astype(np.float32) + 3
    got = token_logprobs(logits, np.array([0, 2]))
    assert got == pytest.approx([math.log(0.5), math.log(0.7)], abs=1e-6)


def test_large_logits_do_not_overflow():
    logits = np.array([[1e30, 1e30, 0]], np.float32)
    assert token_logprobs(logits, np.array([1])) == pytest.approx([-math.log(2)])


def test_the_most_probable_come_first_and_equal_ones_by_id():
    logits = np.array([1.0, 3.0, 2.0, 3.0, -math.inf], np.float32)
    got = token_logprob(logits, 2, top=3)
    assert got.token == 2
    assert [token for token, _ in got.top] == [1, 3, 2]
    assert got.logprob == got.top[2][1]
    total = sum(math.exp(value) for _, value in token_logprob(logits, 0, top=5).top)
    assert total == pytest.approx(1.0)


def test_no_alternatives_unless_asked():
    assert token_logprob(np.zeros(4, np.float32), 1, top=0).top == ()
