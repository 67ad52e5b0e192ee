"""From a draft's logits to the token that the model is likely to choose."""

import numpy as np

from motet.arrays import Float32
from motet.errors import MotetError
from motet.sampling import Sampler

_LEAST = 0.15
"""The chance of all tokens proposed, below which one more does not pay."""
_RECENT = 1 / 32
"""Of what was right, how much the last token counts."""


class Guesser:
    """Guesses the tokens of one sequence.

    There are two ways. The token drawn from the draft's logits by the answer's own sampler, with
    the random number that it will draw the true one with: two models that agree then mostly draw
    the same. Or the most probable one, which is better where they agree less. Which of the two has
    been right more often shows by itself, for of every proposal's first token both are compared
    with what was chosen.
    """

    def __init__(self) -> None:
        self._drawn_right = self._best_right = 0.5
        self._place = 0
        self._first: tuple[int, int] | None = None
        """Guesses of the token at ``_place``: drawn, and the most probable one."""
        self._sampler: Sampler | None = None
        self._chance = 1.0

    def begin(self, said: list[int], sampler: Sampler | None) -> None:
        """What follows ``said`` is guessed next, and what it ends with was chosen by now."""
        if self._first is not None and self._place < len(said):
            drawn, best = self._first
            chosen = said[self._place]
            self._drawn_right += _RECENT * ((drawn == chosen) - self._drawn_right)
            self._best_right += _RECENT * ((best == chosen) - self._best_right)
        self._place, self._first = len(said), None
        self._sampler = sampler and sampler.copy()
        self._chance = 1.0

    def guess(self, logits: Float32) -> int | None:
        """The next token, by the draft's logits ``[n_vocab]``; None where it is unlikely that it
        and those before it are right."""
        best = int(np.argmax(logits))
        drawn = best
        if self._sampler is not None:
            try:
                drawn = self._sampler.sample(logits)
            except MotetError:
                return None
        if self._first is None:
            self._first = drawn, best
        token = drawn if self._drawn_right >= self._best_right else best
        if self._sampler is not None:
            self._sampler.history[-1] = token
        self._chance *= self._chance_of(logits, token)
        return token if self._chance >= _LEAST else None

    def _chance_of(self, logits: Float32, token: int) -> float:
        """How likely a token is the one that is chosen: what the draft gives it, or the more, the
        more the two models draw the same where they don't both take the most probable one."""
        weights = np.exp(logits - logits.max())
        probability = float(weights[token] / weights.sum())
        more = (self._drawn_right - self._best_right) / (1.001 - self._best_right)
        return probability ** (1 - min(max(more, 0.0), 1.0))
