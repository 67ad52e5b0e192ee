import math
from dataclasses import replace

import numpy as np
import pytest

from motet.batch import Batch
from motet.errors import CapacityError, NumericalError, OptionError, UnsupportedError
from motet.evals.hellaswag import HellaSwag, hellaswag, wilson
from motet.evals.tasks import Task, read_tasks
from motet.model import Model
from motet.sampling import token_logprobs
from tests.evals.models import MODELS, loaded
from tests.shared import SHARED, needs_shared

CONTEXTS = [
    "Once upon a time there was a little girl named Lily. She",
    "The dog",
    "Tim and Sue went to the park to play with the big red ball that Mom gave them. Then they",
    "One day, a bird sat in a tree and looked at the sun. It was",
]
ENDINGS = [
    "loved to play outside in the sunshine with all of her toys and her friends.",
    "ran",
    "was very happy and",
    "was very happy and went home to eat some soup with the cat.",
    "x",
    "did not know what to do, so he asked his mom for help.",
]
TASKS = [
    Task(
        i + 1, CONTEXTS[i % 4], i % 4, tuple(ENDINGS[(i + k * (1 + i // 6)) % 6] for k in range(4))
    )
    for i in range(20)
]


def last(model, tasks=TASKS, **options) -> HellaSwag:
    *_, result = hellaswag(model, tasks, **options)
    return result


def by_hand(model, task: Task) -> list[float]:
    """Each text alone, in a context of its own."""
    texts = [model.tokenizer.encode(f"{task.context} {ending}") for ending in task.endings]
    shared = 0
    while shared < min(map(len, texts)) - 1 and len({text[shared] for text in texts}) == 1:
        shared += 1
    scores = []
    for text in texts:
        batch = Batch()
        batch.extend(text[:-1], 0, logits="all")
        logits = model.context(max_tokens=len(text)).decode(batch).logits[shared - 1 :]
        scores.append(float(token_logprobs(logits, np.array(text[shared:])).mean()))
    return scores


@pytest.mark.parametrize("name", MODELS)
def test_the_definition(name):
    model = loaded(name)
    for answer, task in zip(last(model).answers, TASKS, strict=True):
        scores = by_hand(model, task)
        assert answer.scores == tuple(scores)
        assert (answer.task, answer.gold) == (task.number, task.gold)
        assert answer.chosen == scores.index(max(scores))


@pytest.mark.parametrize("split", ["simple", "equal", "sequence"])
@pytest.mark.parametrize("name", MODELS)
def test_every_way_to_batch_gives_the_same(name, split):
    model = loaded(name)
    alone = last(model, parallel=1)
    for parallel, batch, ubatch in [(16, 2048, 512), (16, 2048, 1), (3, 2048, 7), (20, 50, 64)]:
        options = {"parallel": parallel, "batch": batch, "ubatch": ubatch, "split": split}
        assert last(model, **options) == alone


def test_large_vocabularies_are_scored_in_parts(monkeypatch):
    model = loaded("motet-tiny")
    whole = last(model)
    monkeypatch.setattr("motet.evals.predictions.LOGIT_VALUES", 3 * model.n_vocab)
    assert last(model) == whole


def test_running_results():
    model = loaded("motet-tiny")
    results = list(hellaswag(model, TASKS, parallel=8))
    assert [len(result.answers) for result in results] == [8, 16, 20]
    assert results[0].answers == results[-1].answers[:8]
    assert results[-1].correct == sum(a.chosen == a.gold for a in results[-1].answers)
    assert results[-1].accuracy == results[-1].correct / 20
    assert results[-1].interval == wilson(results[-1].correct, 20)


def test_what_is_shared_is_computed_once():
    model = loaded("motet-tiny")
    texts = [model.tokenizer.encode(f"{CONTEXTS[0]} {e}") for e in ("a cat", "a dog", "a", "the")]
    shared = len(model.tokenizer.encode(CONTEXTS[0]))
    assert {tuple(text[:shared]) for text in texts} == {tuple(texts[0][:shared])}
    task = Task(1, CONTEXTS[0], 0, ("a cat", "a dog", "a", "the"))
    assert last(model, [task]).tokens == shared + sum(len(text) - shared - 1 for text in texts)


def test_equal_endings_tie_and_the_first_wins():
    task = Task(1, CONTEXTS[0], 2, ("ran home",) * 4)
    (answer,) = last(loaded("motet-tiny"), [task]).answers
    assert len(set(answer.scores)) == 1
    assert answer.chosen == 0


def test_wilson_by_the_textbook():
    z = 1.959964
    for correct, count in [(0, 10), (3, 10), (81, 263), (10, 10)]:
        p, n = correct / count, count
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        assert wilson(correct, count) == pytest.approx((middle - half, middle + half), abs=1e-7)
    assert wilson(0, 10)[0] == 0 and wilson(10, 10)[1] == 1


def test_a_task_that_is_too_long_is_named_before_anything_is_computed():
    model = loaded("motet-tiny")
    long = replace(TASKS[3], context="red ball " * 300)
    with pytest.raises(CapacityError, match=r"task 4, line 19, takes \d+ positions, .* 256 tokens"):
        hellaswag(model, [*TASKS[:3], long])


def test_without_attention_none_is_too_long():
    task = replace(TASKS[3], context="red ball " * 300)
    assert len(last(loaded("mamba"), [task]).answers) == 1


def test_one_that_just_fits():
    model = loaded("motet-tiny")
    endings = ("ran", "sat", "ate", "x")

    def positions(count: int) -> int:
        return max(len(model.tokenizer.encode("a " * count + end)) - 1 for end in endings)

    count = next(n for n in range(1, 1000) if positions(n + 1) > model.config.context_length)
    assert positions(count) == model.config.context_length
    task = Task(1, "a " * (count - 1) + "a", 0, endings)
    assert len(last(model, [task]).answers) == 1
    with pytest.raises(CapacityError):
        hellaswag(model, [replace(task, context=f"a {task.context}")])


@pytest.mark.parametrize(
    ("tasks", "options", "message"),
    [
        ([], {}, "no tasks"),
        (TASKS, {"parallel": 0}, "parallel is 0"),
        (TASKS, {"batch": 0}, "batch is 0"),
        (TASKS, {"ubatch": 0}, "ubatch is 0"),
        (TASKS, {"split": "even"}, "split is 'even'"),
    ],
)
def test_unusable_options_are_refused_at_the_call(tasks, options, message):
    with pytest.raises(OptionError, match=message):
        hellaswag(loaded("motet-tiny"), tasks, **options)


class Stub:
    """The tiny model with one thing changed."""

    def __init__(self, **changes) -> None:
        self.changes = changes

    def __getattr__(self, name):
        return self.changes[name] if name in self.changes else getattr(loaded("motet-tiny"), name)


def test_without_a_vocabulary():
    with pytest.raises(UnsupportedError, match="no vocabulary"):
        hellaswag(Stub(tokenizer=None), TASKS)  # type: ignore[arg-type]


class BytesWithoutBos:
    def encode(self, text: str) -> list[int]:
        return list(text.strip().encode())


def test_nothing_before_the_endings():
    task = Task(2, "", 0, ("a", "b", "c", "d"))
    with pytest.raises(OptionError, match=r"task 2, line 7: .* no token in common"):
        hellaswag(Stub(tokenizer=BytesWithoutBos()), [task])  # type: ignore[arg-type]


def test_logits_that_are_no_numbers(monkeypatch):
    model = loaded("motet-tiny")
    family = model.family

    class Broken:
        caches, blocks, pooled_heads = family.caches, (), family.pooled_heads

        def forward(self, tokens, view, wanted):
            return np.full((len(wanted), model.config.d_model), np.nan, np.float32)

        def head(self, hidden):
            return np.full((len(hidden), model.n_vocab), np.nan, np.float32)

    monkeypatch.setattr(model, "family", Broken())
    with pytest.raises(NumericalError, match=r"the final norm .* not all finite numbers"):
        last(model)


# By llama.cpp (of llama-cpp-python 0.3.36), which makes the same choice in all 2,000 tasks:
# python benchmarks/peer_hellaswag.py ../shared/data/stories260K/stories260K-F32.gguf
# ../shared/data/eval/hellaswag_val_2000.txt --tasks 3
LLAMA_CPP = [
    (-2.833372648408251, -4.261329016372797, -3.4091104878790333, -2.689759570592629),
    (-1.7403921388496444, -2.9896856593108883, -2.65460535860668, -2.17258551706206),
    (-2.950358662999884, -2.9367366857823116, -2.9146982596873565, -2.9155640491101074),
]


@needs_shared
def test_stories_as_in_llama_cpp():
    model = Model.load(SHARED / "stories260K" / "stories260K-F32.gguf")
    text = (SHARED / "eval" / "hellaswag_val_2000.txt").read_text("utf-8")
    result = last(model, read_tasks(text, "the file")[:3])
    for answer, scores in zip(result.answers, LLAMA_CPP, strict=True):
        assert answer.scores == pytest.approx(scores, abs=1e-5)
