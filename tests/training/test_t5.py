"""The tiny T5: its questions, its vocabulary, and the file against transformers."""

import re
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")

from gguf import GGMLQuantizationType, GGUFReader  # noqa: E402

from training import t5  # noqa: E402
from training.data import SOURCES  # noqa: E402
from training.export import write_model  # noqa: E402
from training.questions import KINDS, LONGEST_ANSWER, Questions  # noqa: E402
from training.t5 import (  # noqa: E402
    BATCH_TOKENS,
    IGNORED,
    Lessons,
    answer,
    exact_match,
    make_optimizer,
    train_step,
)
from training.t5_model import START, T5, T5Config  # noqa: E402
from training.texts import Text  # noqa: E402
from training.unigram import add_unigram, train_unigram  # noqa: E402

TALE = "The old cat sat by the mill. Lily ran on. A red sun and the old mill! Lily sat by it. "
PROMPTS = "find the key: Remember the key. The pass key is. last word: change sat to ran: "


@pytest.fixture(scope="module")
def tales() -> list[Text]:
    return [Text(name, 0, "", [TALE * 8, PROMPTS * 8], [TALE]) for name in SOURCES]


@pytest.fixture(scope="module")
def unigram(tales):
    return train_unigram(tales, size=200)


@pytest.fixture(scope="module")
def questions(unigram) -> Questions:
    return Questions([TALE * 8], unigram)


@pytest.fixture
def lessons(questions, monkeypatch) -> Lessons:
    """With prompts long enough for so few pieces."""
    monkeypatch.setattr(t5, "CURRICULUM", ((1.0, {64: 0.5, 128: 0.5}),))
    return Lessons(questions, 1)


@pytest.fixture
def fresh(unigram) -> T5:
    torch.manual_seed(0)
    return T5(
        T5Config(unigram.vocab_size(), 256, d_model=32, n_heads=2, head_dim=8, d_ff=64)
    ).eval()


def test_vocabulary_is_laid_out_as_t5s_and_reads_all_spaces_alike(tales, unigram):
    assert [unigram.id_to_piece(i) for i in range(3)] == ["<pad>", "</s>", "<unk>"]
    assert unigram.encode("the cat\n“sat”\ton") == unigram.encode('the cat "sat"   on ')
    digits = unigram.encode("58219", out_type=str)
    assert [d.strip("▁") for d in digits if d != "▁"] == list("58219")
    again = train_unigram(tales, size=200)
    for i in range(unigram.vocab_size()):
        assert again.id_to_piece(i) == unigram.id_to_piece(i)
        assert again.get_score(i) == unigram.get_score(i)


@pytest.mark.parametrize("longest", [48, 200])
@pytest.mark.parametrize("kind", KINDS)
def test_answers_follow_from_prompts(questions, kind, longest):
    rng = np.random.default_rng(1)
    for _ in range(20):
        q = questions.ask(kind, longest, rng)
        assert len(questions.vocabulary.encode(q.prompt)) < longest
        text = q.prompt.split(": ", 1)[1]
        if kind == "key":
            assert re.findall(r"\d+", text) == [q.answer]
        elif kind == "last":
            assert re.fullmatch(rf"(.*\W)?{q.answer}[^A-Za-z]*", text, re.S)
        else:
            assert len(questions.vocabulary.encode(q.answer)) < LONGEST_ANSWER
            old, new = re.match(r"change (\w+) to (\w+):", q.prompt).groups()
            assert [new if w == old else w for w in re.findall(r"\w+", text)] == re.findall(
                r"\w+", q.answer
            )


def test_rows_depend_on_seed_and_step_alone(lessons):
    first, again, other = (lessons.batch(s, 100) for s in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert first[0].shape != other[0].shape or not torch.equal(first[0], other[0])
    tokens, real, answers, target = first
    assert tokens.numel() <= BATCH_TOKENS
    assert (tokens[~real] == START).all()
    assert (answers[:, 0] == START).all()
    ends = torch.tensor([IGNORED, lessons.questions.vocabulary.eos_id()])
    scored = ~torch.isin(target[:, :-1], ends)
    assert (answers[:, 1:][scored] == target[:, :-1][scored]).all()


def test_padding_changes_nothing(fresh, questions):
    tokens = torch.tensor([[5, 9, 7, 1]])
    more = torch.cat([tokens, torch.full((1, 3), START)], 1)
    said = torch.tensor([[START, 8, 4]])
    alone = fresh(tokens, torch.ones(1, 4, dtype=torch.bool), said)
    padded = fresh(more, torch.arange(7)[None] < 4, said)
    assert (alone - padded).abs().max() < 1e-5


def test_a_few_steps_lower_the_loss(fresh, lessons):
    optimizer = make_optimizer(fresh)
    losses = [train_step(fresh, optimizer, lessons, 60, 1000) for _ in range(6)]
    assert losses[-1] < losses[0] - 0.1


def test_exact_match_wants_every_token(fresh, questions, monkeypatch):
    class Oracle(torch.nn.Module):
        def forward(self, tokens, real, answer):
            ends = torch.full((len(answer), 1), questions.vocabulary.eos_id())
            target = torch.cat([answer[:, 1:], ends], 1)
            target[target == START] = questions.vocabulary.eos_id()
            return torch.nn.functional.one_hot(target, questions.vocabulary.vocab_size()).float()

    assert exact_match(Oracle(), questions, "key", 64, 8) == 1
    assert exact_match(fresh, questions, "key", 64, 8) == 0
    assert isinstance(answer(fresh, questions.vocabulary, "last word: the cat sat."), str)


def test_exported_file_computes_what_transformers_computes(fresh, unigram, tmp_path: Path):
    pytest.importorskip("transformers", reason="the oracle is not installed")
    from tests.training import oracles

    for parameter in fresh.parameters():  # so that norms and the bias matter
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    path = tmp_path / "model.gguf"
    write_model(path, "test", fresh, lambda writer: add_unigram(writer, unigram))
    oracle = oracles.t5(path)
    rng = np.random.default_rng(2)
    ids = torch.from_numpy(rng.integers(3, unigram.vocab_size(), (1, 150)))
    said = torch.from_numpy(rng.integers(3, unigram.vocab_size(), (1, 140)))
    said[0, 0] = START
    with torch.no_grad():
        expected = oracle(input_ids=ids, decoder_input_ids=said).logits
        ours = fresh(ids, torch.ones_like(ids, dtype=torch.bool), said)
    assert expected.std() > 0.2
    assert (ours - expected).abs().max() < 2e-4 * expected.std()


def test_what_is_rounded(fresh, unigram, tmp_path: Path):
    path = tmp_path / "model.gguf"
    write_model(path, "test", fresh, lambda writer: add_unigram(writer, unigram))
    types = {t.name: t.tensor_type for t in GGUFReader(path).tensors}
    assert types["enc.blk.0.attn_rel_b.weight"] == GGMLQuantizationType.F32
    assert types["dec.blk.1.cross_attn_q.weight"] == GGMLQuantizationType.Q8_0
    assert not any(name.endswith("blk.1.attn_rel_b.weight") for name in types)
