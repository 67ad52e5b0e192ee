"""Log probabilities of tokens under the model itself, before any sampling step."""

from dataclasses import dataclass

import numpy as np

from motet.arrays import Array, Float32
from motet.sampling.steps import largest


@dataclass(frozen=True)
class TokenLogprob:
    """A token's natural-log probability, and the most probable tokens at its place."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]  # (token, logprob), most probable first


def token_logprobs(logits: Float32, tokens: Array) -> Array:
    """Log probability of ``tokens[i]`` under ``logits[i]``, float64 [n]; logits [n, n_vocab]."""
    highest, log_sums = _normalizers(logits)
    chosen = logits[np.arange(len(tokens)), tokens].astype(np.float64)
    return chosen - highest - log_sums


def token_logprob(logits: Float32, token: int, top: int) -> TokenLogprob:
    """One token's log probability and the ``top`` most probable ones under a row [n_vocab]."""
    best = largest(logits, top) if top else np.empty(0, np.int64)
    ids = np.append(best, token)
    highest, log_sums = _normalizers(logits[None])
    values = (logits[ids].astype(np.float64) - highest - log_sums).tolist()
    return TokenLogprob(token, values[-1], tuple(zip(best.tolist(), values[:-1], strict=True)))


def _normalizers(logits: Float32) -> tuple[Array, Array]:
    """Each row's maximum and log(sum(exp(row - maximum))), float64 [n], a row at a time."""
    highest = logits.max(axis=1).astype(np.float64)
    sums = [np.exp(row - top).sum() for row, top in zip(logits, highest, strict=True)]
    return highest, np.log(sums)
