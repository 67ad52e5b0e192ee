"""Each step against the plainest way to write it: sort everything, walk along it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.sampling import steps
from motet.sampling.steps import Candidates


def rows(size, seed, spread=4.0, levels=None):
    values = np.random.default_rng(seed).normal(0, spread, size).astype(np.float32)
    if levels:  # few distinct values, so that ties matter
        values = np.round(values * levels) / levels
    return Candidates(np.arange(size), values)


def by_hand_order(keys):
    return sorted(range(len(keys)), key=lambda i: (-float(keys[i]), i))


def by_hand_prefix(order, weights, share):
    total, reached, kept = math.fsum(weights), 0.0, []
    for index in order:
        kept.append(index)
        reached += weights[index]
        if reached >= share * total:
            break
    return kept


many = settings(max_examples=60, deadline=None)
sizes = st.sampled_from([1, 2, 7, 300, 5000, 9000])
seeds = st.integers(0, 10**6)


@many
@given(sizes, seeds, st.integers(1, 600), st.sampled_from([None, 1, 4]))
def test_largest_is_the_start_of_the_whole_order(size, seed, k, levels):
    values = rows(size, seed, levels=levels).logits
    assert steps.largest(values, k).tolist() == by_hand_order(values)[:k]


def test_largest_with_banned_tokens():
    values = np.full(9000, -np.inf, np.float32)
    values[[8999, 17]] = 1.0
    assert steps.largest(values, 3).tolist() == [17, 8999, 0]


@many
@given(sizes, seeds, st.floats(0, 1), st.sampled_from([None, 2]))
def test_top_p(size, seed, p, levels):
    candidates = rows(size, seed, levels=levels)
    expected = by_hand_prefix(by_hand_order(candidates.logits), candidates.weights(), p)
    got = steps.top_p(candidates, p).ids.tolist()
    # The two sums round apart: at the very edge one may take a token more.
    assert abs(len(got) - len(expected)) <= (1 if size > 7 else 0)
    assert got[: len(expected)] == expected[: len(got)]


@many
@given(sizes, seeds, st.floats(0, 1))
def test_typical(size, seed, p):
    candidates = rows(size, seed)
    probability = candidates.weights() / candidates.weights().sum()
    surprise = -np.log(probability)
    entropy = float((probability * surprise).sum())
    distance = np.abs(surprise - entropy)
    got = steps.typical(candidates, p).ids
    assert len(set(got.tolist())) == len(got)
    rest = np.setdiff1d(candidates.ids, got)
    if len(rest):
        assert distance[got].max() <= distance[rest].min() + 1e-9
    assert probability[got].sum() >= p - 1e-9
    assert probability[got[:-1]].sum() < p + 1e-9


@many
@given(sizes, seeds, st.floats(0.001, 1))
def test_min_p(size, seed, p):
    candidates = rows(size, seed)
    probability = candidates.weights() / candidates.weights().sum()
    got = set(steps.min_p(candidates, p).ids.tolist())
    clear = np.abs(probability / (p * probability.max()) - 1) > 1e-5
    expected = probability >= p * probability.max()
    for token in np.flatnonzero(clear):
        assert (token in got) == expected[token]
    assert int(np.argmax(candidates.logits)) in got


def test_typical_keeps_the_surprising_over_the_obvious():
    """A distribution where the most probable token is the least typical one."""
    logits = np.log(np.array([0.4] + [0.6 / 60] * 60)).astype(np.float32)
    kept = steps.typical(Candidates(np.arange(61), logits), 0.3)
    assert 0 not in kept.ids


def test_steps_survive_banned_tokens():
    logits = np.array([-np.inf, 1.0, -np.inf, 0.5], np.float32)
    for step in (steps.typical, steps.top_p, steps.min_p):
        kept = step(Candidates(np.arange(4), logits), 0.9)
        assert set(kept.ids.tolist()) <= {1, 3}


@pytest.mark.parametrize("temperature", [1e-30, 0.5, 2.0, 1e30])
def test_temperature_scales_without_overflow(temperature):
    logits = np.array([90.0, 88.0, -np.inf], np.float32)
    tempered = steps.temper(Candidates(np.arange(3), logits), temperature)
    ratio = tempered.weights()[1]
    assert ratio == pytest.approx(math.exp(-min(2.0 / temperature, 700)), abs=1e-300)
    assert tempered.weights()[2] == 0


def test_draw_follows_the_probabilities():
    logits = np.array([math.log(0.5), -math.inf, math.log(0.3), math.log(0.2)], np.float32)
    candidates = Candidates(np.array([10, 11, 12, 13]), logits)
    expected = [(0.0, 10), (0.49, 10), (0.51, 12), (0.79, 12), (0.81, 13), (1 - 2**-53, 13)]
    assert [steps.draw(candidates, u) for u, _ in expected] == [token for _, token in expected]


def test_draw_of_many_is_the_distribution():
    candidates = rows(20, 3, spread=1.0)
    uniforms = np.random.default_rng(0).random(20_000)
    counts = np.bincount([steps.draw(candidates, u) for u in uniforms], minlength=20)
    probability = candidates.weights() / candidates.weights().sum()
    chi_square = ((counts - 20_000 * probability) ** 2 / (20_000 * probability)).sum()
    assert chi_square < 43.8  # 99.9 % of chi-square with 19 degrees of freedom


def test_penalties_by_hand():
    logits = np.array([2.0, -1.0, 0.5, 3.0], np.float32)
    steps.penalize(logits, [0, 1, 0, 0], repeat=2.0, frequency=0.25, presence=0.5)
    assert logits.tolist() == [2 / 2 - 3 * 0.25 - 0.5, -1 * 2 - 0.25 - 0.5, 0.5, 3.0]


def test_bias_by_hand():
    logits = np.array([2.0, -1.0, 0.5], np.float32)
    steps.bias(logits, {1: 4.0, 2: -math.inf})
    assert logits.tolist() == [2.0, 3.0, -math.inf]
