"""Log probabilities of given tokens at given places, computed in batches of any size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from motet.batch import Batch
from motet.context import Context
from motet.errors import NumericalError
from motet.model import Model
from motet.sampling import token_logprobs
from motet.self_extend import AutoExtend, SelfExtend

LOGIT_VALUES = 1 << 26
"""Logits held at once, 256 MiB: where vocabularies are large, batches have fewer tokens."""


@dataclass(frozen=True)
class Run:
    """Tokens at consecutive positions, which go on with the sequences ``seqs``."""

    tokens: np.ndarray
    """int64 ``[T]``."""
    start: int
    """Position of the first one."""
    seqs: int | tuple[int, ...]
    targets: np.ndarray | None = None
    """int64 ``[T, K]``: ids whose log probability after each token is asked; None: nothing is."""


def positions(model: Model, self_extend: SelfExtend | AutoExtend | str | None = None) -> int:
    """How many a sequence of this model may have: without attention there is no limit.

    Raises what ``Model.context`` does for a ``self_extend`` that means nothing.
    """
    context = model.context(max_tokens=1, self_extend=self_extend)
    if context.self_extend is None:
        return context.memory.context_length
    return context.self_extend.longest_context(model.config.context_length)


def log_probabilities(
    context: Context, runs: Sequence[Run], batch: int, n_vocab: int
) -> list[np.ndarray]:
    """Decode ``runs`` in order, in batches of at most ``batch`` tokens.

    Returns natural logarithms, float64 ``[T, K]``, for each run with targets. Where a batch ends
    does not change them. Raises NumericalError when the model's logits are not numbers.
    """
    out = {i: np.empty(run.targets.shape) for i, run in enumerate(runs) if run.targets is not None}
    for piece in _pieces(runs, batch, max(1, LOGIT_VALUES // n_vocab)):
        tokens = Batch()
        for i, at, end in piece:
            wanted = "all" if i in out else "none"
            tokens.extend(runs[i].tokens[at:end], runs[i].start + at, runs[i].seqs, wanted)
        logits = context.decode(tokens).logits
        for i, at, end in piece:
            targets = runs[i].targets
            if targets is None:
                continue
            rows, logits = logits[: end - at], logits[end - at :]
            for k, ids in enumerate(targets[at:end].T):
                out[i][at:end, k] = token_logprobs(rows, ids)
    require_numbers(*out.values())
    return list(out.values())


def require_numbers(*results: np.ndarray | float) -> None:
    """Raise NumericalError if what was made of the model's logits is not a number anywhere."""
    if any(np.isnan(values).any() for values in results):
        raise NumericalError(
            "the model's logits are not all numbers",
            hint="its file may be damaged; motet show lists what it holds",
        )


def _pieces(runs: Sequence[Run], batch: int, rows: int) -> Iterator[list[tuple[int, int, int]]]:
    """(run, first, end) of at most ``batch`` tokens and ``rows`` rows of logits at a time."""
    piece: list[tuple[int, int, int]] = []
    tokens_left, rows_left = batch, rows
    for i, run in enumerate(runs):
        at, wanted = 0, run.targets is not None
        while at < len(run.tokens):
            most = min(tokens_left, rows_left) if wanted else tokens_left
            if most == 0:
                yield piece
                piece, tokens_left, rows_left = [], batch, rows
                continue
            end = min(at + most, len(run.tokens))
            piece.append((i, at, end))
            tokens_left -= end - at
            rows_left -= end - at if wanted else 0
            at = end
    if piece:
        yield piece
