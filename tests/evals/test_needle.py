"""Needles are found as a sequence alone would find them."""

import numpy as np
import pytest

from motet.batch import Batch
from motet.errors import NumericalError, OptionError
from motet.evals import needle
from motet.evals.haystack import Haystacks, Trial
from motet.evals.needle import Found, Variant, grid, search
from motet.sampling import token_logprobs
from motet.self_extend import AutoExtend, SelfExtend
from tests.evals.models import loaded

PLAIN, AUTO = Variant("plain", None), Variant("auto", AutoExtend())


def trials(*lengths: int, task: str = "passkey", depths=(0.0, 0.6)):
    maker = Haystacks(loaded("motet-tiny").tokenizer)
    return [maker.make(task, n, depth, 0) for n in lengths for depth in depths]


def found(variant: Variant, searched) -> list[Found]:
    return [one for some in search(loaded("motet-tiny"), searched, variant) for one in some]


def alone(variant: Variant, trial: Trial) -> Found:
    """Each ending in a context of its own."""
    scores, exact = [], None
    for way in trial.candidates:
        context = loaded("motet-tiny").context(
            context_length=trial.positions, self_extend=variant.self_extend
        )
        batch = Batch()
        batch.extend([*trial.prompt, *way[:-1]], 0, logits="all")
        logits = context.decode(batch).logits[len(trial.prompt) - 1 :]
        scores.append(float(token_logprobs(logits, np.array(way)).mean()))
        if exact is None:
            exact = logits.argmax(axis=1).tolist() == list(way)
    return Found(variant.name, *trial.key, bool(exact), scores[0] > max(scores[1:]), -scores[0])


@pytest.mark.parametrize("variant", [PLAIN, AUTO, Variant("fixed", SelfExtend(4, 64, "log"))])
@pytest.mark.parametrize("task", ["passkey", "sentence", "order"])
def test_as_each_would_be_alone(variant, task):
    searched = trials(150, 400, task=task)
    assert found(variant, searched) == [alone(variant, trial) for trial in searched]


def test_how_many_go_together_changes_nothing(monkeypatch):
    searched = trials(150, 300, depths=(0, 0.5, 1))
    together = list(search(loaded("motet-tiny"), searched, AUTO))
    assert len(together) == 1
    monkeypatch.setattr(needle, "TOGETHER", 400)
    apart = list(search(loaded("motet-tiny"), searched, AUTO))
    assert len(apart) > 3
    assert [one for some in apart for one in some] == together[0]


def test_plain_loses_what_the_extended_finds():
    searched = trials(2048, depths=(0.0, 0.25, 0.5))
    assert not any(one.exact for one in found(PLAIN, searched))
    assert all(one.exact and one.preferred for one in found(AUTO, searched))


def test_a_variant_that_does_not_reach_so_far():
    with pytest.raises(OptionError, match="beyond what Self-Extend"):
        found(Variant("short", SelfExtend(2, 64)), trials(900))


def test_logits_that_are_no_numbers(monkeypatch):
    model = loaded("motet-tiny")
    forward = model.family.forward
    monkeypatch.setattr(model.family, "forward", lambda *inputs: forward(*inputs) * np.nan)
    with pytest.raises(NumericalError, match=r"the final norm .* not all finite numbers"):
        found(PLAIN, trials(150))


def test_a_grid_is_of_shares():
    def one(depth: float, seed: int, exact: bool, preferred: bool) -> Found:
        return Found("a", "passkey", 64, depth, seed, exact, preferred, 1.0)

    some = [one(0.5, 0, True, True), one(0.5, 1, False, True), one(0.0, 0, False, False)]
    assert grid(some, "exact") == {(64, 0.0): 0.0, (64, 0.5): 0.5}
    assert grid(some, "likelihood") == {(64, 0.0): 0.0, (64, 0.5): 1.0}
