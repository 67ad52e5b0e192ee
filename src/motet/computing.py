"""A context's arithmetic: from micro-batches to the rows and vectors that users are given."""

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from motet.arrays import Array, Float32, Int64
from motet.batch import Entries
from motet.encoding import Sequences
from motet.errors import NumericalError
from motet.finite import WatchedFamily, first_not_finite, rows_not_finite
from motet.memory.transaction import MicroBatchPlan
from motet.output import Output
from motet.pooling import Pooling
from motet.runnable import Decodes, Encodes, Runnable
from motet.spec import Recurrent
from motet.split import Ubatch

Step = tuple[Ubatch, MicroBatchPlan]


class Decoding:
    """Runs micro-batches of a model that decodes.

    ``view``: what its layers see of memory in a micro-batch.
    """

    def __init__(
        self, model: Runnable, pooling: Pooling, view: Callable[[MicroBatchPlan], Any]
    ) -> None:
        self._model = model
        self._pooling = pooling
        self._view = view
        every = [spec for caches in model.family.caches for spec in caches]
        self._recurrent = any(isinstance(spec, Recurrent) for spec in every)

    def run(self, family: Decodes, entries: Entries, steps: list[Step], lengths: Int64) -> Output:
        """What all ``steps`` give, in the order of the entries.

        ``lengths``: ``[sequences]``, the tokens that each will hold. Raises NumericalError, with
        the layer, where logits, keys or values are not finite.
        """
        rows = entries.wanted.cumsum() - 1
        count = int(rows[-1]) + 1
        logits, hidden = _Collected(count), _Collected(count)
        vectors: dict[int, Float32] = {}
        for n, (ubatch, step) in enumerate(steps):
            try:
                states, scores, sums = self._compute(family, ubatch, step)
            except NumericalError as error:
                raise self._located(error, steps[: n + 1]) from None
            where = rows[ubatch.entries[ubatch.wanted]]
            logits.put(where, scores)
            hidden.put(where, states)
            for members, vector in zip(ubatch.sets, sums, strict=False):
                vectors.update(dict.fromkeys(members, vector))
        pooled: dict[int, Float32] = {}
        if vectors:
            seqs = np.fromiter(vectors, np.int64)
            every = self._pooling.finished(np.stack(list(vectors.values())), lengths[seqs])
            _require_finite_vectors(every, entries, list(vectors))
            pooled = dict(zip(vectors, every, strict=True))
        shown = None if self._pooling.decodes else hidden.rows
        return Output(entries.wanted, logits.rows, shown, pooled)

    def _compute(
        self, family: Decodes, ubatch: Ubatch, step: MicroBatchPlan
    ) -> tuple[Float32, Float32, Float32 | Sequence[Float32]]:
        """Wanted states and logits of a micro-batch, all finite, and pooled ones.

        Keys and values are checked where they are stored. What is wrong in a recurrent state shows
        in every token after it, so that the last one of each sequence is looked at too.
        """
        step.begin()
        wanted = rows = ubatch.wanted
        view, pools = self._view(step), self._pooling.decodes
        if pools:
            needed = self._pooling.decoded_rows(len(ubatch.tokens), ubatch.last)
            rows = np.union1d(wanted, needed)
        elif self._recurrent and len(wanted) < len(ubatch.tokens):
            rows = np.union1d(wanted, ubatch.last)
        hidden = family.forward(ubatch.tokens, view, rows)
        pooled: Float32 | Sequence[Float32] = ()
        if rows is not wanted:
            _require_finite(hidden, "final states", ubatch.entries[rows])
            if pools:
                chosen = hidden[np.searchsorted(rows, needed)]
                pooled = self._pooling.of_decoded(chosen, view)
            hidden = hidden[np.searchsorted(rows, wanted)]
        logits = family.head(hidden)
        _require_finite(logits, "logits", ubatch.entries[wanted])
        return hidden, logits, pooled

    def _located(self, error: NumericalError, steps: list[Step]) -> NumericalError:
        """The error with the layer in which it arises, found by computing these steps again.

        They begin from committed memory, which is never written to, and so give the same.
        """

        def compute(family: WatchedFamily) -> None:
            for ubatch, step in steps:
                self._compute(family, ubatch, step)

        return _located(error, self._model, compute)


