"""HellaSwag: which of four endings follows a context, by llama.cpp's definition.

An ending's score is the mean log probability of its tokens, which are those from where the four
texts "context ending" first differ; the best score wins, the first of equal ones. What the four
share is computed once, as tokens of four sequences. See ``hellaswag_score`` in llama.cpp's
tools/perplexity/perplexity.cpp. (Where llama.cpp would leave an ending that all four begin with
without a token, and read past its end, the shared part is taken one token shorter here.)
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from motet import checks
from motet.arrays import Int64
from motet.context import Context
from motet.errors import CapacityError, OptionError, UnsupportedError
from motet.evals.predictions import TokenSpan, log_probabilities, max_positions, require_predictions
from motet.evals.tasks import ENDINGS, Task
from motet.model import Model
from motet.self_extend import BEYOND, AutoExtend, SelfExtend
from motet.tokenizer import Tokenizer

_Z = 1.95996398454
"""Standard deviations that hold 95 % of a normal distribution."""


@dataclass(frozen=True)
class Answer:
    """A model's answer to one task."""

    task: int
    """Its number in the file, from 1."""
    gold: int
    """The right ending."""
    chosen: int
    """The ending of the best score."""
    scores: tuple[float, ...]
    """Mean log probability, in nats, of each ending's own tokens."""


@dataclass(frozen=True)
class HellaSwag:
    """Of the tasks so far."""

    answers: tuple[Answer, ...]
    tokens: int
    """Tokens computed."""

    @property
    def correct(self) -> int:
        return sum(answer.chosen == answer.gold for answer in self.answers)

    @property
    def accuracy(self) -> float:
        """Share of the tasks whose right ending was chosen, 0 to 1."""
        return self.correct / len(self.answers)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the accuracy, by Wilson's score."""
        return wilson(self.correct, len(self.answers))


def wilson(correct: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson 1927), 0 to 1."""
    share, z = correct / count, _Z * _Z / count
    half = z * math.sqrt(count * (4 * share * (1 - share) + z)) / (2 * _Z)
    low, high = (share + z / 2 - half) / (1 + z), (share + z / 2 + half) / (1 + z)
    return max(low, 0.0), min(high, 1.0)


def hellaswag(
    model: Model,
    tasks: Sequence[Task],
    *,
    parallel: int = 16,
    batch: int = 2048,
    self_extend: SelfExtend | AutoExtend | str | None = None,
    ubatch: int = 512,
    split: str = "auto",
    kv_type: str = "auto",
) -> Iterator[HellaSwag]:
    """The running result after every ``parallel`` tasks; the last one is the result.

    ``parallel``: tasks computed together, as four sequences each, in batches of at most ``batch``
    tokens. ``self_extend``: as for ``Model.context``. Of the options only this and ``kv_type``
    change a score. Raises OptionError for an unusable value, CapacityError for a task longer than
    the model's context, UnsupportedError for a model without a vocabulary, that does not say
    how a text goes on, or to which Self-Extend does not apply, all at the call.
    """
    require_predictions(model, "HellaSwag")
    checks.whole("parallel", parallel, 1)
    checks.whole("batch", batch, 1)
    if not tasks:
        raise OptionError("there are no tasks")
    if model.tokenizer is None:
        raise UnsupportedError("the model has no vocabulary, so it cannot tokenize a text")
    most = max_positions(model, self_extend)
    questions = [_question(model, task, most) for task in tasks]
    groups = [questions[i : i + parallel] for i in range(0, len(questions), parallel)]
    context = model.context(
        max_sequences=ENDINGS * min(parallel, len(tasks)),
        max_tokens=max(sum(question.size for question in group) for group in groups),
        self_extend=self_extend,
        context_length=max(question.longest for question in questions),
        ubatch=ubatch,
        split=split,
        kv_type=kv_type,
        checkpoint_bytes=0,
    )
    return _running(context, groups, batch, model.config.n_vocab)


@dataclass(frozen=True)
class _Question:
    """A task in tokens. The last token of an ending predicts nothing, so it is not computed."""

    task: Task
    shared: np.ndarray
    """int64: what the four texts begin with."""
    endings: list[np.ndarray]
    """int64, at least one each."""

    @property
    def size(self) -> int:
        """Tokens to compute."""
        return len(self.shared) + sum(len(ending) - 1 for ending in self.endings)

    @property
    def longest(self) -> int:
        """Positions that the longest of the four texts takes."""
        return len(self.shared) + max(len(ending) - 1 for ending in self.endings)

    def spans(self, first: int) -> Iterator[TokenSpan]:
        """For the sequences ``first`` … ``first`` + 3."""
        count = len(self.shared)
        seqs = tuple(range(first, first + ENDINGS))
        begins = np.array([[ending[0] for ending in self.endings]])
        yield TokenSpan(self.shared[:-1], 0, seqs)
        yield TokenSpan(self.shared[-1:], count - 1, seqs, begins)
        for seq, ending in zip(seqs, self.endings, strict=True):
            yield TokenSpan(ending[:-1], count, seq, ending[1:, None])

    def answer(self, begins: np.ndarray, rests: list[np.ndarray]) -> Answer:
        """From the log probabilities of the endings' first tokens, and of their others."""
        pairs = zip(begins[0], rests, strict=True)
        scores = [float(np.append(begin, rest).mean()) for begin, rest in pairs]
        return Answer(self.task.number, self.task.gold, int(np.argmax(scores)), tuple(scores))


def in_tokens(tokenizer: Tokenizer, task: Task) -> tuple[int, list[Int64]]:
    """How many tokens the four texts begin with in common, and the texts' own.

    Each text has at least one more. Raises OptionError where they have none in common.
    """
    texts = [
        np.array(tokenizer.encode(f"{task.context} {ending}"), np.int64) for ending in task.endings
    ]
    shortest = min(map(len, texts))
    same = np.all([text[: shortest - 1] == texts[0][: shortest - 1] for text in texts], axis=0)
    shared = shortest - 1 if same.all() else int(np.argmin(same))
    if shared == 0:
        raise OptionError(
            f"task {task.number}, line {task.line}: the four texts have no token in common to"
            " begin with, so nothing predicts their first ones",
            hint="give it a longer context",
        )
    return shared, texts


def _question(model: Model, task: Task, most: int) -> _Question:
    """Raises CapacityError where it takes more than ``most`` positions."""
    shared, texts = in_tokens(model.tokenizer, task)
    longest = max(map(len, texts))
    if longest - 1 > most:
        raise CapacityError(
            f"task {task.number}, line {task.line}, takes {longest - 1} positions, and the"
            f" model's context is {most} tokens",
            hint=f"leave it out of the file, {BEYOND}",
        )
    return _Question(task, texts[0][:shared], [text[shared:] for text in texts])


def _running(
    context: Context, groups: list[list[_Question]], batch: int, n_vocab: int
) -> Iterator[HellaSwag]:
    answers: list[Answer] = []
    tokens = 0
    for group in groups:
        context.memory.clear()
        spans = [span for i, question in enumerate(group) for span in question.spans(ENDINGS * i)]
        logs = log_probabilities(context, spans, batch, n_vocab)
        for i, question in enumerate(group):
            begins, *rests = logs[i * (1 + ENDINGS) : (i + 1) * (1 + ENDINGS)]
            answers.append(question.answer(begins, rests))
            tokens += question.size
        yield HellaSwag(tuple(answers), tokens)
