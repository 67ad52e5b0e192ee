"""How an engine's speculation is made: of a proposer, and of what decides how much it proposes."""

from dataclasses import dataclass
from os import PathLike

from motet import checks
from motet.engine.costs import StepCosts
from motet.engine.pace import Pace
from motet.engine.policies import Always, WhatPays
from motet.engine.speculating import Speculation
from motet.errors import OptionError
from motet.model import Model
from motet.speculation import Lookup, Proposer

LOOKED_UP = 15
"""Tokens of a text proposed for an answer in a step, at most."""

Speculate = str | PathLike[str] | Model | Proposer | None
"""See ``LLM``."""


@dataclass(frozen=True)
class Proposing:
    """A proposer, which the engine closes, and how many tokens it is asked for.

    ``most``: for an answer in a step; None for as many as pay, none where it does not.
    """

    proposer: Proposer
    most: int | None = None

    def begin(self, pace: Pace) -> Speculation:
        """For an engine with such a pace."""
        costs = StepCosts(pace)
        policy = WhatPays(costs) if self.most is None else Always(costs, self.most)
        return Speculation(self.proposer, policy)


def proposing_of(speculate: Speculate) -> Proposing | None:
    """What ``LLM`` is told of it. Raises OptionError for what proposes nothing."""
    if speculate is None:
        return None
    if speculate == "auto":
        return Proposing(Lookup())
    if speculate == "lookup":
        return Proposing(Lookup(), LOOKED_UP)
    if isinstance(speculate, str | PathLike | Model):
        raise NotImplementedError
    if not hasattr(speculate, "propose"):
        raise OptionError(
            f"speculate is {checks.shown(speculate)}",
            hint='use "auto", "lookup", None, or a draft model: its path, or a loaded motet.Model',
        )
    return Proposing(speculate, LOOKED_UP)