class Encoding:
    """Runs whole sequences of a model that encodes.

    Where it decodes too, what its decoder attends to goes to the places that are given.
    """

    def __init__(self, model: Runnable, pooling: Pooling) -> None:
        self._model = model
        self._pooling = pooling

    def run(
        self,
        family: Encodes,
        entries: Entries,
        parts: Sequence[Sequences],
        places: Sequence[MicroBatchPlan] = (),
    ) -> Output:
        """Wanted states in the order of the entries, or pooled ones of all ``parts``.

        ``places``: of each part, for a family that decodes. Raises NumericalError, with the layer,
        where states, keys or values are not finite.
        """
        rows = np.cumsum(entries.wanted) - 1
        hidden = _Collected(int(rows[-1]) + 1)
        pooled: dict[int, Float32] = {}
        for part, place in zip_longest(parts, places):
            starts = part.view.starts
            if self._pooling.kind == "none":
                wanted = np.flatnonzero(entries.wanted[part.entries])
                states = self._compute(family, part, wanted, place)
                hidden.put(rows[part.entries[wanted]], states)
            else:
                states = self._compute(family, part, self._pooling.rows(starts), place)
                vectors = self._pooling.finished(self._pooling.of_whole(states, starts))
                _require_finite_vectors(vectors, entries, part.seqs)
                pooled.update(zip(part.seqs, vectors, strict=True))
        shown = hidden.rows if self._pooling.kind == "none" else None
        return Output(entries.wanted, np.empty((0, 0), np.float32), shown, pooled)

    def _compute(
        self,
        family: Encodes,
        part: Sequences,
        wanted: Int64 | None,
        place: MicroBatchPlan | None,
    ) -> Float32:
        """Finite states ``[R, d_model]`` of the rows ``wanted``, by default of all."""

        def compute(family: Any) -> Float32:
            if place is None:
                states = family.encode(part.tokens, part.view, wanted)
                shown = part.entries if wanted is None else part.entries[wanted]
                _require_finite(states, "states", shown)
                return states
            states = family.encode(part.tokens, part.view, None)
            _require_finite(states, "states", part.entries)
            place.begin()
            family.remember(states, place)
            return states if wanted is None else states[wanted]

        try:
            return compute(family)
        except NumericalError as error:
            raise _located(error, self._model, compute) from None


def _located(
    error: NumericalError, model: Runnable, compute: Callable[[WatchedFamily], object]
) -> NumericalError:
    """The error with the layer in which it arises; ``compute`` runs a family as it was run."""
    place = first_not_finite(model.family, compute)
    return NumericalError(f"{place}: {error.message}", entries=error.entries, hint=error.hint)


class _Collected:
    """Rows of several micro-batches, brought into the order of the entries."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.rows: Float32 = np.empty((0, 0), np.float32)

    def put(self, where: Array, rows: Float32) -> None:
        """``rows`` ``[n, …]`` at the places ``where`` ``[n]``."""
        if len(where) == self._count and not np.count_nonzero(where[1:] < where[:-1]):
            self.rows = rows  # all of them, in order: nothing to gather
            return
        if len(self.rows) < self._count:
            self.rows = np.empty((self._count, rows.shape[1]), np.float32)
        self.rows[where] = rows


def _require_finite(x: Float32, what: str, entries: Int64) -> None:
    """Raise NumericalError unless all of ``[R, n]``, of these entries of a batch, is finite."""
    bad = rows_not_finite(x)
    if bad:
        found = tuple(entries[bad].tolist())
        raise NumericalError(
            f"the {what} of entry {found[0]} are not all finite numbers",
            entries=found,
            hint="the model's file may be damaged: fetch it again",
        )


def _require_finite_vectors(vectors: Float32, entries: Entries, seqs: Sequence[int]) -> None:
    """Raise NumericalError unless all of ``[S, n]``, of these sequences of a batch, is finite."""
    bad = rows_not_finite(vectors)
    if bad:
        seq = seqs[bad[0]]
        numbers = [n for n, members in enumerate(entries.sets) if seq in members]
        found = tuple(np.flatnonzero(np.isin(entries.set_of, numbers)).tolist())
        raise NumericalError(
            f"what is pooled of sequence {seq} is not all finite numbers, though its states are",
            entries=found,
            hint="the model's file may be damaged (cls, dense_2, dense_3): fetch it again",
        )
