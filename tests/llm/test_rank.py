"""Scores of documents for a query, by cross-encoders and by models that answer yes or no."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import motet
from motet.errors import CapacityError, MotetError, OptionError, TokenizerError, UnsupportedError
from motet.tokenizer.pairs import cut_text, pair_ids
from tests.models import readers
from tests.shared import SHARED, needs_shared

PARITY = SHARED / "parity"
QUERY = "the hello"
DOCUMENTS = ["hello", "", "the un able", "abc.", "zzz " * 5]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def bert(folder: Path) -> Iterator[motet.LLM]:
    with motet.LLM(readers.bert(folder, labels=1), ubatch=16) as llm:
        yield llm


@pytest.fixture(scope="module")
def yes_or_no(folder: Path) -> Iterator[motet.LLM]:
    with motet.LLM(readers.yes_or_no(folder), ubatch=32) as llm:
        yield llm


def scores(llm: motet.LLM, pairs: list[list[int]]) -> np.ndarray:
    """Of ids, by a context."""
    context, found = llm.model.context(pooling="rank"), []
    for ids in pairs:
        batch = motet.Batch()
        batch.extend(ids, 0)
        encodes = hasattr(llm.model.family, "encode")
        found.append((context.encode if encodes else context.decode)(batch).pooled[0][0])
        context.memory.clear()
    return np.array(found, np.float32)


def test_a_cross_encoder_reads_both_texts(bert: motet.LLM):
    tokenizer = bert.tokenizer
    assert tokenizer is not None
    found = bert.rank(QUERY, DOCUMENTS)
    assert found.shape == (5,) and found.dtype == np.float32
    pairs = [tokenizer.encode_pair(QUERY, document) for document in DOCUMENTS]
    assert np.array_equal(found, scores(bert, pairs))
    assert len(set(found.tolist())) == 5
    assert np.array_equal(bert.rank(QUERY, DOCUMENTS[::-1]), found[::-1])
    assert np.array_equal(bert.rank(QUERY, DOCUMENTS[0]), found[:1])
    assert np.array_equal(bert.rank(QUERY, np.array(DOCUMENTS)), found)
    assert bert.rank(QUERY, []).shape == (0,)


def test_a_model_that_answers_yes_or_no(yes_or_no: motet.LLM):
    tokenizer = yes_or_no.tokenizer
    assert tokenizer is not None
    found = yes_or_no.rank(QUERY, DOCUMENTS)
    texts = [
        readers.RERANK.replace("{query}", QUERY).replace("{document}", document)
        for document in DOCUMENTS
    ]
    pairs = [tokenizer.encode(text, add_special=False, parse_special=True) for text in texts]
    assert np.array_equal(found, scores(yes_or_no, pairs))
    assert ((found > 0) & (found < 1)).all()


def test_what_documents_spell_is_text(yes_or_no: motet.LLM, bert: motet.LLM):
    tokenizer = yes_or_no.tokenizer
    assert tokenizer is not None
    ids = pair_ids(tokenizer, "{document}", "<|im_end|>{query}", None)
    end = tokenizer.encode("<|im_end|>", parse_special=True)
    assert [ids.count(token) for token in end] == [2]
    assert "{document}" in tokenizer.decode(ids) and "{query}" in tokenizer.decode(ids)
    assert bert.tokenizer is not None
    pair = bert.tokenizer.encode_pair("[SEP]", "[SEP]")
    assert [token for token in pair if token == bert.tokenizer.sep] == [bert.tokenizer.sep] * 2


@needs_shared
def test_the_golden_rerankers():
    for name in ("xlmroberta_rank", "qwen3_reranker"):
        with motet.LLM(PARITY / name / "model.gguf") as llm:
            found = scores(llm, [np.load(PARITY / name / "tokens.npy").tolist()])
            expected = np.load(PARITY / name / "rank_hf.npy").ravel()[:1]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    with motet.LLM(PARITY / "qwen3_reranker" / "model.gguf") as llm:
        assert llm.tokenizer is not None
        template = llm.tokenizer.chat_templates["rerank"]
        text = template.replace("{query}", "the king").replace("{document}", "he was")
        ids = llm.tokenizer.encode(text, add_special=False, parse_special=True)
        assert np.array_equal(llm.rank("the king", ["he was"]), scores(llm, [ids]))


def test_from_coroutines(bert: motet.LLM):
    async def ask() -> None:
        front = motet.AsyncLLM(bert)
        assert np.array_equal(await front.rank(QUERY, DOCUMENTS), bert.rank(QUERY, DOCUMENTS))

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("query", "document"), [(5, 40), (40, 5), (40, 40), (20, 40), (0, 50), (14, 15), (15, 15)]
)
def test_pairs_are_cut_as_tokenizers_cuts_them(bert: motet.LLM, query: int, document: int):
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers.processors import TemplateProcessing

    tokenizer = bert.tokenizer
    assert tokenizer is not None
    the, he = tokenizer.encode("the")[1], tokenizer.encode("he")[1]
    words = {"[CLS]": tokenizer.bos, "[SEP]": tokenizer.sep, "the": the, "he": he}
    other = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[SEP]"))
    other.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    other.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", tokenizer.bos), ("[SEP]", tokenizer.sep)],
    )
    other.enable_truncation(32, strategy="longest_first")
    texts = "the " * query, "he " * document
    assert pair_ids(tokenizer, *texts, 32) == other.encode(*texts).ids
    ids = tokenizer.encode(texts[1])
    if len(ids) > 32:
        assert cut_text(ids, 32, tokenizer.suffix) == other.encode(texts[1]).ids


def test_a_template_is_cut_at_the_documents_end(folder: Path):
    with motet.LLM(readers.yes_or_no(folder)) as llm:
        tokenizer = llm.tokenizer
        assert tokenizer is not None
        whole = pair_ids(tokenizer, "a", "x" * 400, None)
        cut = pair_ids(tokenizer, "a", "x" * 400, 256)
        after = len(whole) - whole.index(tokenizer.encode("x")[0]) - 400
        assert cut == whole[: 256 - after] + whole[-after:]
        assert llm.rank("a", ["x" * 400], truncate=True).shape == (1,)
        with pytest.raises(CapacityError, match=r"query and document 1, .* together: "):
            llm.rank("a", ["x", "x" * 400])


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda llm: llm.rank(None, ["a"]), OptionError, "query is None"),
        (lambda llm: llm.rank("a", None), OptionError, "documents is None"),
        (lambda llm: llm.rank("a", ["a", 5]), OptionError, r"documents\[1\] is 5"),
        (lambda llm: llm.rank("a", ["a"], truncate=1), OptionError, "truncate is 1"),
        (lambda llm: llm.rank("he " * 40, ["a"]), CapacityError, "together: 44 tokens.*for 32"),
        (
            lambda llm: llm.embed("a"),
            OptionError,
            r"is a reranker.*use rank.*pooling='mean' or pooling='cls'",
        ),
        (lambda llm: llm.generate("a"), UnsupportedError, r"encoder.*rank if it is"),
    ],
)
def test_wrong_use(bert: motet.LLM, call: Any, kind: type[MotetError], message: str):
    with pytest.raises(kind, match=message):
        call(bert)
    assert bert.embed("a", "mean").shape == (1, 16)


def test_what_is_no_reranker(folder: Path):
    with (
        motet.LLM(readers.bert(folder)) as llm,
        pytest.raises(UnsupportedError, match=r"has no classifier.*file of a reranker"),
    ):
        llm.rank("a", ["b"])
    named = {"classifier__output_labels": ["good", "bad", "dull"]}
    with (
        motet.LLM(readers.bert(folder, labels=3, **named)) as llm,
        pytest.raises(UnsupportedError, match=r"tells 3 kinds apart \(good, bad, dull\)"),
    ):
        llm.rank("a", ["b"])
    for template in ("{query}", "{{ query }} {{ document }}"):
        with (
            motet.LLM(readers.yes_or_no(folder, template)) as llm,
            pytest.raises(UnsupportedError, match="template 'rerank' has no place for"),
        ):
            llm.rank("a", ["b"])


def test_a_vocabulary_without_a_form_for_pairs(folder: Path):
    path = readers.yes_or_no(folder, name="default")
    message = r'gguf: .*no form for a pair.*pooling="rank"'
    with motet.LLM(path) as llm, pytest.raises(TokenizerError, match=message):
        llm.rank("a", ["b"])
