"""Several answers generated in one batch, to be compared bit for bit with each generated alone."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from motet.batch import Batch
from motet.model import Model
from motet.sampling import Sampler, Sampling


@dataclass(frozen=True)
class Generated:
    """Answers of some sequences to their prompts, and every row of logits that led to them."""

    tokens: list[list[int]]
    logits: list[np.ndarray]
    """float32 ``[tokens, n_vocab]`` a sequence."""
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return sum(map(len, self.tokens)) / self.seconds


def generate(
    model: Model, prompts: Sequence[Sequence[int]], count: int, sampling: Sampling
) -> Generated:
    """Up to ``count`` tokens after each prompt, all in one batch a step; ends at end tokens."""
    context = model.context(
        max_sequences=len(prompts),
        max_tokens=len(prompts) * (max(map(len, prompts)) + count),
    )
    samplers = [Sampler(sampling, prompt) for prompt in prompts]
    end = model.tokenizer.eog if model.tokenizer else frozenset()
    tokens: list[list[int]] = [[] for _ in prompts]
    rows: list[list[np.ndarray]] = [[] for _ in prompts]
    start = time.perf_counter()
    batch = Batch()
    for seq, prompt in enumerate(prompts):
        batch.extend(prompt, 0, seqs=seq, logits="last")
    running = list(range(len(prompts)))
    while running:
        logits = context.decode(batch).logits
        batch = Batch()
        for seq, row in zip(running, logits, strict=True):
            token = samplers[seq].sample(row)
            rows[seq].append(row.copy())
            tokens[seq].append(token)
        running = [s for s in running if len(tokens[s]) < count and tokens[s][-1] not in end]
        for seq in running:
            position = len(prompts[seq]) + len(tokens[seq]) - 1
            batch.add(tokens[seq][-1], position, seqs=seq, logits=True)
    seconds = time.perf_counter() - start
    return Generated(tokens, [np.stack(r) for r in rows], seconds)


def same(first: Generated, i: int, second: Generated, j: int) -> bool:
    """Whether answer ``i`` of one and ``j`` of the other agree in every token and logit."""
    return first.tokens[i] == second.tokens[j] and np.array_equal(first.logits[i], second.logits[j])
