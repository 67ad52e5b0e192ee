import math
from dataclasses import fields
from typing import get_type_hints

import pytest

import motet
from motet.checks import refuse_unknown
from motet.errors import OptionError
from motet.sampling import Sampling, SamplingFields


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
        ("logit_bias", None),
        ("top_k", None),
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


def test_the_other_generator_takes_seeds_of_32_bits():
    assert Sampling(generator="mt19937", seed=2**32 - 1).seed == 2**32 - 1
    with pytest.raises(OptionError, match="seed is 4294967296"):
        Sampling(generator="mt19937", seed=2**32)
    with pytest.raises(OptionError, match="generator is 'dice'"):
        Sampling(generator="dice")


def test_a_bias_outside_the_vocabulary_is_refused():
    with pytest.raises(OptionError, match=r"token 512.*has 512"):
        Sampling(logit_bias={512: 1.0}).check_vocabulary(512)
    Sampling(logit_bias={511: 1.0}).check_vocabulary(512)


def test_the_fields_as_keywords_are_those_of_sampling():
    assert list(get_type_hints(SamplingFields).items()) == list(get_type_hints(Sampling).items())
    assert motet.Sampling is Sampling


def test_every_field_but_the_bias_describes_itself_to_a_command_line():
    for option in fields(Sampling):
        kind = get_type_hints(Sampling)[option.name]
        if option.name == "logit_bias":
            assert not option.metadata
            continue
        assert option.metadata["help"].endswith(".")
        assert option.metadata["metavar"] == {float: "X", str: "NAME"}.get(kind, "N")
        if kind not in (float, str):  # the least value is accepted, and the one below it is not
            Sampling(**{option.name: option.metadata["min"]})
            with pytest.raises(OptionError, match=option.name):
                Sampling(**{option.name: option.metadata["min"] - 1})


def test_a_misspelt_name_is_refused_with_what_may_be_meant():
    known = ["temperature", "top_k", "top_p"]
    refuse_unknown("f", ["top_p", "temperature"], known)
    with pytest.raises(OptionError, match=r"f has no option 'temprature' \(did you mean temp"):
        refuse_unknown("f", ["top_k", "temprature"], known)
    with pytest.raises(OptionError, match=r"'topk' \(did you mean top_k or top_p\?"):
        refuse_unknown("f", ["topk"], known)
    with pytest.raises(OptionError, match=r"'x' \(it has temperature, top_k, top_p\)"):
        refuse_unknown("f", ["x"], known)
