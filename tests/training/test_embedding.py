"""The tiny embedding model: its pairs, its vocabulary, and the file against transformers."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")

from gguf import GGMLQuantizationType, GGUFReader  # noqa: E402

from training import embedding  # noqa: E402
from training.bert import Bert, BertConfig  # noqa: E402
from training.embedding import SOURCES, Pairs, train_step  # noqa: E402
from training.export import write_model  # noqa: E402
from training.pairs import STORIES, padded, split_anew  # noqa: E402
from training.retrieval import Retrieval  # noqa: E402
from training.texts import Text  # noqa: E402
from training.train import make_optimizer  # noqa: E402
from training.wordpiece import SPECIAL, add_wordpiece, make_tokenizer, train_wordpiece  # noqa: E402

SYLLABLES = ["ka", "lo", "mi", "ru", "te", "sho", "ban", "del", "fip", "gor"]


@pytest.fixture(scope="module")
def tales() -> list[Text]:
    """Each document has words of its own among common ones."""
    rng = np.random.default_rng(0)

    def tale() -> str:
        own = ["".join(rng.choice(SYLLABLES, 3)) for _ in range(4)]
        words = [*own, *own, "the", "a", "was", "and", "saw", "then"]
        return " ".join(" ".join(rng.choice(words, 8)).capitalize() + "." for _ in range(24))

    return [Text(name, 0, "", [tale() for _ in range(12)], [tale()]) for name in SOURCES]


@pytest.fixture(scope="module")
def split(tales) -> list[Text]:
    return split_anew(tales, stories=4, passages=6)


@pytest.fixture(scope="module")
def wordpieces(split) -> list[str]:
    return train_wordpiece(split, size=400)


@pytest.fixture(scope="module")
def pairs(split, wordpieces) -> Pairs:
    return Pairs(split, make_tokenizer(wordpieces), seed=3)


@pytest.fixture
def fresh(wordpieces) -> Bert:
    torch.manual_seed(0)
    return Bert(BertConfig(len(wordpieces), 256, d_model=32, n_layers=2, d_ff=64)).eval()


def test_split_holds_out_what_it_was_asked_to(tales, split):
    held = {text.name: text.held_out for text in split}
    assert len(held[STORIES]) == 4
    assert sum(map(len, held.values())) == 10
    for text in split:
        assert not set(text.train) & set(text.held_out)
    stories = next(text for text in tales if text.name == STORIES)
    kept = next(text for text in split if text.name == STORIES)
    assert sorted(kept.train + kept.held_out) == sorted(stories.train + stories.held_out)


def test_vocabulary_is_berts(split, wordpieces):
    assert wordpieces[:5] == SPECIAL
    assert len(set(wordpieces)) == len(wordpieces) <= 400
    assert train_wordpiece(split, size=400) == wordpieces
    encoded = make_tokenizer(wordpieces).encode("The KALO-mi,  wäs ☃").tokens
    assert encoded[0] == "[CLS]" and encoded[-2:] == ["[UNK]", "[SEP]"]
    assert "".join(encoded[1:-2]).replace("##", "") == "thekalo-mi,was"


def test_pairs_are_of_one_document_and_swapped_alike(pairs, monkeypatch):
    first, again, other = (pairs.batch(step) for step in (5, 5, 6))
    assert np.array_equal(first[0], again[0])
    assert first[0].shape != other[0].shape or not np.array_equal(first[0], other[0])
    monkeypatch.setattr(embedding, "SWAPPED", 0.0)
    plain, _ = pairs.batch(5)
    monkeypatch.setattr(embedding, "SWAPPED", 1.0)
    swapped, _ = pairs.batch(5)
    for rows in (plain, swapped):
        for a, b in zip(*np.split(rows, 2), strict=True):
            documents = [d for text in pairs.documents.values() for d in text]
            shared = [{i for s in d for i in s} for d in documents]
            holds = [{*a[a > 4]} | {*b[b > 4]} <= ids for ids in shared]
            assert any(holds) or rows is swapped
    becomes = pairs.swaps.draw(np.random.default_rng(1))
    assert sorted(becomes) == list(range(len(becomes)))
    assert (becomes[: len(SPECIAL)] == np.arange(len(SPECIAL))).all()


def test_retrieval_knows_a_perfect_model_from_a_constant_one(split, wordpieces):
    retrieval = Retrieval(split, make_tokenizer(wordpieces))

    class Constant(torch.nn.Module):
        def forward(self, tokens, real):
            return torch.ones(len(tokens), 4)

    score = retrieval.of_model(Constant())
    assert score["stories"] == {"top_1": 0.0, "mrr": 0.1}
    assert retrieval.of_words(weighted=True)["books"]["top_1"] > 0.8  # words of its own


def test_padding_changes_nothing(fresh):
    tokens = torch.tensor([[2, 9, 7, 3]])
    more = torch.cat([tokens, torch.zeros(1, 3, dtype=torch.long)], 1)
    alone = fresh(tokens, torch.ones(1, 4, dtype=torch.bool))
    assert (alone - fresh(more, torch.arange(7)[None] < 4)).abs().max() < 1e-5


def test_a_few_steps_lower_the_loss(fresh, pairs):
    optimizer = make_optimizer(fresh)
    losses = [train_step(fresh, optimizer, pairs, 60, 1000) for _ in range(8)]
    assert losses[-1] < losses[0] - 0.1


def test_exported_file_computes_what_transformers_computes(fresh, wordpieces, tmp_path: Path):
    pytest.importorskip("transformers", reason="the oracle is not installed")
    from tests.training import oracles

    for parameter in fresh.parameters():  # so that biases, norms and positions matter
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    path = tmp_path / "model.gguf"
    write_model(path, "test", fresh, partial(add_wordpiece, pieces=wordpieces))
    rng = np.random.default_rng(2)
    spans = [rng.integers(5, len(wordpieces), n).tolist() for n in (120, 40)]
    tokens, real = map(torch.from_numpy, padded(spans, make_tokenizer(wordpieces)))
    with torch.no_grad():
        expected = oracles.bert(path)(tokens, attention_mask=real.long()).last_hidden_state
        ours = fresh.hidden(tokens, real)
        pooled = fresh(tokens, real)
    assert (ours - expected)[real].abs().max() < 2e-5
    means = torch.stack([row[kept].mean(0) for row, kept in zip(expected, real, strict=True)])
    assert (pooled - means).abs().max() < 2e-5


def test_what_is_rounded(fresh, wordpieces, tmp_path: Path):
    path = tmp_path / "model.gguf"
    write_model(path, "test", fresh, partial(add_wordpiece, pieces=wordpieces))
    types = {t.name: t.tensor_type for t in GGUFReader(path).tensors}
    for name in ("position_embd.weight", "token_types.weight", "blk.0.attn_q.bias"):
        assert types[name] == GGMLQuantizationType.F32
    for name in ("token_embd.weight", "blk.1.ffn_down.weight"):
        assert types[name] == GGMLQuantizationType.Q8_0
