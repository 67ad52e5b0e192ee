"""Tokens proposed for answers: who proposes them, and what becomes of a step that has some."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from motet import checks
from motet.engine.acceptance import Kind, kind_of
from motet.engine.request import Answer
from motet.speculation import Proposal, Proposer, Wanted

MOST = 31
"""Tokens proposed for an answer in a step, at most: memory goes back by so many."""
_PAUSE = 16
"""Steps without proposals after one with them failed; twice as many after the next."""
_LONGEST_PAUSE = 4096

_log = logging.getLogger("motet")


@dataclass(frozen=True)
class Offer:
    """What is proposed for an answer."""

    answer: Answer
    tokens: Sequence[int]
    kind: Kind


@dataclass(frozen=True)
class Outcome:
    """A step's answers: what was proposed for each, and how many tokens of it were chosen."""

    answer: Answer
    proposed: int
    chosen: int
    given: int
    """Tokens that the step gave it."""

    @property
    def missed(self) -> bool:
        """Whether another token was chosen than was proposed."""
        return self.given > self.chosen < self.proposed


class Policy(Protocol):
    """Says how many tokens are proposed."""

    most: int
    """For an answer at most."""

    def asks(self, writing: int) -> bool:
        """Whether it is worth a look what there is to propose for so many answers."""
        ...

    def looked(self, seconds: float) -> None:
        """That took so long."""
        ...

    def lengths(self, offers: Sequence[Offer], writing: int, most: int) -> Sequence[int]:
        """How many tokens of each offer are computed, ``most`` together, in a step in which so
        many answers are written."""
        ...

    def learn(self, outcomes: Sequence[Outcome], seconds: float | None) -> None:
        """What a step gave; ``seconds`` that computing it took, None where it had prompts, too."""
        ...

    def ended(self, answer: Answer) -> None:
        """Nothing more is proposed for it."""
        ...


class Speculation:
    """Asks a proposer, within what grammars allow, and stands between it and the engine.

    Nothing here changes what an answer is, and nothing that fails here fails an answer.
    """

    def __init__(self, proposer: Proposer, policy: Policy, n_vocab: int) -> None:
        self._proposer = proposer
        self._n_vocab = n_vocab
        self._policy = policy
        self._resting = 0
        """Steps to go without proposals."""
        self._pause = _PAUSE
        self._broken = False
        self._looking = 0.0
        """Seconds that looking took since the last step was done."""

    def proposals(self, answers: Sequence[Answer], most: int) -> list[Sequence[int]]:
        """What may follow each of the answers' last tokens; ``most`` tokens together."""
        if self._resting or self._broken:
            self._resting -= self._resting > 0
            return [()] * len(answers)
        if not self._policy.asks(len(answers)):
            return [()] * len(answers)
        began = time.perf_counter()
        try:
            offers = self._offers(answers)
            lengths = self._policy.lengths(offers, len(answers), most)
        except Exception:
            self._break()
            return [()] * len(answers)
        found = {
            offer.answer: offer.tokens[:length]
            for offer, length in zip(offers, lengths, strict=True)
        }
        self._looking += time.perf_counter() - began
        return [found.get(answer, ()) for answer in answers]

    def failed(self) -> None:
        """A step with proposals failed, and is tried again without."""
        self._resting, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)

    def learn(self, outcomes: Sequence[Outcome], seconds: float | None) -> None:
        """What a step gave; ``seconds`` that computing it took, None where it had prompts, too."""
        looking, self._looking = self._looking, 0.0
        if looking:
            self._policy.looked(looking)
        self._policy.learn(outcomes, None if seconds is None else max(seconds - looking, 0.0))
        if any(outcome.proposed for outcome in outcomes):
            self._pause = max(self._pause - 1, _PAUSE)

    def ended(self, answer: Answer, *, serves: bool) -> None:
        """An answer is done with its sequence. ``serves``: others may be like it."""
        self._policy.ended(answer)
        if self._broken or answer.seq < 0:
            return
        history = answer.sampler.history
        try:
            start = len(answer.request.prompt) if serves else len(history)
            self._proposer.ended(answer.seq, history, start)
        except Exception:
            self._break()

    def forget(self) -> None:
        """Let go what the proposer knows of answers that have ended."""
        try:
            self._proposer.forget()
        except Exception:
            self._break()

    def close(self) -> None:
        """Let go what the proposer holds."""
        try:
            self._proposer.close()
        except Exception:
            self._break()

    def _break(self) -> None:
        self._broken = True
        _log.exception("nothing more is proposed, for the proposer failed")

    def _offers(self, answers: Sequence[Answer]) -> list[Offer]:
        asked = [answer for answer in answers if self._most(answer) > 0]
        wanted = [
            Wanted(
                answer.seq,
                answer.sampler.history,
                self._most(answer),
                answer.request.likely,
                answer.sampler,
            )
            for answer in asked
        ]
        if not wanted:
            return []
        found = zip(asked, self._proposer.propose(wanted), strict=True)
        offers = [self._offer(answer, proposal) for answer, proposal in found]
        return [offer for offer in offers if offer is not None]

    def _most(self, answer: Answer) -> int:
        """Tokens after which the answer is not at its limit yet, and as many as were asked for."""
        asked = answer.request.options.max_proposed
        most = min(self._policy.most, answer.room - 1)
        return most if asked is None else min(most, asked)

    def _offer(self, answer: Answer, proposal: Proposal | None) -> Offer | None:
        """What of a proposal the answer may go on with, or what its grammar forces."""
        tokens = () if proposal is None else proposal.tokens[: self._most(answer)]
        for token in tokens:
            if type(token) is not int or not 0 <= token < self._n_vocab:
                checks.whole("a proposed token", token, 0, self._n_vocab - 1)
        tokenizer = answer.request.tokenizer
        if tokenizer is not None:  # what ends an answer is chosen without being computed
            ends = (place for place, token in enumerate(tokens) if token in tokenizer.eog)
            tokens = tokens[: next(ends, len(tokens))]
        kind = kind_of(*(("", 0) if proposal is None else (proposal.source, proposal.quality)))
        if answer.matcher is not None:
            lookahead = answer.matcher.lookahead()
            tokens = lookahead.allowed(tokens)
            forced = lookahead.forced(self._most(answer))
            if len(forced) > len(tokens):
                tokens, kind = tuple(forced), kind_of("grammar", 0)
        return Offer(answer, tokens, kind) if tokens else None
