"""The steps of the chain: each takes the candidates for the next token and returns fewer or others.

Every step orders equal values by token id, so a choice never depends on how a sort broke a tie.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from motet.arrays import Array, Float32, Int64

GROUPS = 1024  # pre-selection groups: many more than the k of a usual top-k
FIRST_GUESS = 256  # candidates sorted before a share of the probability is looked for among them

COLDEST = 1e-200  # where every logit below the largest has probability 0; nothing overflows


class Candidates(NamedTuple):
    """Tokens that may come next, in any order."""

    ids: Int64  # int64 [n]
    logits: Array  # float32 or float64 [n]

    def weights(self) -> Array:
        """Unnormalised probabilities, float64 [n]; the largest is 1."""
        logits = self.logits.astype(np.float64)
        return np.exp(logits - logits.max())

    def take(self, indices: Int64) -> "Candidates":
        return Candidates(self.ids[indices], self.logits[indices])


def bias(logits: Float32, biases: Mapping[int, float]) -> None:
    """Add each bias to its token's logit, in place."""
    for token, value in biases.items():
        logits[token] += value


def penalize(
    logits: Float32, history: Sequence[int], repeat: float, frequency: float, presence: float
) -> None:
    """Lower the logits of the tokens in ``history``, in place; see ``Sampling`` for the rule."""
    ids, counts = np.unique(np.asarray(history, np.int64), return_counts=True)
    seen = logits[ids].astype(np.float64)
    seen = np.where(seen > 0, seen / repeat, seen * repeat)
    logits[ids] = seen - counts * frequency - presence


def top_k(candidates: Candidates, k: int) -> Candidates:
    """The ``k`` most probable tokens."""
    return candidates.take(largest(candidates.logits, k))


def typical(candidates: Candidates, p: float) -> Candidates:
    """The tokens whose surprise is closest to the expected one, up to probability ``p``.

    Meister et al. 2023, Locally Typical Sampling (arXiv 2202.00666).
    """
    weights = candidates.weights()
    log_p = np.log(weights, out=np.full_like(weights, -np.inf), where=weights > 0)
    log_p -= math.log(weights.sum())
    entropy = -np.sum(np.exp(log_p) * np.where(weights > 0, log_p, 0.0))
    return candidates.take(leading(-np.abs(-log_p - entropy), weights, p))


def top_p(candidates: Candidates, p: float) -> Candidates:
    """The fewest most probable tokens that hold probability ``p`` (arXiv 1904.09751)."""
    return candidates.take(leading(candidates.logits, candidates.weights(), p))


def min_p(candidates: Candidates, p: float) -> Candidates:
    """The tokens at least ``p`` times as probable as the most probable one (arXiv 2407.01082)."""
    logits = candidates.logits
    return candidates.take(np.flatnonzero(logits >= float(logits.max()) + math.log(p)))


def temper(candidates: Candidates, temperature: float) -> Candidates:
    """Logits divided by ``temperature``, after the largest was brought to 0 so none overflows."""
    logits = candidates.logits.astype(np.float64)
    return Candidates(candidates.ids, (logits - logits.max()) / max(temperature, COLDEST))


def draw(candidates: Candidates, uniform: float) -> int:
    """The token at ``uniform`` (0 to below 1) of the cumulative probability."""
    cumulative = np.cumsum(candidates.weights())
    index = np.searchsorted(cumulative, uniform * float(cumulative[-1]), side="right")
    return int(candidates.ids[index])


def largest(values: Array, k: int) -> Int64:
    """Indices of the ``k`` largest values, largest first, equal values by index.

    Sorting a whole vocabulary is slow, so only the values that reach a bound which at least ``k``
    of them reach are sorted.
    """
    if k < len(values):
        reach = np.flatnonzero(values >= _bound(values, k))
    else:
        reach = np.arange(len(values))
    return reach[np.argsort(-values[reach], kind="stable")[:k]]


def _bound(values: Array, k: int) -> float:
    """The k-th largest value or, found sooner, the k-th largest of the maxima of some groups."""
    if k * 4 <= GROUPS < len(values):
        values = np.reshape(values[: len(values) // GROUPS * GROUPS], (-1, GROUPS)).max(axis=0)
    return np.partition(values, -k)[-k]


def leading(keys: Array, weights: Array, share: float) -> Int64:
    """The fewest indices, by descending key, whose weights sum to ``share`` of all weights."""
    target = share * weights.sum()
    count = FIRST_GUESS
    while True:
        order = largest(keys, count)
        reached = np.cumsum(weights[order])
        if reached[-1] >= target or count >= len(keys):
            return order[: np.searchsorted(reached, target) + 1]
        count *= 8
