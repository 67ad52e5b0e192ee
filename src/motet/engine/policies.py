"""How many tokens are proposed: as many as pay, or as were chosen lately."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from motet.engine.acceptance import Acceptance
from motet.engine.costs import StepCosts
from motet.engine.request import Answer
from motet.engine.speculating import MOST, Offer, Outcome

WAIT = 2.0
"""So many times as long as without proposals a step may take, while there is an answer in it for
which nothing is proposed."""

_ALLOWED = 0.01
"""Of the time in steps: so much may be lost to what turns out not to pay."""
_START = 2.0
"""Steps whose time may be lost before any was saved."""
_SAVED = 4.0
"""Steps whose time may be lost of what was saved before."""
_WORTH = 1.02
"""By so much a step has to give more tokens a second."""
_UNUSUAL = 2.0
"""A look that takes so many times as long as others was held up by something else."""
_SHADOW = 4
"""Tokens of a proposal that is not used which are compared with those chosen later."""


@dataclass
class _Followed:
    """What is known of an answer."""

    acceptance: Acceptance
    shadow: Offer | None = None
    """A proposal that was not used, to see what would have become of it."""
    start: int = 0
    """Tokens of prompt and answer before it."""
    used: Offer | None = None
    """The proposal of the step under way."""


class WhatPays:
    """Proposes where it gives more tokens a second, by measured costs and acceptance.

    It keeps an account of the time that it saves and loses, and looks for proposals, and uses them,
    only while what it lost in all is less than a share of the time that steps took. What it does
    not use it compares with what is chosen later, which costs nothing.
    """

    def __init__(self, costs: StepCosts, most: int = MOST) -> None:
        self.most = most
        self._costs = costs
        self._account: float | None = None
        """Seconds that may be lost; None before the first step."""
        self._full = math.inf
        """Seconds that may be lost at most."""
        self._looks = deque[float](maxlen=31)
        """Seconds that it took lately to look for proposals."""
        self._followed: dict[Answer, _Followed] = {}
        self._acceptance = Acceptance({})
        """Of all answers."""

    def asks(self, writing: int) -> bool:
        """See ``Policy``."""
        return self._account is not None and self._account > 0

    def looked(self, seconds: float) -> None:
        """See ``Policy``."""
        self._looks.append(seconds)
        if self._account is not None:
            self._account -= min(seconds, _UNUSUAL * median(self._looks))

    def lengths(self, offers: Sequence[Offer], writing: int, most: int) -> Sequence[int]:
        """See ``Policy``."""
        followed = [self._of(offer.answer) for offer in offers]
        lengths = self._worthwhile(offers, followed, writing, most)
        for offer, length, each in zip(offers, lengths, followed, strict=True):
            each.used = offer if length else None
            self._compare(each, offer.answer)
            if not length and each.shadow is None:
                each.shadow, each.start = offer, len(offer.answer.sampler.history)
        return lengths

    def learn(self, outcomes: Sequence[Outcome], seconds: float | None) -> None:
        """See ``Policy``."""
        writing, proposed = len(outcomes), sum(outcome.proposed for outcome in outcomes)
        if not writing:
            return
        if seconds is not None:
            self._costs.learn(writing, proposed, seconds)
        account = self._account
        if not proposed:
            if account is None:
                plain = self._costs.plain(writing) or 0.0
                self._account, self._full = _START * plain, _SAVED * plain
            elif account < self._full:
                self._account = account + _ALLOWED * (seconds or 0.0)
            return
        for outcome in outcomes:
            followed = self._followed.get(outcome.answer)
            if outcome.proposed and followed and followed.used:
                followed.acceptance.learn(followed.used.kind, outcome.chosen, outcome.missed)
        costs = self._costs.upto(writing, proposed)
        if costs is not None and account is not None:
            plain, taken = float(costs[0]), float(costs[-1])
            given = sum(outcome.given for outcome in outcomes)
            account += plain * given / writing - (1 - _ALLOWED) * taken
            self._full = _SAVED * plain
            self._account = min(max(account, -self._full), self._full)

    def ended(self, answer: Answer) -> None:
        """See ``Policy``."""
        followed = self._followed.pop(answer, None)
        if followed is not None:
            self._compare(followed, answer)

    def _of(self, answer: Answer) -> _Followed:
        if answer not in self._followed:
            self._followed[answer] = _Followed(Acceptance(self._acceptance.shared))
        return self._followed[answer]

    def _compare(self, followed: _Followed, answer: Answer) -> None:
        """Learn from a proposal that was not used, once enough tokens were chosen after it."""
        shadow = followed.shadow
        if shadow is None:
            return
        said = answer.sampler.history[followed.start : followed.start + _SHADOW]
        pairs = zip(said, shadow.tokens, strict=False)
        same = next((n for n, (a, b) in enumerate(pairs) if a != b), None)
        wanted = min(_SHADOW, len(shadow.tokens))
        if same is None and len(said) < wanted:
            return
        followed.acceptance.learn(shadow.kind, wanted if same is None else same, same is not None)
        followed.shadow = None

    def _worthwhile(
        self, offers: Sequence[Offer], followed: Sequence[_Followed], writing: int, most: int
    ) -> list[int]:
        """The lengths that give most tokens a second; token by token, the likeliest first."""
        none = [0] * len(offers)
        if not offers or self._account is None or self._costs.is_stale(writing):
            return none
        counts = [min(len(offer.tokens), most) for offer in offers]
        costs = self._costs.upto(writing, min(sum(counts), most))
        if costs is None:
            return none
        owner = np.repeat(np.arange(len(offers)), counts)
        place = np.concatenate([np.arange(count) for count in counts])
        share = np.array(
            [each.acceptance.of(offer.kind) for each, offer in zip(followed, offers, strict=True)]
        )
        likely = share[owner] ** (place + 1)
        order = np.argsort(-likely, kind="stable")[: len(costs) - 1]
        costs = costs[: len(order) + 1]
        given = np.concatenate([[writing], writing + np.cumsum(likely[order])])
        alone = np.concatenate([[writing], writing - np.cumsum(place[order] == 0)])
        allowed = costs <= 2 * costs[0] + max(self._account, 0.0)
        allowed &= (costs <= WAIT * costs[0]) | (alone == 0)
        rates = np.where(allowed, given / costs, 0.0)
        best = int(np.argmax(rates))
        if rates[best] < _WORTH * rates[0]:
            return none
        return np.bincount(owner[order[:best]], minlength=len(offers)).tolist()


class Always:
    """Proposes whatever there is: up to twice as many tokens as the last time where all of them
    were chosen, up to one more than were chosen where not all of them were."""

    def __init__(self, costs: StepCosts, most: int) -> None:
        self.most = min(most, MOST)
        self._costs = costs
        self._lengths: dict[Answer, int] = {}

    def asks(self, writing: int) -> bool:
        """See ``Policy``."""
        return True

    def looked(self, seconds: float) -> None:
        """See ``Policy``."""

    def lengths(self, offers: Sequence[Offer], writing: int, most: int) -> Sequence[int]:
        """See ``Policy``."""
        if len(offers) < writing:
            most = self._unnoticed(writing, most)
        lengths = [
            min(self._lengths.get(offer.answer, self.most), len(offer.tokens)) for offer in offers
        ]
        share = -(-most // max(len(offers), 1))
        for n, length in enumerate(lengths):
            lengths[n] = min(length, share, most)
            most -= lengths[n]
        return lengths

    def learn(self, outcomes: Sequence[Outcome], seconds: float | None) -> None:
        """See ``Policy``."""
        for outcome in outcomes:
            if outcome.missed:
                self._lengths[outcome.answer] = max(outcome.chosen + 1, 2)
            elif outcome.proposed:
                self._lengths[outcome.answer] = min(2 * outcome.proposed, self.most)
        if seconds is not None and outcomes:
            self._costs.learn(len(outcomes), sum(each.proposed for each in outcomes), seconds)

    def ended(self, answer: Answer) -> None:
        """See ``Policy``."""
        self._lengths.pop(answer, None)

    def _unnoticed(self, writing: int, most: int) -> int:
        """As many tokens as let the others wait no longer than they may; none in a step that is to
        show how long that is."""
        costs = self._costs.upto(writing, most)
        if costs is None or self._costs.is_stale(writing):
            return 0
        return int(np.count_nonzero(costs <= WAIT * costs[0])) - 1
