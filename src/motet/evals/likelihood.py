"""How likely given continuations are; what texts begin with in common is computed once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from motet import checks
from motet.arrays import Float64, Int64
from motet.batch import Batch
from motet.context import Context
from motet.errors import CannotRewind, CapacityError, OptionError
from motet.evals.predictions import TokenSpan, max_positions, predictions, require_predictions
from motet.model import Model
from motet.self_extend import BEYOND, AutoExtend, SelfExtend

TOGETHER = 8192
"""Tokens of a batch, and at once."""
_WORTH = 16
"""Tokens that a batch has to have in common for them to be kept for the next one."""

Question = tuple[Sequence[int], Sequence[int]]
"""Token ids of a context and of what continues it, at least one each."""


@dataclass(frozen=True)
class Continuation:
    """What a model makes of one."""

    logprobs: Float64
    """Natural logarithms, of each of its tokens."""
    greedy: bool
    """Whether each of them is the likeliest where it stands."""


def continuations(
    model: Model,
    questions: Sequence[Question],
    *,
    contexts: int = 16,
    self_extend: SelfExtend | AutoExtend | str | None = None,
    ubatch: int = 512,
    kv_type: str = "auto",
) -> Iterator[list[tuple[int, Continuation]]]:
    """Each question's number and answer, a batch of them at a time, in an order of their own.

    ``contexts``: as many are computed together, with all that continues each. Texts are taken in
    the order of their tokens, so that those that begin alike come together. Of the options only
    ``self_extend`` and ``kv_type`` change an answer. Raises OptionError for an unusable value,
    CapacityError for a text longer than the model's context, UnsupportedError for a model that
    does not say how a text goes on, or to which Self-Extend does not apply, all at the call;
    NumericalError while it computes.
    """
    require_predictions(model, "likelihood")
    checks.whole("contexts", contexts, 1)
    most = max_positions(model, self_extend)
    trees = [_Tree(texts) for texts in _batches(_texts(questions, most), contexts)]
    if not trees:
        return iter(())
    context = model.context(
        max_sequences=1 + max(tree.leaves for tree in trees),
        max_tokens=max(tree.shared for tree in trees) + max(tree.size for tree in trees),
        context_length=max(len(text.tokens) for tree in trees for text in tree.texts),
        self_extend=self_extend,
        ubatch=ubatch,
        kv_type=kv_type,
        checkpoint_bytes=0,
    )
    return _answers(context, trees, model.config.n_vocab)


@dataclass(frozen=True)
class _Text:
    """A context and what continues it."""

    tokens: tuple[int, ...]
    questions: list[tuple[int, int]]
    """Numbers of those who ask, and where their continuations begin."""
    logs: Float64
    """Of each token, as far as it is known."""
    best: Int64
    """The likeliest token in each place, likewise."""

    @property
    def asked(self) -> int:
        """The first position of a continuation."""
        return min(start for _, start in self.questions)

    def answers(self) -> Iterator[tuple[int, Continuation]]:
        for number, start in self.questions:
            greedy = np.array_equal(self.best[start:], self.tokens[start:])
            yield number, Continuation(self.logs[start:], greedy)


def _texts(questions: Sequence[Question], most: int) -> list[_Text]:
    """In the order of their tokens, each once. Raises as ``continuations`` does."""
    found: dict[tuple[int, ...], _Text] = {}
    for number, (given, following) in enumerate(questions):
        if not given or not following:
            part = "continuation" if given else "context"
            raise OptionError(f"the {part} of question {number} has no tokens")
        tokens = (*given, *following)
        if len(tokens) - 1 > most:
            raise CapacityError(
                f"question {number} takes {len(tokens) - 1} positions, and the model's context is"
                f" {most} tokens",
                hint=f"cut it, {BEYOND}",
            )
        if tokens not in found:
            size = len(tokens)
            found[tokens] = _Text(tokens, [], np.zeros(size), np.zeros(size, np.int64))
        found[tokens].questions.append((number, len(given)))
    return [found[tokens] for tokens in sorted(found)]


def _batches(texts: list[_Text], contexts: int) -> Iterator[list[_Text]]:
    batch: list[_Text] = []
    known: set[tuple[int, ...]] = set()
    tokens = 0
    for text in texts:
        given = text.tokens[: text.asked]
        new = len(text.tokens) - (_common(batch[-1].tokens, text.tokens) if batch else 0)
        if batch and (len(known | {given}) > contexts or tokens + new > TOGETHER):
            yield batch
            batch, known, tokens, new = [], set(), 0, len(text.tokens)
        batch.append(text)
        known.add(given)
        tokens += new
    if batch:
        yield batch


def _common(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """How many tokens both begin with."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


