"""Perplexity of a text, by llama.cpp's definition.

The tokens are cut into chunks of ``ctx``; a rest is left out. In each chunk BOS stands in for the
first token when the model wants one, and the second half is scored: positions ctx/2 to ctx-2 each
predict the next token. See ``perplexity`` in llama.cpp's tools/perplexity/perplexity.cpp.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from motet.batch import Batch
from motet.context import Context
from motet.errors import OptionError
from motet.model import Model
from motet.sampling import token_logprobs
from motet.sampling.options import whole_number

LOGIT_VALUES = 1 << 26
"""Logits held at once, 256 MiB: large vocabularies are scored some positions at a time."""


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
    ubatch: int = 512,
    parallel: int = 1,
    kv_type: str = "auto",
) -> Iterator[Perplexity]:
    """The running value after each batch of ``parallel`` chunks; the last one is the result.

    ``tokens``: ids of the whole text, BOS included where the tokenizer adds one. ``chunks``: at
    most so many, None for all. Raises OptionError for an unusable value or too short a text, at
    the call.
    """
    whole_number("ctx", ctx, 4)
    whole_number("parallel", parallel, 1)
    if chunks is not None:
        whole_number("chunks", chunks, 1)
    if ctx > model.config.context_length:
        raise OptionError(
            f"ctx is {ctx}, but the model was trained for {model.config.context_length}",
            hint=f"use at most {model.config.context_length}",
        )
    count = min(len(tokens) // ctx, chunks or len(tokens))
    if count == 0:
        raise OptionError(
            f"the text has {len(tokens)} tokens, and one chunk takes {ctx}",
            hint="use a longer text or a smaller ctx",
        )
    table = np.array(tokens[: count * ctx], np.int64).reshape(count, ctx)
    parallel = min(parallel, count)
    context = model.context(
        max_sequences=parallel, max_tokens=parallel * ctx, ubatch=ubatch, kv_type=kv_type
    )
    bos = model.tokenizer.bos if model.tokenizer and model.tokenizer.add_bos else None
    return _running(context, table, parallel, bos, model.config.n_vocab)


def _running(
    context: Context, table: np.ndarray, parallel: int, bos: int | None, n_vocab: int
) -> Iterator[Perplexity]:
    scored = np.empty((0, table.shape[1] - table.shape[1] // 2 - 1))
    for first in range(0, len(table), parallel):
        group = table[first : first + parallel]
        scored = np.concatenate([scored, _score(context, group, bos, n_vocab)])
        yield _summary(scored)


def _score(context: Context, group: np.ndarray, bos: int | None, n_vocab: int) -> np.ndarray:
    """Negative log probabilities of the scored tokens of some chunks, [chunks, scored]."""
    chunks, ctx = group.shape
    inputs = group.copy()
    if bos is not None:
        inputs[:, 0] = bos
    for seq in range(chunks):
        context.memory.remove(seq)
    half = ctx // 2
    context.decode(_columns(inputs, 0, half, "none"))
    columns = max(1, LOGIT_VALUES // (n_vocab * chunks))
    parts = []
    for start in range(half, ctx - 1, columns):
        stop = min(start + columns, ctx - 1)
        logits = context.decode(_columns(inputs, start, stop, "all")).logits
        targets = group[:, start + 1 : stop + 1]
        parts.append(-token_logprobs(logits, targets.ravel()).reshape(targets.shape))
    return np.concatenate(parts, axis=1)


def _columns(inputs: np.ndarray, start: int, stop: int, logits: str) -> Batch:
    batch = Batch()
    for seq, chunk in enumerate(inputs):
        batch.extend(chunk[start:stop].tolist(), start, seqs=seq, logits=logits)
    return batch


def _summary(scored: np.ndarray) -> Perplexity:
    nll = float(scored.mean())
    spread = math.sqrt(max(float((scored**2).mean()) - nll**2, 0.0))
    error = spread / math.sqrt(scored.size - 1) if scored.size > 1 else 0.0
    value = math.exp(nll) if nll < 700 else math.inf
    return Perplexity(value, error * value, nll, scored.size, tuple(scored.mean(axis=1).tolist()))
