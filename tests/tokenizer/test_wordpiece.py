"""BERT's WordPiece vocabularies."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from motet.errors import TokenizerError
from tests.shared import SHARED, needs_shared
from tests.tokenizer.texts import random_text
from tests.tokenizer.vocabularies import (
    CONTROL,
    FOLDER,
    NORMAL,
    TEXTS,
    USER_DEFINED,
    bert_metadata,
    goldens,
    llama_cpp_cases,
    loaded,
    made,
    pieces,
)

PLAIN = made(bert_metadata())
BGE = FOLDER / "ggml-vocab-bert-bge.gguf"


def spelt(text: str) -> list[str]:
    return [piece.decode() for piece in pieces(PLAIN, PLAIN.encode(text, add_special=False))]


def test_words_are_cut_into_the_longest_tokens_and_framed() -> None:
    assert spelt("hello unable") == [" hello", " un", "able"]
    assert pieces(PLAIN, PLAIN.encode("hello")) == [b"[CLS]", b" hello", b"[SEP]"]
    assert PLAIN.encode("") == [PLAIN.bos, PLAIN.sep]
    assert PLAIN.encode("", add_special=False) == []


def test_text_is_cleaned() -> None:
    assert spelt("HE\u0301\x01\u200b\ufffdl\tx") == [" he", "l", " x"]
    assert spelt("a中b") == [" a", " 中", " b"]
    assert spelt("it's") == [" i", "t", " '", " s"]


def test_a_word_that_cannot_be_spelt_is_unknown_as_a_whole() -> None:
    assert spelt("hello☃ he") == [" [UNK]", " he"]
    assert spelt("a" * 100)[0] == " a" and spelt("a" * 101) == [" [UNK]"]
    with pytest.raises(TokenizerError, match=r"no token for 'hello☃' at position 3"):
        PLAIN.encode("he hello☃", strict=True)
    with pytest.raises(TokenizerError, match=r"no token for '☃', U\+2603, at position 0"):
        PLAIN.encode("☃", strict=True)
    assert PLAIN.encode("he hello", strict=True) == PLAIN.encode("he hello")


def test_without_an_unknown_token_words_are_left_out() -> None:
    metadata = bert_metadata()
    metadata["tokenizer.ggml.tokens"][4] = "▁other"
    metadata["tokenizer.ggml.token_type"][4] = NORMAL
    del metadata["tokenizer.ggml.unknown_token_id"]
    tokenizer = made(metadata)
    assert tokenizer.unk is None
    assert tokenizer.decode(tokenizer.encode("he ☃ the", add_special=False)) == "he the"


def test_decoding_puts_spaces_between_words() -> None:
    assert PLAIN.decode(PLAIN.encode("Hello, the unable☃ he", add_special=False)) == (
        "hello , the [UNK] he"
    )
    assert PLAIN.decode(PLAIN.encode("hello")) == "[CLS]hello[SEP]"
    again = PLAIN.encode(PLAIN.decode(PLAIN.encode("hello the, unable", add_special=False)))
    assert again == PLAIN.encode("hello the, unable")


def test_special_tokens_are_text_unless_asked_for() -> None:
    assert PLAIN.sep not in PLAIN.encode("[SEP]", add_special=False)
    ids = PLAIN.encode("he [SEP][UNK]he", add_special=False, parse_special=True)
    assert pieces(PLAIN, ids) == [b" he", b"[SEP]", b" [UNK]", b" he"]
    tagged = made(bert_metadata(("▁<Tag>", USER_DEFINED)))
    assert tagged.encode("he<Tag>he", add_special=False)[1] == tagged.n_vocab - 1


def test_special_tokens_are_known_by_their_names() -> None:
    """The files of 2024 name [CLS] under another key, or not at all."""
    metadata = bert_metadata(cls_token_id=1)
    for key in ("bos", "seperator", "unknown"):
        del metadata[f"tokenizer.ggml.{key}_token_id"]
    assert made(metadata).encode("he ☃") == PLAIN.encode("he ☃")
    del metadata["tokenizer.ggml.cls_token_id"]
    assert made(metadata).encode("he ☃") == PLAIN.encode("he ☃")
    del metadata["tokenizer.ggml.token_type"]
    assert made(metadata).encode("he ☃") == PLAIN.encode("he ☃")


def test_flags_are_obeyed() -> None:
    tokenizer = made(bert_metadata(add_bos_token=False, add_eos_token=False))
    assert tokenizer.encode("he") == PLAIN.encode("he", add_special=False)
    assert (tokenizer.prefix, tokenizer.suffix) == ((), ())


def test_tokens_that_no_word_can_hold() -> None:
    raw = b"\xff\xfe".decode("utf-8", "surrogateescape")
    odd = [("\tllo", NORMAL), ("▁a b", NORMAL), ("\n", NORMAL), (raw, NORMAL), ("▁\n", NORMAL)]
    tokenizer = made(bert_metadata(*odd))
    assert tokenizer.encode("hello a b ☃") == PLAIN.encode("hello a b ☃")
    assert tokenizer.piece(tokenizer.n_vocab - 2) == b"\xff\xfe"


@pytest.mark.parametrize(
    "text", ["a" * 1_000_000, "! " * 100_000, "e\u0301" * 50_000, "中" * 50_000]
)
def test_long_runs_take_no_quadratic_time(text: str) -> None:
    assert PLAIN.encode(text, add_special=False)


def test_a_long_text_in_parts_is_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [random_text(np.random.default_rng(seed), pieces=60) for seed in range(60)]
    whole = [PLAIN.encode(text) for text in texts]
    monkeypatch.setattr("motet.tokenizer.split._PART", 1)
    assert [PLAIN.encode(text) for text in texts] == whole


def oracle(vocabulary: dict[str, int], lowercase: bool, strip_accents: bool) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    model = models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=strip_accents
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


@cache
def _vocabulary(lowercase: bool, strip_accents: bool) -> dict[str, int]:
    """As BERT's own lists have it, from random texts."""
    from tokenizers import trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=2000, special_tokens=special, show_progress=False
    )
    tokenizer = oracle({"[UNK]": 0}, lowercase, strip_accents)
    texts = (random_text(np.random.default_rng(seed)) for seed in range(10_000, 10_600))
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.get_vocab()


