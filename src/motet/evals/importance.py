"""Importance matrices: which columns of a model's matrices meet the largest inputs over a text.

A model is run on kernels that look at every input of a linear layer, and compute as always.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from motet import checks
from motet.arrays import Float32, Float64, Int32, Int64, UInt8
from motet.batch import Batch
from motet.conversion.importance import Entry, ImportanceMatrix
from motet.conversion.retyped import Retyped
from motet.errors import NumericalError, OptionError, UnsupportedError
from motet.evals.predictions import max_positions
from motet.hub import local_path
from motet.kernels import CPU
from motet.kernels.interface import Rows
from motet.model import Model
from motet.models.tensors import EMBEDDING, OUTPUT
from motet.opening import open_model
from motet.runnable import Decodes, Encodes, EncodesForDecoding
from motet.weights.formats import TensorType
from motet.weights.source import ModelSource

CHUNK = 512
"""Default tokens of a chunk, where the model was trained for so many."""
_SLICE = 64
"""Tokens decoded at once where all their logits are computed."""


def importance_matrix(
    path: str | Path,
    text: str,
    *,
    ctx: int | None = None,
    chunks: int | None = None,
    process_output: bool = False,
    dataset: str = "",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportanceMatrix:
    """The importance of each matrix's columns over ``text``, the same for any ``threads``.

    The text is cut into chunks of ``ctx`` tokens (by default 512, or the trained length if that is
    less), of which BOS stands in for the first where the model wants one; a rest is left out. Of an
    encoder-decoder a chunk's first half is encoded, and the second decoded. ``chunks``: at most so
    many. ``process_output``: also of the output head. ``dataset``: the text's name, for the file.
    ``progress`` is called with the chunks done and the chunks in all.

    Raises OptionError for too short a text or an unusable value, and what ``Model.load`` does.
    """
    ctx = checks.optional_whole("ctx", ctx, 4)
    chunks = checks.optional_whole("chunks", chunks, 1)
    with open_model(local_path(path)) as source:
        watched = _Watched(source)
        kernels = _Observer(watched, checks.optional_whole("threads", threads, 1))
        model = Model(watched, kernels)
        if model.tokenizer is None:
            raise UnsupportedError(f"{path}: has no vocabulary, so it cannot tokenize a text")
        tokens = model.tokenizer.encode(text, add_special=True, parse_special=False)
        size = ctx or min(CHUNK, max_positions(model))
        table = _table(model, tokens, size, chunks)
        for done, chunk in enumerate(table):
            _run(model, chunk, process_output)
            if progress is not None:
                progress(done + 1, len(table))
    entries = {
        name: entry
        for name, entry in kernels.entries().items()
        if process_output or name not in (EMBEDDING, OUTPUT)
    }
    return ImportanceMatrix(entries, (dataset,), len(table), size)


def _table(model: Model, tokens: Sequence[int], ctx: int, chunks: int | None) -> Int64:
    """Chunks of the text, ``[n, ctx]``."""
    most = max_positions(model)
    if ctx > most:
        raise OptionError(f"ctx is {ctx}, but the model was trained for {most}")
    count = min(len(tokens) // ctx, chunks or len(tokens))
    if count == 0:
        raise OptionError(
            f"the text has {len(tokens)} tokens, and one chunk takes {ctx}",
            hint="use a longer text or a smaller ctx",
        )
    table = np.array(tokens[: count * ctx], np.int64).reshape(count, ctx)
    if model.tokenizer is not None and model.tokenizer.add_bos:
        table[:, 0] = model.tokenizer.bos
    return table


def _run(model: Model, chunk: Int64, logits: bool) -> None:
    """Compute all of a chunk, in every layer."""
    family = model.family
    whole = isinstance(family, Encodes)
    both = isinstance(family, EncodesForDecoding)
    # States that are pooled are computed in the last layer too, and have no logits.
    pooling = "none" if both else "mean"
    context = model.context(
        max_tokens=len(chunk), context_length=len(chunk), checkpoint_bytes=0, pooling=pooling
    )
    batch = Batch()
    if whole:
        encoded = chunk[: len(chunk) // 2] if both else chunk
        batch.extend(encoded, 0)
        context.encode(batch)
        if not both:
            return
        start = model.config.decoder_start
        assert start is not None, "of every encoder-decoder"
        chunk = np.concatenate(([start], chunk[len(encoded) : -1]))
    assert isinstance(family, Decodes)
    step = _SLICE if logits or both else len(chunk)
    for first in range(0, len(chunk), step):
        batch = Batch()
        batch.extend(chunk[first : first + step], first, logits="all" if logits or both else "last")
        context.decode(batch)


@dataclass
class _Sums:
    """Of one tensor: sums of squares ``[matrices, columns]``, and how many inputs each had."""

    squares: Float64
    counts: Int64
    apart: bool = False
    """Whether its matrices are experts, which see inputs of their own."""


class _Watched(Retyped):
    """A source that remembers which rows were read last."""

    def __init__(self, source: ModelSource) -> None:
        super().__init__(source, {}, CPU(1))
        self.last = "", 0
        """A tensor's name, and the last row that was read of it."""

    def read_rows(self, name: str, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        self.last = name, last - 1
        return super().read_rows(name, first, last, buffer)


class _Observer(CPU):
    """Kernels that add up the squares of what comes into each matrix of a source."""

    def __init__(self, source: _Watched, threads: int | None) -> None:
        super().__init__(threads)
        self._source = source
        self._places: dict[int, tuple[Any, str, int]] = {}
        """By a matrix's identity: the matrix, its tensor's name, and which of its matrices it is;
        -1 for a part of one that has the same input as the first."""
        self._sums: dict[str, _Sums] = {}

    def entries(self) -> dict[str, Entry]:
        """What was seen, by tensor. Raises NumericalError for what is no finite number."""
        entries: dict[str, Entry] = {}
        for name, sums in self._sums.items():
            if not sums.counts.any():
                continue
            with np.errstate(over="ignore"):
                squares = sums.squares.astype(np.float32)
            if not np.isfinite(squares).all():
                raise NumericalError(f"inputs of {name} are too large, or no numbers")
            if sums.apart:
                entries[name] = Entry(squares, sums.counts)
            else:
                entries[name] = Entry(squares.reshape(1, -1), sums.counts[:1])
        return entries

    def pack(self, raw: Rows, type: TensorType, rows: int, columns: int, scale: float = 1.0) -> Any:
        matrix = super().pack(raw, type, rows, columns, scale)
        name, last = self._source.last
        info = self._source.tensors[name]
        count, place = 1, -1 if name in self._sums else 0
        if len(info.shape) > 2:
            each, first = info.shape[-2], last + 1 - rows
            count, place = info.rows // each, -1 if first % each else first // each
        if name not in self._sums:
            self._sums[name] = _Sums(np.zeros((count, columns)), np.zeros(count, np.int64))
        self._places[id(matrix)] = matrix, name, place
        return matrix

    def linear(
        self, x: Float32, *weights: Any, biases: Sequence[Float32 | None] = ()
    ) -> tuple[Float32, ...]:
        squares = _squares(x)
        for weight in weights:
            self._add(weight, squares, len(x))
        return super().linear(x, *weights, biases=biases)

    def head_linear(
        self, x: Float32, weights: Sequence[Any], before: Float32 | None = None
    ) -> Float32:
        for head, weight in enumerate(weights):
            self._add(weight, _squares(x[:, head]), len(x))
        return super().head_linear(x, weights, before)

    def experts(
        self,
        x: Float32,
        ids: Int32,
        weights: Float32,
        gate: Sequence[Any] | None,
        up: Sequence[Any],
        down: Sequence[Any],
        activation: str,
        biases: Sequence[Float32] = (),
    ) -> Float32:
        for expert in np.unique(ids):
            own = np.ascontiguousarray(x[(ids == expert).any(axis=1)])
            added = [bias[expert] for bias in biases[:2]]
            (ups,) = super().linear(own, up[expert], biases=added[1:])
            if gate is None:
                between = super().activate(ups, activation)
            else:
                (gates,) = super().linear(own, gate[expert], biases=added[:1])
                between = super().gated(gates, ups, activation)
                self._add(gate[expert], _squares(own), len(own), apart=True)
            for weight, seen in ((up, own), (down, between)):
                self._add(weight[expert], _squares(seen), len(seen), apart=True)
        return super().experts(x, ids, weights, gate, up, down, activation, biases)

    def _add(self, weight: Any, squares: Float64, count: int, apart: bool = False) -> None:
        _, name, place = self._places[id(weight)]
        if place < 0:
            return
        sums = self._sums[name]
        sums.squares[place] += squares
        sums.counts[place] += count
        sums.apart = sums.apart or apart


def _squares(x: Float32) -> Float64:
    """Of each column, the sum."""
    return np.einsum("ij,ij->j", x, x, dtype=np.float64)
