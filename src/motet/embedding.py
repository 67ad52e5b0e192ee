"""What ``embed`` and ``rank`` compute: from the arguments of a call to a request, and back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from motet import checks
from motet.arrays import Array, Float32
from motet.context import position_limit
from motet.engine import Slice, VectorRequest, VectorSink
from motet.engine.progress import Progress
from motet.engine.prompts import Prompt, as_list, one_or_many
from motet.engine.request import deadline_of
from motet.errors import (
    ContextLengthError,
    MotetError,
    OptionError,
    TokenizerError,
    UnsupportedError,
)
from motet.model import Model
from motet.pooling import choose_pooling
from motet.runnable import Encodes
from motet.tokenizer import Tokenizer
from motet.tokenizer.pairs import TEMPLATE, cut_text, pair_ids

_POOLINGS = ("mean", "cls", "last")


@dataclass(frozen=True)
class VectorCall:
    """A call whose options are checked, and whose texts are not tokens yet."""

    prepare: Callable[[VectorSink], VectorRequest]
    """Makes the request, which takes as long as tokenizing does."""
    count: int
    """Texts."""
    width: int
    """Numbers of a vector."""
    result: Callable[[Float32], Float32]
    """What the call returns, of vectors ``[n, width]``."""
    progress: bool | Progress


class Gathered:
    """The vectors of a call, while they come."""

    def __init__(self, call: VectorCall) -> None:
        self.vectors = np.empty((call.count, call.width), np.float32)
        """``[n, width]``: of each text, as far as there are any."""
        self.missing = call.count
        """Texts without one."""

    def take(self, output: Slice | MotetError) -> int:
        """Put vectors in their places; how many tokens were computed. Raises the error that
        ended the request."""
        if isinstance(output, MotetError):
            raise output
        for place, vector in zip(output.places, output.vectors, strict=True):
            self.vectors[place] = vector
        self.missing -= len(output.places)
        return output.tokens


def embed_call(
    model: Model,
    text: Prompt | Sequence[Prompt],
    pooling: str | None,
    normalize: bool,
    truncate: bool,
    timeout: float | None,
    progress: bool | Progress,
) -> VectorCall:
    """See ``LLM.embed``."""
    timeout = checks.optional_seconds("timeout", timeout)
    chosen = _pooling(model, pooling)
    normalize, truncate = checks.flag("normalize", normalize), checks.flag("truncate", truncate)
    _, texts = one_or_many(text, "text", "texts")

    def prepare(sink: VectorSink) -> VectorRequest:
        deadline = deadline_of(timeout)
        ids = [_text_ids(model, each, truncate, _name(i, each)) for i, each in enumerate(texts)]
        return VectorRequest(chosen, ids, sink, deadline)

    result = normalized if normalize else _as_they_are
    width = model.config.d_model
    return VectorCall(prepare, len(texts), width, result, _progress(progress))


def rank_call(
    model: Model,
    query: str,
    documents: str | Sequence[str] | Array,
    truncate: bool,
    timeout: float | None,
    progress: bool | Progress,
) -> VectorCall:
    """See ``LLM.rank``."""
    timeout = checks.optional_seconds("timeout", timeout)
    query, truncate = checks.text("query", query), checks.flag("truncate", truncate)
    given = (
        [documents]
        if isinstance(documents, str)
        else checks.listed("documents", as_list(documents), "texts")
    )
    texts = [checks.text(f"documents[{i}]", each) for i, each in enumerate(given)]
    shown, labels = _progress(progress), _require_reranker(model)
    if model.tokenizer is None:
        raise _no_vocabulary()
    _require_pairs(model.name, model.tokenizer)
    ids_of = partial(pair_ids, model.tokenizer, query)
    limit = position_limit(model)

    def prepare(sink: VectorSink) -> VectorRequest:
        deadline = deadline_of(timeout)
        ids: list[list[int]] = []
        for i, each in enumerate(texts):
            pair = ids_of(each, limit if truncate else None)
            _check_length(f"the query and {_name(i, each, 'document')} together", len(pair), limit)
            ids.append(pair)
        return VectorRequest("rank", ids, sink, deadline)

    return VectorCall(prepare, len(texts), labels, _first, shown)


def normalized(vectors: Float32) -> Float32:
    """Rows divided by their Euclidean lengths; of zeros alone as they are.

    The length is taken in float64, where no square of a float32 is too large or too small.
    """
    wide = vectors.astype(np.float64)
    lengths: Array = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    lengths[lengths == 0] = 1
    return np.asarray(wide / lengths, np.float32)


def _as_they_are(vectors: Float32) -> Float32:
    return vectors


def _first(scores: Float32) -> Float32:
    return np.ascontiguousarray(scores[:, 0])


def _pooling(model: Model, pooling: str | None) -> str:
    """``pooling``, or what the file says. Raises OptionError where it says none or "rank"."""
    which = _poolings(model)
    if pooling is not None:
        checks.choice("pooling", pooling, _POOLINGS)
    chosen = choose_pooling(pooling, model)
    if chosen == "rank":
        raise OptionError(
            f"{model.name} is a reranker: it scores texts for a query",
            hint=f"use rank for that; for vectors all the same give {which}",
        )
    if chosen == "none":
        raise OptionError(
            f"{model.name} does not say how vectors are made of its states",
            hint=f"give {which}; the card of a model made for embeddings names it",
        )
    return chosen


def _poolings(model: Model) -> str:
    """Those that may be meant, the likeliest first."""
    if not isinstance(model.family, Encodes):
        return "pooling='last' or pooling='mean'"
    if model.tokenizer is not None and not model.tokenizer.prefix:  # nothing like [CLS] comes first
        return "pooling='mean'"
    return "pooling='mean' or pooling='cls'"


def _require_pairs(name: str, tokenizer: Tokenizer) -> None:
    """Raise TokenizerError, with the file's ``name``, where it does not say how pairs are made."""
    if TEMPLATE in tokenizer.chat_templates:
        return
    try:
        tokenizer.segments("", "")
    except TokenizerError as error:
        raise TokenizerError(
            f"{name}: {error.message}",
            hint='model.context(pooling="rank") scores token ids that you put together as the'
            " model's card has it",
        ) from error


