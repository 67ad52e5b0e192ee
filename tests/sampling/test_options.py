import math

import pytest

from motet.errors import OptionError
from motet.sampling import Sampling


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", "warm"),
        ("temperature", None),
        ("top_k", -1),
        ("top_k", 1.5),
        ("top_k", True),
        ("top_p", 1.01),
        ("top_p", -0.01),
        ("min_p", 2),
        ("typical_p", math.nan),
        ("repeat_last_n", -2),
        ("repeat_penalty", 0),
        ("repeat_penalty", -1.0),
        ("frequency_penalty", math.inf),
        ("presence_penalty", "x"),
        ("seed", -1),
        ("seed", 1.0),
        ("logit_bias", {-1: 1.0}),
        ("logit_bias", {3: math.nan}),
        ("logit_bias", {3: math.inf}),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(OptionError, match=name) as caught:
        Sampling(**{name: value})
    shown = value if not isinstance(value, dict) else next(iter(value.items()))[1]
    assert repr(shown) in str(caught.value) or "-1" in str(caught.value)
    assert caught.value.hint


def test_the_edges_of_the_ranges_are_allowed():
    Sampling(temperature=0, top_k=0, top_p=0, min_p=1, typical_p=0, repeat_last_n=-1, seed=2**70)
    Sampling(logit_bias={0: -math.inf})


def test_a_bias_outside_the_vocabulary_is_refused():
    with pytest.raises(OptionError, match=r"token 512.*has 512"):
        Sampling(logit_bias={512: 1.0}).check_vocabulary(512)
    Sampling(logit_bias={511: 1.0}).check_vocabulary(512)
