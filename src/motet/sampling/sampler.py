"""One sequence's sampler: its options, its own random numbers and the tokens it has seen."""

from collections.abc import Callable, Sequence
from copy import copy

import numpy as np

from motet.arrays import Float32
from motet.errors import NumericalError, OptionError
from motet.sampling import steps
from motet.sampling.options import Sampling
from motet.sampling.randomness import any_seed, copied, random_numbers
from motet.sampling.steps import Candidates

Step = Callable[[Candidates], Candidates]


class Sampler:
    """Chooses the tokens of one sequence.

    ``prompt`` is what the penalties look back on at first. ``seed`` is the one in use, also where
    the options leave it open. The random numbers depend on it alone, one draw a token, so that the
    choice does not depend on which other sequences are in the batch.
    """

    def __init__(self, options: Sampling, prompt: Sequence[int] = ()) -> None:
        self.options = options
        given = options.seed
        self.seed = any_seed(options.generator) if given is None else int(given)
        self.history = list(prompt)
        self._random = random_numbers(options.generator, self.seed)
        self._chain = chain(options)

    def sample(self, logits: Float32, mask: Float32 | None = None) -> int:
        """The next token from a row of logits, float32 [n_vocab], which is left as it is.

        ``mask``: 0 for each token that may be chosen, minus infinity for the others; None for all.
        Raises OptionError when none of them is left, NumericalError when the logits have no finite
        maximum.
        """
        options = self.options
        if mask is not None:
            logits = logits + mask
        if options.logit_bias or options.penalizes:
            logits = np.array(logits)
            steps.bias(logits, options.logit_bias)
            window = self._window()
            if options.penalizes and window:
                steps.penalize(
                    logits,
                    window,
                    options.repeat_penalty,
                    options.frequency_penalty,
                    options.presence_penalty,
                )
        best = int(np.argmax(logits))  # the first of several; NaN counts as the largest
        if not np.isfinite(logits[best]):
            raise _no_maximum(logits, best, mask is not None)
        token = best if options.temperature == 0 else self._draw(logits)
        self.history.append(token)
        return token

    def copy(self) -> "Sampler":
        """Another that chooses what this one would; this one is left as it is."""
        other = copy(self)
        other.history = list(self._window()) if self.options.penalizes else []
        if self.options.temperature:
            other._random = copied(self._random)
        return other

    def _window(self) -> list[int]:
        """The tokens that the penalties look at."""
        last = self.options.repeat_last_n
        return self.history if last < 0 else self.history[max(0, len(self.history) - last) :]

    def _draw(self, logits: Float32) -> int:
        candidates = Candidates(np.arange(len(logits)), logits)
        for step in self._chain:
            candidates = step(candidates)
        return steps.draw(candidates, self._random.random())


def chain(options: Sampling) -> list[Step]:
    """What candidates go through, in order, before one is drawn."""
    found: list[Step] = []
    if options.top_k > 0:
        found.append(lambda candidates: steps.top_k(candidates, options.top_k))
    if options.typical_p < 1:
        found.append(lambda candidates: steps.typical(candidates, options.typical_p))
    if options.top_p < 1:
        found.append(lambda candidates: steps.top_p(candidates, options.top_p))
    if options.min_p > 0:
        found.append(lambda candidates: steps.min_p(candidates, options.min_p))
    if options.temperature not in (0, 1):
        found.append(lambda candidates: steps.temper(candidates, options.temperature))
    return found


def _no_maximum(logits: Float32, best: int, masked: bool) -> Exception:
    if np.isneginf(logits[best]):
        if masked:
            return OptionError(
                "logit_bias, or the model's file, bans every token that the grammar allows here",
                hint="leave at least one of them allowed",
            )
        return OptionError("logit_bias bans every token", hint="leave at least one token allowed")
    return NumericalError(
        f"the logit of token {best} is {logits[best]}",
        hint="the model file may be damaged, or its activations overflow",
    )
