"""Pooling: from the hidden states of a sequence's tokens to one vector, however they were cut."""

from typing import cast

import numpy as np

from motet import checks
from motet.arrays import Array, Float32, Int32, Int64
from motet.errors import OptionError
from motet.kernels.interface_recurrent import RecurrentState, Runs
from motet.models.family import View
from motet.runnable import Encodes, Runnable
from motet.spec import POOLINGS, LayerCaches, Recurrent


def choose_pooling(pooling: str | None, model: Runnable) -> str:
    """``pooling``, or what the model's file says. Raises OptionError for one that is not for it."""
    if pooling is None:
        chosen, source = model.config.pooling, "the file's pooling_type"
    else:
        chosen, source = checks.choice("pooling", pooling, POOLINGS), "pooling"
    if chosen == "rank" and "rank" not in model.family.pooled_heads:
        raise OptionError(
            f"{source} is 'rank', and the model has no classifier (cls.output.weight)",
            hint="use a reranker's file, or compare vectors of pooling "
            + ("'mean' or 'cls'" if isinstance(model.family, Encodes) else "'last' or 'mean'"),
        )
    if chosen == "cls" and not isinstance(model.family, Encodes):
        raise OptionError(
            f"{source} is 'cls', and the first token of this model sees no other",
            hint="use 'last' or 'mean'" + ("" if pooling else ", or 'none'"),
        )
    return chosen


class Pooling:
    """What a context makes of hidden states; ``kind`` is one of POOLINGS.

    ``layer``: the number under which ``caches`` stand after the model's own: what a sequence keeps
    of the tokens that it has decoded, as recurrent layers keep a state.
    """

    def __init__(self, kind: str, model: Runnable, layer: int) -> None:
        self.kind = kind
        self._kernels = model.kernels
        self._head = model.family.pooled_heads.get(kind)
        self._layer = layer
        encodes = isinstance(model.family, Encodes)
        self._place = ("cls" if encodes else "last") if kind == "rank" else kind
        self.decodes = not encodes and kind != "none"
        """Whether sequences that are decoded are pooled."""
        summed = self.decodes and self._place == "mean"
        self.caches: tuple[LayerCaches, ...] = (
            ((Recurrent(((2, model.config.d_model),)),),) if summed else ()
        )

    def rows(self, starts: Int32) -> Int64 | None:
        """Of whole sequences, rows ``starts[s]:starts[s + 1]``: which are needed; None for all."""
        if self._place == "cls":
            return starts[:-1].astype(np.int64)
        return starts[1:].astype(np.int64) - 1 if self._place == "last" else None

    def of_whole(self, hidden: Float32, starts: Int32) -> Float32:
        """A vector of each whole sequence, ``[S, d]``, from the states of the ``rows`` of them."""
        if self._place != "mean":
            return hidden
        count, d = len(starts) - 1, hidden.shape[1]
        slots = np.arange(count, dtype=np.int32)
        order = np.arange(len(hidden), dtype=np.int32)
        runs = Runs(order, starts.astype(np.int32), np.full(count, -1, np.int32), slots)
        sums = self._kernels.sum_rows(hidden, np.empty((count, 2, d), np.float32), runs)
        return sums / np.diff(starts).astype(np.float32)[:, None]

    def decoded_rows(self, tokens: int, last: Int64) -> Int64:
        """Of a micro-batch, whose sets of sequences end in rows ``last``: which are needed."""
        return np.arange(tokens) if self._place == "mean" else last

    def of_decoded(self, hidden: Float32, view: View) -> Float32:
        """A vector of each set of sequences of a micro-batch, ``[R, d]``: with "mean" a sum."""
        if self._place != "mean":
            return hidden
        state: RecurrentState = view.cache(self._layer)
        runs = state.runs
        goes_on = np.append(runs.read[1:] == runs.write[:-1], False)
        return self._kernels.sum_rows(hidden, state.arrays[0], runs)[~goes_on]

    def finished(self, vectors: Array, lengths: Int64 | None = None) -> Float32:
        """Of each sequence ``[S, d]`` what users are given: means, or ``[S, n_labels]`` scores.

        ``lengths``: what sums are divided by.
        """
        if lengths is not None and self._place == "mean":
            vectors = vectors / lengths.astype(np.float32)[:, None]
        out = cast(Float32, vectors)
        return out if self._head is None else self._head.forward(out)
