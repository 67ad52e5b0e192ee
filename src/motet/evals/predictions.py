"""Log probabilities of given tokens at given places, computed in batches of any size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from motet.batch import Batch
from motet.context import Context, position_limit
from motet.errors import UnsupportedError
from motet.evals.variants import require_extendable
from motet.model import Model
from motet.runnable import Decodes, Encodes
from motet.sampling import token_logprobs
from motet.self_extend import (
    AutoExtend,
    SelfExtend,
    check_reach,
    default_context,
    setting_of,
)

LOGIT_VALUES = 1 << 26
"""Logits held at once, 256 MiB: where vocabularies are large, batches have fewer tokens."""


@dataclass(frozen=True)
class TokenSpan:
    """Tokens at consecutive positions that continue the sequences ``seqs``."""

    tokens: np.ndarray
    """int64 ``[T]``."""
    start: int
    """Position of the first one."""
    seqs: int | tuple[int, ...]
    targets: np.ndarray | None = None
    """int64 ``[T, K]``: ids whose log probability after each token is asked; None: none."""


def max_positions(model: Model, self_extend: SelfExtend | AutoExtend | str | None = None) -> int:
    """How many tokens a sequence of this model may have; without attention there is no limit.

    Raises what ``Model.context`` does for a ``self_extend`` that does not apply.
    """
    setting, trained = setting_of(self_extend), model.config.context_length
    if setting is None:
        return position_limit(model)
    require_extendable(model)
    check_reach(setting, trained, default_context(setting, trained))
    return setting.longest_context(trained)


def require_predictions(model: Model, measure: str) -> None:
    """Raise UnsupportedError for a model that does not say how a text goes on.

    ``measure``: what is made of that.
    """
    if not isinstance(model.family, Encodes):
        return
    if isinstance(model.family, Decodes):
        raise UnsupportedError(
            f"{model.name} is an encoder-decoder: it answers a text, and does not say how it goes"
            f" on, which {measure} is made of",
            hint="motet run MODEL -p TEXT shows its answers",
        )
    raise UnsupportedError(
        f"{model.name} is an encoder: it does not say which token comes next, and {measure} is made"
        " of that",
        hint="context.encode(batch) gives what it makes of a text",
    )


def log_probabilities(
    context: Context, spans: Sequence[TokenSpan], batch: int, n_vocab: int
) -> list[np.ndarray]:
    """Decode ``spans`` in order, in batches of at most ``batch`` tokens.

    Returns natural logarithms, float64 ``[T, K]``, for each span with targets. Where a batch ends
    does not change them. Raises NumericalError when the model's logits are not numbers.
    """
    out = {
        i: np.empty(span.targets.shape) for i, span in enumerate(spans) if span.targets is not None
    }
    for piece in _pieces(spans, batch, max(1, LOGIT_VALUES // n_vocab)):
        tokens = Batch()
        for i, at, end in piece:
            wanted = "all" if i in out else "none"
            tokens.extend(spans[i].tokens[at:end], spans[i].start + at, spans[i].seqs, wanted)
        logits = context.decode(tokens).logits
        for i, at, end in piece:
            targets = spans[i].targets
            if targets is None:
                continue
            rows, logits = logits[: end - at], logits[end - at :]
            for k, ids in enumerate(targets[at:end].T):
                out[i][at:end, k] = token_logprobs(rows, ids)
    return list(out.values())


def _pieces(
    spans: Sequence[TokenSpan], batch: int, rows: int
) -> Iterator[list[tuple[int, int, int]]]:
    """(span, first, end) of at most ``batch`` tokens and ``rows`` rows of logits at a time."""
    piece: list[tuple[int, int, int]] = []
    tokens_left, rows_left = batch, rows
    for i, span in enumerate(spans):
        at, wanted = 0, span.targets is not None
        while at < len(span.tokens):
            most = min(tokens_left, rows_left) if wanted else tokens_left
            if most == 0:
                yield piece
                piece, tokens_left, rows_left = [], batch, rows
                continue
            end = min(at + most, len(span.tokens))
            piece.append((i, at, end))
            tokens_left -= end - at
            rows_left -= end - at if wanted else 0
            at = end
    if piece:
        yield piece
