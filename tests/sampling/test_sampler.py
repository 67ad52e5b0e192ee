import math
from dataclasses import replace

import numpy as np
import pytest

from motet.errors import NumericalError, OptionError
from motet.sampling import Sampler, Sampling
from motet.sampling.randomness import random_numbers

NEUTRAL = Sampling(top_k=0, top_p=1.0, min_p=0.0, temperature=1.0)


def row(*values):
    return np.array(values, np.float32)


def noise(seed, size=3000):
    return np.random.default_rng(seed).normal(0, 3, size).astype(np.float32)


def test_greedy_takes_the_largest_and_the_first_of_equals():
    sampler = Sampler(Sampling(temperature=0))
    assert [sampler.sample(row(1, 5, 5, 2)), sampler.sample(row(-3, -4, -3))] == [1, 0]


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others():
    def run(seed):
        sampler = Sampler(Sampling(seed=seed))
        return [sampler.sample(noise(i)) for i in range(30)]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_the_other_generator_draws_what_cpp_does():
    """C++'s mt19937 gives 3499211612 and 581869302 first where its seed is 5489, and 4123659995
    as its 10,000th number (ISO C++ [rand.predef]); a double takes two, the lower half first."""
    numbers = random_numbers("mt19937", 5489)
    assert numbers.random() == (3499211612 + 581869302 * 2**32) / 2**64
    for _ in range(4998):
        numbers.random()
    assert int(numbers.random() * 2**32) == 4123659995


def test_a_seed_for_the_other_generator_has_32_bits():
    assert Sampler(Sampling(generator="mt19937")).seed < 2**32


def test_samplers_do_not_share_random_numbers():
    alone = Sampler(Sampling(seed=5))
    expected = [alone.sample(noise(i)) for i in range(10)]
    first, second = Sampler(Sampling(seed=5)), Sampler(Sampling(seed=6))
    got = []
    for i in range(10):
        got.append(first.sample(noise(i)))
        second.sample(noise(i))
    assert got == expected


def test_every_token_takes_one_draw_whatever_the_chain():
    """So a token that a truncation makes certain leaves the next choice where it was."""
    certain = row(50, 0, 0)
    wide = noise(0)
    after_one = Sampler(replace(NEUTRAL, seed=9))
    after_one.sample(certain)
    other = Sampler(replace(NEUTRAL, seed=9))
    other.sample(row(0, 0, 50))
    assert after_one.sample(wide) == other.sample(wide)


def test_without_a_seed_two_samplers_differ_and_say_their_seed():
    first, second = Sampler(Sampling()), Sampler(Sampling())
    assert first.seed != second.seed
    again = Sampler(Sampling(seed=first.seed))
    assert [again.sample(noise(i)) for i in range(9)] == [first.sample(noise(i)) for i in range(9)]


def test_logits_are_left_as_they_were():
    logits = noise(1)
    before = logits.copy()
    sampler = Sampler(Sampling(logit_bias={1: 5.0}, repeat_penalty=1.5, seed=0), prompt=[1, 2])
    sampler.sample(logits)
    np.testing.assert_array_equal(logits, before)


def test_the_penalty_window_holds_the_prompt_and_slides():
    options = Sampling(temperature=0, repeat_last_n=2, presence_penalty=10.0)
    sampler = Sampler(options, prompt=[9, 0, 1])
    logits = row(4, 3, 2, 1)
    assert [sampler.sample(logits) for _ in range(4)] == [2, 0, 1, 2]


@pytest.mark.parametrize(("last_n", "expected"), [(-1, 2), (0, 0), (1, 0), (4, 2)])
def test_the_penalty_window_has_its_length(last_n, expected):
    options = Sampling(temperature=0, repeat_last_n=last_n, presence_penalty=10.0)
    assert Sampler(options, prompt=[0, 0, 1, 1]).sample(row(4, 3, 2)) == expected


def test_bias_and_a_ban_hold_in_greedy_and_drawn_choices():
    logits = row(1, 2, 3)
    assert Sampler(Sampling(temperature=0, logit_bias={0: 5.0})).sample(logits) == 0
    banned = replace(NEUTRAL, logit_bias={1: -math.inf, 2: -math.inf}, seed=3)
    sampler = Sampler(banned)
    assert {sampler.sample(logits) for _ in range(50)} == {0}


@pytest.mark.parametrize("temperature", [0, 1])
def test_logits_without_a_finite_maximum_are_an_error(temperature):
    options = Sampling(temperature=temperature)
    with pytest.raises(NumericalError, match="token 1 is nan"):
        Sampler(options).sample(row(1, math.nan, 2))
    with pytest.raises(NumericalError, match="token 0 is inf"):
        Sampler(options).sample(row(math.inf, 1, 2))
    with pytest.raises(OptionError, match="bans every token"):
        Sampler(Sampling(logit_bias={0: -math.inf}, temperature=temperature)).sample(row(0))


def test_truncations_leave_only_what_they_promise():
    logits = row(*np.log([0.5, 0.25, 0.15, 0.1]))
    for options, allowed in [
        (replace(NEUTRAL, top_k=2), {0, 1}),
        (replace(NEUTRAL, top_p=0.8), {0, 1, 2}),
        (replace(NEUTRAL, min_p=0.4), {0, 1}),
        (replace(NEUTRAL, top_p=0.0), {0}),
        (NEUTRAL, {0, 1, 2, 3}),
    ]:
        sampler = Sampler(options)
        assert {sampler.sample(logits) for _ in range(300)} == allowed


@pytest.mark.parametrize(
    "options",
    [
        Sampling(seed=3),
        Sampling(seed=3, generator="mt19937"),
        Sampling(temperature=0, repeat_penalty=1.5),
        Sampling(seed=3, repeat_last_n=-1, frequency_penalty=0.5),
        Sampling(seed=3, repeat_last_n=2, presence_penalty=9),
    ],
)
def test_a_copy_chooses_the_same_and_takes_nothing_away(options):
    sampler, untouched = (Sampler(options, [5, 6, 7, 8]) for _ in range(2))
    for i in range(4):
        copied = sampler.copy()
        ahead = [copied.sample(noise(j, 20)) for j in range(i, i + 5)]
        again = sampler.copy()
        assert [again.sample(noise(j, 20)) for j in range(i, i + 5)] == ahead
        assert sampler.sample(noise(i, 20)) == untouched.sample(noise(i, 20)) == ahead[0]
    assert sampler.history == untouched.history
