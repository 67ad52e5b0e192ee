import pytest

from benchmarks.splits import SPLITS, line, measure, workloads
from tests.evals.models import loaded


@pytest.mark.parametrize("name", ["motet-tiny", "mamba", "jamba"])
def test_every_split_has_as_many_turns(name):
    model = loaded(name)
    for work in workloads(model.config.n_vocab):
        rates = measure(model, work, turns=2, ubatch=64)
        assert list(rates) == list(SPLITS)
        assert all(len(r) == 2 and min(r) > 0 for r in rates.values())


def test_the_batches():
    prompts, decoding, tasks = workloads(40)
    assert prompts.tokens == 797 and not prompts.before
    assert decoding.tokens == 8 * 16
    assert tasks.tokens == 4 * (80 + 79)
    assert max(map(len, tasks.measured[0].entries().sets)) == 4


def test_other_logits_are_noticed(monkeypatch):
    model = loaded("motet-tiny")
    forward, calls = model.family.forward, []

    def unsound(tokens, view, wanted):
        calls.append(len(tokens))
        return forward(tokens, view, wanted) + len(calls)

    monkeypatch.setattr(model.family, "forward", unsound)
    with pytest.raises(SystemExit, match="equal gives other logits than simple"):
        measure(model, workloads(model.config.n_vocab)[0], turns=1, ubatch=64)


def test_a_line_of_the_table():
    rates = {"simple": [1.0, 3.0, 2.0], "equal": [4.0, 4.0, 4.0], "sequence": [1.0, 1.0, 9.0]}
    assert line("m", "w", rates) == (
        "| m | w | 2.0 (1.0 to 3.0) | 4.0 (4.0 to 4.0) | 1.0 (1.0 to 9.0) | equal |"
    )
