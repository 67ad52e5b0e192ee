"""How well a model predicts a text by position, beyond the trained length too.

A mean over long texts hides where it fails: a plain model does well up to about the trained
length, whatever comes after.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from motet import checks
from motet.context import Context
from motet.errors import OptionError
from motet.evals.predictions import TokenSpan, log_probabilities, require_predictions
from motet.evals.variants import Variant
from motet.model import Model

BUCKETS_PER_OCTAVE = 2
SHORTEST = 4
"""Tokens of a passage, at least."""


@dataclass(frozen=True)
class Likelihoods:
    """Of some passages, each read by every variant."""

    variants: tuple[str, ...]
    nll: np.ndarray
    """float64 ``[variants, passages, length - 1]``: negative log probability, in nats, of the token
    at position 1, 2, … given those before it."""

    def means(self) -> "list[Bucket]":
        """By position: buckets of which each begins half an octave after the one before."""
        spans = pairwise(_edges(self.nll.shape[2] + 1).tolist())
        return [
            Bucket(a, b - 1, tuple(self.nll[:, :, a - 1 : b - 1].mean(axis=(1, 2)).tolist()))
            for a, b in spans
        ]


@dataclass(frozen=True)
class Bucket:
    """Positions ``first`` to ``last``, and each variant's mean negative log probability there."""

    first: int
    last: int
    nll: tuple[float, ...]


def passages_of(tokens: Sequence[int], length: int, count: int, bos: int | None) -> np.ndarray:
    """int64 ``[count, length]``: passages spread evenly over a text, ``bos`` in each first place.

    They overlap if the text is too short for so many. Raises OptionError if it is for one.
    """
    checks.whole("length", length, SHORTEST)
    checks.whole("passages", count, 1)
    ids = np.asarray(tokens, np.int64)
    if len(ids) < length:
        raise OptionError(
            f"the text has {len(ids)} tokens, and a passage takes {length}",
            hint="use a longer text or shorter passages",
        )
    starts = np.linspace(0, len(ids) - length, count).astype(np.int64)
    table = np.stack([ids[start : start + length] for start in starts])
    if bos is not None:
        table[:, 0] = bos
    return table


def by_position(
    model: Model,
    passages: np.ndarray,
    variants: Sequence[Variant],
    *,
    ubatch: int = 512,
    kv_type: str = "auto",
) -> Iterator[Likelihoods]:
    """The running result after every passage, which each variant reads; the last one is the result.

    ``passages``: int64 ``[n, length]``. The plain variant too goes as far as they are long. Raises
    OptionError where a variant does not reach so far, UnsupportedError where it does not apply to
    the model, at the call; NumericalError when the model's logits are not numbers.
    """
    require_predictions(model, "likelihood by position")
    length = passages.shape[1]
    contexts = [
        model.context(
            max_tokens=length,
            context_length=length,
            ubatch=ubatch,
            kv_type=kv_type,
            self_extend=variant.self_extend,
        )
        for variant in variants
    ]
    names = tuple(variant.name for variant in variants)
    return _running(contexts, names, passages, model.config.n_vocab)


def _running(
    contexts: list[Context], names: tuple[str, ...], passages: np.ndarray, n_vocab: int
) -> Iterator[Likelihoods]:
    done: list[list[np.ndarray]] = []
    for passage in passages:
        done.append([])
        for context in contexts:
            context.memory.clear()
            span = TokenSpan(passage[:-1], 0, 0, passage[1:, None])
            (logs,) = log_probabilities(context, [span], len(passage), n_vocab)
            done[-1].append(-logs[:, 0])
        yield Likelihoods(names, np.array(done).swapaxes(0, 1))


def _edges(length: int) -> np.ndarray:
    """1, 2, 3, 4, 6, 8, 11, 16, …: where buckets begin; ``length`` ends the last one."""
    octaves = np.arange(0, np.log2(length), 1 / BUCKETS_PER_OCTAVE)
    return np.unique([*np.round(2**octaves).astype(np.int64), length])
