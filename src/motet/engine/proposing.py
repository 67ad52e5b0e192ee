"""How an engine's speculation is made: of a proposer, and of what decides how much it proposes."""

from dataclasses import dataclass

from motet.engine.costs import StepCosts
from motet.engine.pace import Pace
from motet.engine.policies import Always, WhatPays
from motet.engine.speculating import Speculation
from motet.speculation import Proposer

Speculate = Proposer | None


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
    return None if speculate is None else Proposing(speculate, 15)