def _converted(vocabulary: dict[str, int], **keys: Any) -> dict[str, Any]:
    """What llama.cpp's converter writes."""
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    texts = [text[2:] if text.startswith("##") else f"▁{text}" for text in tokens]
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": [*tokens[:5], *texts[5:]],
        "tokenizer.ggml.token_type": [CONTROL] * 5 + [NORMAL] * (len(tokens) - 5),
    } | {f"tokenizer.ggml.normalizer.{key}": value for key, value in keys.items()}


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [True, False])
def test_random_texts_as_hugging_face_reads_them(lowercase: bool, strip_accents: bool) -> None:
    vocabulary = _vocabulary(lowercase, strip_accents)
    tokenizer = made(_converted(vocabulary, lowercase=lowercase, strip_accents=strip_accents))
    wanted = oracle(vocabulary, lowercase, strip_accents)
    for seed in range(300):
        text = random_text(np.random.default_rng(seed))
        assert tokenizer.encode(text, add_special=False) == wanted.encode(text).ids


@pytest.mark.parametrize("lowercase", [True, False])
def test_case_is_seen_by_the_tokens_where_the_file_does_not_say(lowercase: bool) -> None:
    vocabulary = _vocabulary(lowercase, lowercase)
    tokenizer = made(_converted(vocabulary))
    for text in ("Hello ÜNI", "HTML naïve Straße"):
        assert (
            tokenizer.encode(text, False)
            == oracle(vocabulary, lowercase, lowercase).encode(text).ids
        )


@needs_shared
def test_llama_cpp_cases() -> None:
    cases = llama_cpp_cases(BGE)
    assert len(cases) == 46
    for text, ids in cases:
        assert loaded(BGE).encode(text, add_special=False) == ids


@needs_shared
@pytest.mark.parametrize("kind", ["small", "mixed", "utf8"])
def test_gte_goldens(kind: str) -> None:
    """Padded with zeros and cut at 512."""
    for text, ids in goldens(kind, "gte"):
        got = loaded(BGE).encode(text, add_special=False, parse_special=True)
        assert (got + [0] * 512)[:512] == (ids + [0] * 512)[:512]


@needs_shared
def test_books_and_random_texts_as_hugging_face_reads_them() -> None:
    tokens = (FOLDER / "bert.vocab.txt").read_text("utf-8").split("\n")
    wanted = oracle(dict(zip(tokens, range(30_522), strict=False)), True, True)
    texts = [random_text(np.random.default_rng(seed)) for seed in range(500)]
    texts += [(SHARED / "text" / f"{name}.txt").read_text()[:100_000] for name in TEXTS]
    for text in texts:
        ids = loaded(BGE).encode(text)
        assert ids == [101, *wanted.encode(text).ids, 102]


@needs_shared
@pytest.mark.parametrize("name", ["bert_cls", "bert_mean"])
def test_golden_models_have_a_tokenizer(name: str) -> None:
    tokenizer = loaded(SHARED / "parity" / name / "model.gguf")
    ids = tokenizer.encode("The lily, WITH a tree!")
    assert (ids[0], ids[-1]) == (5, 6) and tokenizer.unk not in ids
    assert tokenizer.decode(ids) == "[CLS]the lily , with a tree ![SEP]"