def _require_reranker(model: Model) -> int:
    """Numbers that the model's classifier gives. Raises UnsupportedError unless the first of them
    is a score."""
    hint = "use the file of a reranker, such as bge-reranker, or compare vectors that embed gives"
    head = model.family.pooled_heads.get("rank")
    if head is None:
        raise UnsupportedError(
            f"{model.name} is no reranker: it has no classifier (cls.output.weight)", hint=hint
        )
    if head.outputs > 1 and model.config.labels[:1] != ("yes",):
        known = f" ({', '.join(model.config.labels)})" if model.config.labels else ""
        raise UnsupportedError(
            f"{model.name} is no reranker: its classifier tells {head.outputs} kinds apart{known}",
            hint=f'model.context(pooling="rank") gives the number of each; to rank, {hint}',
        )
    return head.outputs


def _text_ids(model: Model, text: Prompt, truncate: bool, name: str) -> list[int]:
    """Token ids of a text, at least one and no more than the model takes."""
    tokenizer: Tokenizer | None = model.tokenizer
    if isinstance(text, str):
        if tokenizer is None:
            raise _no_vocabulary()
        ids = tokenizer.encode(text)
    else:
        ids = [int(token) for token in text]
    if not ids:
        raise OptionError(
            f"{name}: it is empty, and the model puts no token of its own around texts"
        )
    n_vocab = model.config.n_vocab
    wrong = next((place for place, token in enumerate(ids) if not 0 <= token < n_vocab), None)
    if wrong is not None:
        raise OptionError(
            f"token {checks.shown(ids[wrong])} at {wrong} of {name} is not one of the model's"
            f" {n_vocab}"
        )
    limit = position_limit(model)
    if truncate and len(ids) > limit:
        ids = cut_text(ids, limit, () if tokenizer is None else tokenizer.suffix)
    _check_length(name, len(ids), limit)
    return ids


def _name(place: int, text: Prompt, kind: str = "text") -> str:
    """Which of a list it is, and how it begins."""
    return f"{kind} {place}" + (f", {checks.shown(text[:40])}" if isinstance(text, str) else "")


def _check_length(what: str, tokens: int, limit: int) -> None:
    if tokens > limit:
        raise ContextLengthError(
            f"{what}: {tokens} tokens, and the model was trained for {limit}",
            tokens=tokens,
            limit=limit,
            hint="let it be cut (truncate=True), or use it in parts",
        )


def _progress(progress: bool | Progress) -> bool | Progress:
    if callable(progress):
        return progress
    return checks.flag("progress", progress)


def _no_vocabulary() -> UnsupportedError:
    return UnsupportedError(
        "the model file has no vocabulary, so text means nothing to it", hint="give token ids"
    )
