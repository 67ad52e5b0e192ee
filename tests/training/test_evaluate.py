from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")

from training.evaluate import (  # noqa: E402
    PRIOR,
    bigram_loss,
    held_out_loss,
    held_out_passages,
    pass_key_accuracy,
    recall_accuracy,
    story,
)


class Oracle(torch.nn.Module):
    """Knows the next token of every row it is shown, except the token ``wrong``."""

    def __init__(self, diet, n_vocab: int, wrong: int | None = None) -> None:
        super().__init__()
        self.tasks, self.n_vocab, self.wrong = diet.tasks, n_vocab, wrong
        self.rows: dict[bytes, np.ndarray] = {}
        for name in ("text", "pass_key", "recall"):
            setattr(diet.tasks, name, self.note(getattr(diet.tasks, name)))

    def note(self, make):
        def noted(*arguments, **options):
            tokens, weights = make(*arguments, **options)
            self.rows[tokens[:-1].tobytes()] = tokens
            return tokens, weights

        return noted

    def forward(self, tokens):
        rows = np.stack([self.rows[row.numpy().tobytes()] for row in tokens])
        target = torch.from_numpy(rows)[:, 1:]
        logits = torch.nn.functional.one_hot(target, self.n_vocab) * 20.0
        if self.wrong is not None:
            logits[..., self.wrong] = -20.0
        return logits


@pytest.fixture
def oracle(diet, pieces, monkeypatch):
    for name in ("text", "pass_key", "recall"):  # put back when the test ends
        monkeypatch.setattr(diet.tasks, name, getattr(diet.tasks, name))
    return lambda wrong=None: Oracle(diet, pieces.vocab_size(), wrong)


def test_an_oracle_is_always_right(oracle, diet):
    model = oracle()
    assert set(pass_key_accuracy(model, diet, [64], rows=5)["64"].values()) == {1.0}
    assert recall_accuracy(model, diet, [64], rows=5) == {"64": 1.0}
    assert max(held_out_loss(model, diet, rows=2).values()) < 0.01


def test_a_key_with_one_wrong_digit_is_not_found(oracle, diet, pieces):
    model = oracle(wrong=pieces.piece_to_id("7"))
    found = np.mean(list(pass_key_accuracy(model, diet, [64], rows=40)["64"].values()))
    assert 0.45 < found < 0.75  # 0.9 ** 5 = 0.59 of the keys have no 7


def test_story_stops_at_the_end(pieces):
    class Ender(torch.nn.Module):
        def forward(self, tokens):
            token = pieces.eos_id() if tokens.shape[1] >= 9 else pieces.piece_to_id("▁the")
            return torch.nn.functional.one_hot(torch.full(tokens.shape, token), 400).float()

    prompt = "the cat"
    written = story(Ender(), pieces, prompt, 50)
    assert written.startswith(prompt)
    assert len(pieces.encode(written)) + 1 == 9


def test_bigram_loss_is_of_the_pairs_seen(diet, pieces):
    streams = [stream.tokens.tolist() for stream in diet.train.values()]
    pairs = Counter(pair for tokens in streams for pair in pairwise(tokens))
    firsts, seconds = Counter(), Counter()
    for (first, second), count in pairs.items():
        firsts[first] += count
        seconds[second] += count
    total, n_vocab = sum(pairs.values()), pieces.vocab_size()
    losses = bigram_loss(diet, rows=1)
    for name, tokens in held_out_passages(diet, 1).items():
        own = []
        for first, second in pairwise(tokens[0].tolist()):
            alone = (seconds[second] + 1) / (total + n_vocab)
            share = (pairs[first, second] + PRIOR * alone) / (firsts[first] + PRIOR)
            own.append(-np.log(share))
        assert losses[name] == round(np.mean(own), 4)
