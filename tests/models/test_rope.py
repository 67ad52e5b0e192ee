"""Rotary frequencies against the papers' formulas, worked out here another way."""

import math

import numpy as np
import pytest

from motet.errors import ModelFileError
from motet.models.rope import RopeConfig, make_rope


def test_plain() -> None:
    rope = make_rope(RopeConfig(10000.0, 8), "neox")
    assert rope.pairing == "neox"
    assert rope.scale == 1.0
    np.testing.assert_allclose(rope.inv_freq, [1, 0.1, 0.01, 0.001], rtol=1e-14)


def test_linear_divides_every_frequency() -> None:
    rope = make_rope(RopeConfig(10000.0, 8, "linear", 8.0), "normal")
    np.testing.assert_allclose(rope.inv_freq, np.array([1, 0.1, 0.01, 0.001]) / 8, rtol=1e-14)


def test_divisors() -> None:
    rope = make_rope(RopeConfig(10000.0, 4), "normal", np.array([1, 8], np.float32))
    np.testing.assert_allclose(rope.inv_freq, [1, 0.01 / 8], rtol=1e-14)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_divisors_must_be_positive_numbers(wrong: float) -> None:
    with pytest.raises(ModelFileError, match=r"rope_freqs\.weight"):
        make_rope(RopeConfig(10000.0, 4), "normal", np.array([1, wrong], np.float32))


def test_yarn_keeps_fast_channels_and_stretches_slow_ones() -> None:
    """Llama-2's numbers, for which the paper's own code puts the ramp between 20 and 46."""
    config = RopeConfig(10000.0, 128, "yarn", 16.0, 4096, magnitude=1.2)
    rope = make_rope(config, "neox")
    plain = 10000.0 ** (-np.arange(64) / 64)
    ratio = rope.inv_freq / plain
    assert rope.scale == 1.2
    np.testing.assert_allclose(ratio[:21], 1)
    np.testing.assert_allclose(ratio[46:], 1 / 16)
    ramp = (np.arange(20, 47) - 20) / 26
    np.testing.assert_allclose(ratio[20:47], 1 - ramp + ramp / 16)
