import pytest

from benchmarks import self_extend
from benchmarks.self_extend import OFTEN, STEPS, VARIANTS, line, measure, more_time
from motet import SelfExtend
from tests.evals.models import loaded


def test_both_have_as_many_turns_at_the_same_length(monkeypatch):
    model = loaded("motet-tiny")
    asked = []
    context = model.context
    monkeypatch.setattr(
        model, "context", lambda **options: asked.append(options) or context(**options)
    )
    rates = measure(model, 300, SelfExtend(8, 64), turns=3)
    assert [options.pop("self_extend") for options in asked] == [None, SelfExtend(8, 64)]
    assert asked[0] == asked[1] and asked[0]["context_length"] == 300 + STEPS
    assert list(rates) == ["prefill", "decode"]
    for work, variants in rates.items():
        assert list(variants) == list(VARIANTS)
        goes = 3 * OFTEN[work]
        assert all(len(r) == goes and min(r) > 0 for r in variants.values())


def test_a_second_cache_would_be_noticed(monkeypatch):
    sizes = iter([100, 200])
    monkeypatch.setattr(self_extend, "stored", lambda context: next(sizes))
    with pytest.raises(SystemExit, match="differing bytes"):
        measure(loaded("motet-tiny"), 100, SelfExtend(8, 64), turns=1)


def test_keys_and_values_are_counted():
    context = loaded("motet-tiny").context(max_tokens=1000, context_length=1000)
    heads = 2 * 2 * 32 * 2  # keys and values of two heads of 32, in f16
    assert self_extend.stored(context) >= 3 * 1000 * heads


def test_more_time_is_the_median_over_the_turns():
    rates = {"plain": [11.0, 10.0, 30.0], "extended": [10.0, 10.0, 10.0]}
    assert more_time(rates) == pytest.approx(0.1)
    assert line("m", "decode", rates) == (
        "| m | decode | 11.0 (10.0 to 30.0) | 10.0 (10.0 to 10.0) | +10.0% |"
    )
