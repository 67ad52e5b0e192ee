"""Log probabilities of given tokens at given places, computed in batches of any size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from motet.arrays import Float32, Float64, Int64
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
) -> list[Float64]:
    """Decode ``spans`` in order, in batches of at most ``batch`` tokens.

    Returns natural logarithms, float64 ``[T, K]``, for each span with targets. Where a batch ends
    does not change them. Raises NumericalError when the model's logits are not numbers.
    """
    out = _by_span(spans)
    for i, at, logits in _rows(context, spans, batch, n_vocab):
        _score(logits, spans[i], at, out[i])
    return list(out.values())


def predictions(
    context: Context, spans: Sequence[TokenSpan], batch: int, n_vocab: int
) -> list[tuple[Float64, Int64]]:
    """As ``log_probabilities``, and beside each the likeliest tokens, int64 ``[T]``."""
    out = _by_span(spans)
    best = {i: np.empty(len(values), np.int64) for i, values in out.items()}
    for i, at, logits in _rows(context, spans, batch, n_vocab):
        _score(logits, spans[i], at, out[i])
        best[i][at : at + len(logits)] = logits.argmax(axis=1)
    return [(values, best[i]) for i, values in out.items()]


def _by_span(spans: Sequence[TokenSpan]) -> dict[int, Float64]:
    return {
        i: np.empty(span.targets.shape) for i, span in enumerate(spans) if span.targets is not None
    }


def _score(logits: Float32, span: TokenSpan, at: int, out: Float64) -> None:
    """Of rows that begin at token ``at`` of a span."""
    assert span.targets is not None
    rows = slice(at, at + len(logits))
    for k, ids in enumerate(span.targets[rows].T):
        out[rows, k] = token_logprobs(logits, ids)


def _rows(
    context: Context, spans: Sequence[TokenSpan], batch: int, n_vocab: int
) -> Iterator[tuple[int, int, Float32]]:
    """(span, its token of the first row, rows of logits ``[t, n_vocab]``), where they are asked."""
    for piece in _pieces(spans, batch, max(1, LOGIT_VALUES // n_vocab)):
        tokens = Batch()
        for i, at, end in piece:
            wanted = "none" if spans[i].targets is None else "all"
            tokens.extend(spans[i].tokens[at:end], spans[i].start + at, spans[i].seqs, wanted)
        logits = context.decode(tokens).logits
        for i, at, end in piece:
            if spans[i].targets is not None:
                yield i, at, logits[: end - at]
                logits = logits[end - at :]


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
