"""How well a model finds needles in haystacks, with and without Self-Extend."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from motet.batch import Batch
from motet.context import Context
from motet.evals.haystack import Trial
from motet.evals.predictions import require_predictions
from motet.evals.variants import Variant
from motet.model import Model
from motet.sampling import token_logprobs

TOGETHER = 8192
"""Tokens of the trials that are computed together."""


@dataclass(frozen=True)
class Found:
    """What a model made of one trial."""

    variant: str
    task: str
    length: int
    depth: float
    seed: int
    exact: bool
    """Greedy generation writes the answer."""
    preferred: bool
    """The answer is likelier, a token, than every wrong one."""
    nll: float
    """Mean negative log probability of the answer's tokens, in nats."""

    @property
    def key(self) -> tuple[str, str, int, float, int]:
        """Identifies it among the results of a search."""
        return self.variant, self.task, self.length, self.depth, self.seed

    def right(self, score: str) -> bool:
        """By "exact" or "likelihood"."""
        return self.exact if score == "exact" else self.preferred


def search(
    model: Model,
    trials: Iterable[Trial],
    variant: Variant,
    *,
    ubatch: int = 512,
    kv_type: str = "auto",
) -> Iterator[list[Found]]:
    """What the model finds of the trials, in order; up to ``TOGETHER`` tokens of them at once.

    Raises OptionError or CapacityError where the variant does not reach as far as a trial,
    NumericalError when the model's logits are not numbers, UnsupportedError for a model that does
    not say how a text goes on.
    """
    require_predictions(model, "finding needles")
    for group in _groups(trials):
        context = model.context(
            max_sequences=sum(len(trial.candidates) for trial in group),
            max_tokens=sum(trial.tokens for trial in group),
            context_length=max(trial.positions for trial in group),
            ubatch=ubatch,
            kv_type=kv_type,
            self_extend=variant.self_extend,
        )
        yield _find(context, group, variant.name)


def _find(context: Context, group: Sequence[Trial], variant: str) -> list[Found]:
    """Each prompt once, shared by the sequences of its candidate answers, and then these."""
    prompts, answers = Batch(), Batch()
    seq = 0
    for trial in group:
        prompts.extend(trial.prompt, 0, tuple(range(seq, seq + len(trial.candidates))), "last")
        for answer in trial.candidates:
            if len(answer) > 1:  # nothing is asked of what its last token predicts
                answers.extend(answer[:-1], len(trial.prompt), seq, "all")
            seq += 1
    begins = context.decode(prompts).logits
    rests = iter(context.decode(answers).logits if len(answers) else ())
    found: list[Found] = []
    for trial, begin in zip(group, begins, strict=True):
        rows = [np.stack([begin, *islice(rests, len(answer) - 1)]) for answer in trial.candidates]
        right, *wrong = (
            float(token_logprobs(logits, np.array(answer)).mean())
            for logits, answer in zip(rows, trial.candidates, strict=True)
        )
        exact = bool(np.array_equal(rows[0].argmax(axis=1), trial.answer))
        found.append(
            Found(variant, *trial.key, exact, all(right > other for other in wrong), -right)
        )
    return found


def _groups(trials: Iterable[Trial]) -> Iterator[list[Trial]]:
    group: list[Trial] = []
    for trial in trials:
        if group and sum(one.tokens for one in group) + trial.tokens > TOGETHER:
            yield group
            group = []
        group.append(trial)
    if group:
        yield group


def grid(found: Iterable[Found], score: str) -> dict[tuple[int, float], float]:
    """The share found by (length, depth). ``score``: "exact" or "likelihood"."""
    cells: dict[tuple[int, float], list[bool]] = {}
    for one in found:
        cells.setdefault((one.length, one.depth), []).append(one.right(score))
    return {cell: sum(rights) / len(rights) for cell, rights in sorted(cells.items())}
