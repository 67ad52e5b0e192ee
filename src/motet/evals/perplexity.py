"""Perplexity of a text, by llama.cpp's definition.

The tokens are cut into chunks of ``ctx``; a rest is left out. In each chunk BOS stands in for the
first token when the model wants one, and the second half is scored: positions ctx/2 to ctx-2 each
predict the next token. See ``perplexity`` in llama.cpp's tools/perplexity/perplexity.cpp.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from motet import checks
from motet.context import Context
from motet.errors import OptionError
from motet.evals.predictions import TokenSpan, log_probabilities, max_positions, require_predictions
from motet.model import Model
from motet.self_extend import BEYOND, AutoExtend, SelfExtend


@dataclass(frozen=True)
class Perplexity:
    """Of the chunks so far. ``error`` is one standard error, by the delta method as llama.cpp's."""

    perplexity: float
    error: float
    nll: float
    """Mean negative log probability of a scored token, in nats."""
    tokens: int
    """Tokens scored."""
    chunks: tuple[float, ...]
    """Mean negative log probability in each chunk."""


def perplexity(
    model: Model,
    tokens: Sequence[int],
    *,
    ctx: int = 512,
    chunks: int | None = None,
    parallel: int | None = None,
    batch: int | None = None,
    self_extend: SelfExtend | AutoExtend | str | None = None,
    ubatch: int = 512,
    split: str = "auto",
    kv_type: str = "auto",
) -> Iterator[Perplexity]:
    """The running value after every ``parallel`` chunks; the last one is the result.

    ``tokens``: ids of the whole text, BOS included where the tokenizer adds one. ``chunks``: at
    most so many, None for all. ``batch``: tokens of a decode, ``parallel``: chunks computed
    together, as so many sequences; None of either is what the other makes of it, and of both one
    chunk. None of these, nor ``ubatch`` and ``split``, changes the value. ``self_extend``: as for
    ``Model.context``; with it ``ctx`` may be beyond the trained length. Raises OptionError for an
    unusable value or too short a text, UnsupportedError where Self-Extend does not apply to
    the model, or it does not say how a text goes on, at the call.
    """
    require_predictions(model, "perplexity")
    checks.whole("ctx", ctx, 4)
    for name, value in (("chunks", chunks), ("parallel", parallel), ("batch", batch)):
        if value is not None:
            checks.whole(name, value, 1)
    if self_extend is None and ctx > (most := max_positions(model)):
        raise OptionError(
            f"ctx is {ctx}, but the model was trained for {most}",
            hint=f"use at most {most}, {BEYOND}",
        )
    count = min(len(tokens) // ctx, chunks or len(tokens))
    if count == 0:
        raise OptionError(
            f"the text has {len(tokens)} tokens, and one chunk takes {ctx}",
            hint="use a longer text or a smaller ctx",
        )
    table = np.array(tokens[: count * ctx], np.int64).reshape(count, ctx)
    parallel = min(parallel or max((batch or ctx) // ctx, 1), count)
    context = model.context(
        max_sequences=parallel,
        max_tokens=parallel * ctx,
        self_extend=self_extend,
        context_length=ctx,
        ubatch=ubatch,
        split=split,
        kv_type=kv_type,
        checkpoint_bytes=0,
    )
    bos = model.tokenizer.bos if model.tokenizer and model.tokenizer.add_bos else None
    return _running(context, table, parallel, batch or parallel * ctx, bos, model.config.n_vocab)


def _running(
    context: Context, table: np.ndarray, parallel: int, batch: int, bos: int | None, n_vocab: int
) -> Iterator[Perplexity]:
    scored = np.empty((0, table.shape[1] - table.shape[1] // 2 - 1))
    for first in range(0, len(table), parallel):
        context.memory.clear()
        spans = list(_spans(table[first : first + parallel], bos))
        logs = log_probabilities(context, spans, batch, n_vocab)
        scored = np.concatenate([scored, *(-values.T for values in logs)])
        yield _summary(scored)


def _spans(group: np.ndarray, bos: int | None) -> Iterator[TokenSpan]:
    """The halves of each chunk; the second predicts its tokens."""
    half = group.shape[1] // 2
    for seq, chunk in enumerate(group):
        first = chunk[:half].copy()
        if bos is not None:
            first[0] = bos
        yield TokenSpan(first, 0, seq)
        yield TokenSpan(chunk[half:-1], half, seq, chunk[half + 1 :, None])


def _summary(scored: np.ndarray) -> Perplexity:
    nll = float(scored.mean())
    spread = math.sqrt(max(float((scored**2).mean()) - nll**2, 0.0))
    error = spread / math.sqrt(scored.size - 1) if scored.size > 1 else 0.0
    value = math.exp(nll) if nll < 700 else math.inf
    return Perplexity(value, error * value, nll, scored.size, tuple(scored.mean(axis=1).tolist()))