@dataclass
class _Run:
    """Tokens that some texts of a tree have in the same places, and no others of it."""

    texts: list[_Text]
    start: int
    end: int
    """Positions."""
    seqs: tuple[int, ...] = ()

    def spans(self) -> Iterator[TokenSpan]:
        """Of the tokens after those of which nothing is asked the next ones are targets."""
        tokens = np.array(self.texts[0].tokens[self.start : self.end], np.int64)
        asked = max(min(text.asked for text in self.texts) - 1 - self.start, 0)
        last = len(tokens) - 1
        branches = sorted({t.tokens[self.end] for t in self.texts if len(t.tokens) > self.end})
        if tokens[:asked].size:
            yield TokenSpan(tokens[:asked], self.start, self.seqs)
        if asked < last:
            yield TokenSpan(
                tokens[asked:last], self.start + asked, self.seqs, tokens[asked + 1 :, None]
            )
        if asked <= last:
            yield TokenSpan(tokens[last:], self.end - 1, self.seqs, np.array([branches], np.int64))

    def take(self, span: TokenSpan, logs: Float64, best: Int64) -> None:
        """``logs`` ``[T, K]``: of a span's targets; ``best`` ``[T]``: the likeliest tokens."""
        first = span.start + 1
        assert span.targets is not None
        for text in self.texts:
            stop = min(first + len(best), len(text.tokens))
            rows = np.arange(max(stop - first, 0))
            following = np.array(text.tokens[first:stop], np.int64)
            columns = (span.targets[rows] == following[:, None]).argmax(axis=1)
            text.logs[first:stop] = logs[rows, columns]
            text.best[first:stop] = best[rows]


@dataclass
class _Tree:
    """Texts that are computed together."""

    texts: list[_Text]
    """In the order of their tokens."""
    leaves: int = 0
    """Sequences that they take."""
    runs: list[_Run] = field(default_factory=list[_Run])
    """Those of one depth after the other: tokens that some share, and by which these part, are
    computed one after the other in any case, so the more others beside them the better."""

    def __post_init__(self) -> None:
        asked = min(text.asked for text in self.texts)
        shared = min(_common(self.texts[0].tokens, self.texts[-1].tokens), asked - 1)
        self.shared = shared if shared >= _WORTH else 0
        """Tokens that all begin with, and of which nothing is asked; of too few none are meant."""
        depths = self._grow(self.texts, self.shared, 0)
        self.runs = [run for _, run in sorted(depths, key=lambda found: found[0])]

    @property
    def size(self) -> int:
        """Tokens to compute, beside those that all share."""
        return sum(run.end - run.start for run in self.runs)

    def _grow(self, texts: list[_Text], start: int, depth: int) -> Iterator[tuple[int, _Run]]:
        """The runs, and how deep they are, of texts that are the same up to ``start``."""
        longest = max(len(text.tokens) for text in texts)
        run = _Run(texts, start, min(_common(texts[0].tokens, texts[-1].tokens), longest - 1))
        first = self.leaves
        branches: dict[int, list[_Text]] = {}
        for text in texts:
            if len(text.tokens) - 1 > run.end:  # the last token is asked for, and not computed
                branches.setdefault(text.tokens[run.end], []).append(text)
        for branch in branches.values():
            yield from self._grow(branch, run.end, depth + 1)
        if not branches:
            self.leaves += 1
        run.seqs = tuple(range(first, self.leaves))
        if run.end > start:
            yield depth, run


def _answers(
    context: Context, trees: list[_Tree], n_vocab: int
) -> Iterator[list[tuple[int, Continuation]]]:
    trunk = _Trunk(context)
    for tree in trees:
        trunk.give(tree)
        spans = [(run, span) for run in tree.runs for span in run.spans()]
        asked = [(run, span) for run, span in spans if span.targets is not None]
        made = predictions(context, [span for _, span in spans], TOGETHER, n_vocab)
        for (run, span), (logs, best) in zip(asked, made, strict=True):
            run.take(span, logs, best)
        yield [answer for text in tree.texts for answer in text.answers()]


class _Trunk:
    """What a batch begins with, in a sequence of its own: later ones may begin so too."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._seq = context.max_sequences - 1
        self._held: tuple[int, ...] = ()

    def give(self, tree: _Tree) -> None:
        """Let all of the tree's sequences begin so."""
        memory = self._context.memory
        for seq in range(self._seq):
            memory.remove(seq)
        wanted = tree.texts[0].tokens[: tree.shared]
        kept = _common(self._held, wanted)
        try:
            memory.remove(self._seq, start=kept)
        except CannotRewind:  # such memory goes back to its beginning alone
            memory.remove(self._seq)
            kept = 0
        if kept < len(wanted):
            batch = Batch()
            batch.extend(wanted[kept:], kept, self._seq, "none")
            self._context.decode(batch)
        self._held = wanted
        for seq in range(tree.leaves if wanted else 0):
            memory.copy(self._seq, seq)
