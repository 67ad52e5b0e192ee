import numpy as np
import pytest

from motet.batch import Batch
from motet.errors import CapacityError, OptionError
from motet.evals import likelihood
from motet.evals.likelihood import Continuation, Question, continuations
from motet.sampling import token_logprobs
from tests.evals.models import MODELS, loaded

SHOTS = [7, *range(20, 60)]
"""What some begin with: more than is worth keeping."""
QUESTIONS: list[Question] = [
    ([*SHOTS, 5, 6], [9]),
    ([*SHOTS, 5, 6], [10]),
    ([*SHOTS, 5, 6], [9, 11, 12]),  # the first goes on
    ([*SHOTS, 5, 6, 9], [11, 12]),  # the same text, of which less is asked
    ([*SHOTS, 8], [9, 10, 11]),
    ([*SHOTS, 5, 6], [9]),  # again
    ([1], [2]),
    ([1], [2, 3, 4]),
    ([1, 2], [3, 5]),
    ([3], [4, 4, 4, 4]),
    (SHOTS[:20], SHOTS[20:]),
    (SHOTS[:30], [1]),
]


def answers(model, questions=QUESTIONS, **options) -> list[Continuation]:
    found = dict(pair for some in continuations(model, questions, **options) for pair in some)
    assert sorted(found) == [*range(len(questions))]
    return [found[number] for number in range(len(questions))]


def alone(model, question: Question) -> tuple[np.ndarray, bool]:
    """In a context of its own."""
    context, following = question
    tokens = [*context, *following]
    batch = Batch()
    batch.extend(tokens[:-1], 0, logits="all")
    logits = model.context(max_tokens=len(tokens)).decode(batch).logits[len(context) - 1 :]
    best = logits.argmax(axis=1).tolist()
    return token_logprobs(logits, np.array(following)), best == [*following]


@pytest.mark.parametrize("name", MODELS)
def test_each_is_what_it_is_alone_however_many_are_computed_together(name):
    model = loaded(name)
    vocabulary = model.config.n_vocab
    questions = [
        ([token % vocabulary for token in given], [token % vocabulary for token in following])
        for given, following in QUESTIONS
    ]
    for contexts in (1, 2, 16):
        for question, answer in zip(
            questions, answers(model, questions, contexts=contexts), strict=True
        ):
            logprobs, greedy = alone(model, question)
            assert np.array_equal(answer.logprobs, logprobs)
            assert answer.greedy == greedy


def test_what_the_model_would_say_is_greedy():
    model = loaded("motet-tiny")
    context = model.tokenizer.encode("Once upon a time")
    said = []
    for _ in range(5):
        batch = Batch()
        batch.extend([*context, *said], 0)
        said.append(int(model.context().decode(batch).logits[-1].argmax()))
    right, wrong = answers(model, [(context, said), (context, [*said[:-1], said[0]])])
    assert right.greedy
    assert not wrong.greedy


def test_what_texts_begin_with_is_computed_once(monkeypatch):
    """The shots by the first batch alone, and a question's endings in one batch."""
    model = loaded("motet-tiny")
    computed = []
    decode = likelihood.Context.decode

    def counted(self, batch):
        computed.append(len(batch))
        return decode(self, batch)

    monkeypatch.setattr(likelihood.Context, "decode", counted)
    questions = [([*SHOTS, 100 + n], [5, k]) for n in range(6) for k in range(4)]
    answers(model, questions, contexts=1)
    # Each has its own last token, and one of the endings' first; the others end there.
    assert sum(computed) == len(SHOTS) + 6 * 2


def test_large_batches_and_vocabularies_are_computed_in_parts(monkeypatch):
    model = loaded("motet-tiny")
    whole = answers(model)
    monkeypatch.setattr("motet.evals.predictions.LOGIT_VALUES", 3 * model.config.n_vocab)
    monkeypatch.setattr(likelihood, "TOGETHER", 50)
    for one, other in zip(whole, answers(model), strict=True):
        assert np.array_equal(one.logprobs, other.logprobs)
        assert one.greedy == other.greedy


def test_what_can_not_be_asked_is_refused():
    model = loaded("motet-tiny")
    with pytest.raises(OptionError, match="context of question 1 has no tokens"):
        continuations(model, [([1], [2]), ([], [2])])
    with pytest.raises(OptionError, match="continuation of question 0 has no tokens"):
        continuations(model, [([1], [])])
    with pytest.raises(CapacityError, match="takes 300 positions"):
        continuations(model, [([1] * 300, [2])])
    with pytest.raises(OptionError, match="contexts is 0"):
        continuations(model, [([1], [2])], contexts=0)
    assert list(continuations(model, [])) == []
