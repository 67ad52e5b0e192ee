"""Unigram vocabularies: T5's and XLM-RoBERTa's, and SentencePiece's normalisation."""

from typing import Any

import numpy as np
import pytest

from motet.errors import TokenizerError
from tests.shared import SHARED, needs_shared
from tests.tokenizer.texts import random_text
from tests.tokenizer.vocabularies import (
    BYTE,
    FOLDER,
    NORMAL,
    TEXTS,
    UNUSED,
    USER_DEFINED,
    loaded,
    made,
    pieces,
    proto_metadata,
    trained,
    unigram_metadata,
    usual_charsmap,
)

PLAIN = made(unigram_metadata())
T5 = FOLDER / "t5.spiece.model"
OPTIONS: list[dict[str, Any]] = [
    {},
    {"add_dummy_prefix": False},
    {"remove_extra_whitespaces": False},
    {"add_dummy_prefix": False, "remove_extra_whitespaces": False},
    {"normalization_rule_name": "identity"},
    {"normalization_rule_name": "nfkc_cf", "byte_fallback": True},
    {"byte_fallback": True, "split_by_whitespace": False},
    {"model_type": "bpe"},
    {"model_type": "bpe", "remove_extra_whitespaces": False, "byte_fallback": True},
]


def spelt(text: str) -> list[str]:
    return [piece.decode() for piece in pieces(PLAIN, PLAIN.encode(text, add_special=False))]


def test_the_best_sum_of_scores_wins() -> None:
    assert spelt("hello the a") == [" hello", " the", " a"]
    costly = made(unigram_metadata(("ahe", -1.0, NORMAL), ("▁hel", -9.0, NORMAL)))
    assert pieces(costly, costly.encode("hello ahe", False)) == [b" hello", b" ", b"ahe"]
    tiny = made(unigram_metadata(("ab", -5.0, NORMAL), ("abc", -99.0, NORMAL)))
    assert pieces(tiny, tiny.encode("zabc", False))[-2:] == [b"ab", b"c"]


def test_text_is_normalised() -> None:
    assert spelt("  ｈｅllo\t\u3000 a\u200b e\u0301 ") == [" hello", " a", " ", "é"]
    assert PLAIN.encode(" \t\u3000") == PLAIN.encode("") == [PLAIN.bos, PLAIN.eos]
    assert spelt("a\x01\x7fb") == [" a", "b"]


def test_what_has_no_token_is_unknown_once() -> None:
    assert spelt("a☃☃b") == [" a", "<unk>", "b"]
    assert spelt("☃ ☃") == [" ", "<unk>", " ", "<unk>"]
    with pytest.raises(TokenizerError, match=r"'☃', U\+2603, at position 1"):
        PLAIN.encode("a☃", strict=True)
    only = made(unigram_metadata(("☃a", -9.0, NORMAL)))
    assert only.unk not in only.encode("b☃a", strict=True)


def test_bytes_are_a_fallback() -> None:
    tokenizer = made(unigram_metadata(*((f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256))))
    ids = tokenizer.encode("a☃", add_special=False, strict=True)
    assert pieces(tokenizer, ids) == [b" a", b"\xe2", b"\x98", b"\x83"]
    assert tokenizer.decode(ids) == "a☃"
    assert tokenizer.decode(tokenizer.encode("<0x0A>", False)) == "<0x0A>"


def test_control_and_unused_tokens_are_text_unless_asked_for() -> None:
    tokenizer = made(unigram_metadata(("<tag>", 0, USER_DEFINED), ("hellohello", 0, UNUSED)))
    assert tokenizer.eos not in tokenizer.encode("</s>", False)
    ids = tokenizer.encode("a</s>hello<tag> a", add_special=False, parse_special=True)
    assert pieces(tokenizer, ids) == [b" a", b"</s>", b" hello", b"<tag>", b" a"]
    assert tokenizer.n_vocab - 1 not in tokenizer.encode("hellohello")


def test_defaults_are_those_of_t5() -> None:
    metadata = unigram_metadata()
    for key in ("bos_token_id", "seperator_token_id", "add_bos_token", "add_eos_token"):
        del metadata[f"tokenizer.ggml.{key}"]
    tokenizer = made(metadata)
    assert (tokenizer.prefix, tokenizer.suffix) == ((), (tokenizer.eos,))
    with pytest.raises(TokenizerError, match=r"scores' is missing"):
        made({k: v for k, v in metadata.items() if not k.endswith("scores")})


def test_decoding_gives_the_normalised_text_back() -> None:
    ids = PLAIN.encode("  hello   ｔｈe a! ", add_special=False)
    assert PLAIN.decode(ids) == "hello the a!"
    assert PLAIN.decode(PLAIN.encode("hello")) == "<s>hello</s>"


@pytest.mark.parametrize("text", ["a" * 500_000, " " * 500_000, "ab" * 100_000, "☃" * 50_000])
def test_long_runs_take_no_quadratic_time(text: str) -> None:
    assert PLAIN.encode(text)


def test_a_long_text_in_parts_is_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    crossing = made(unigram_metadata(("o▁hello", -1.0, NORMAL)))
    texts = [random_text(np.random.default_rng(seed), pieces=60) for seed in range(40)]
    texts += ["hello hello " * 20, "é☃\n é\nÑ" * 20]
    whole = [PLAIN.encode(text) + crossing.encode(text) for text in texts]
    monkeypatch.setattr("motet.tokenizer.split._PART", 1)
    assert [PLAIN.encode(text) + crossing.encode(text) for text in texts] == whole


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_random_texts_as_sentencepiece_reads_them(options: dict[str, Any]) -> None:
    from sentencepiece import SentencePieceProcessor

    model = trained(**options)
    tokenizer, wanted = made(proto_metadata(model)), SentencePieceProcessor(model_proto=model)
    for seed in range(200):
        text = random_text(np.random.default_rng(seed))
        assert tokenizer.encode(text, add_special=False) == wanted.encode(text)


@needs_shared
def test_t5_as_sentencepiece_reads_it() -> None:
    from sentencepiece import SentencePieceProcessor

    tokenizer = made(proto_metadata(T5.read_bytes()) | {"tokenizer.ggml.eos_token_id": 1})
    wanted = SentencePieceProcessor(str(T5))
    texts = [random_text(np.random.default_rng(seed)) for seed in range(500)]
    texts += [(SHARED / "text" / f"{name}.txt").read_text()[:100_000] for name in TEXTS]
    for text in texts:
        assert tokenizer.encode(text) == [*wanted.encode(text), 1]


@needs_shared
def test_t5_reads_books_as_hugging_face_does() -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    metadata = proto_metadata(T5.read_bytes())
    scores = zip(metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.scores"], strict=True)
    wanted = Tokenizer(models.Unigram(list(scores), unk_id=2))
    charsmap = metadata["tokenizer.ggml.precompiled_charsmap"].tobytes()
    wanted.normalizer = normalizers.Precompiled(charsmap)
    wanted.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer = made(metadata)
    for name in TEXTS:
        text = (SHARED / "text" / f"{name}.txt").read_text()[:100_000]
        assert tokenizer.encode(text, add_special=False) == wanted.encode(text).ids


@needs_shared
@pytest.mark.parametrize("name", ["t5_gated", "t5_ungated"])
def test_golden_models_have_a_tokenizer(name: str) -> None:
    tokenizer = loaded(SHARED / "parity" / name / "model.gguf")
    ids = tokenizer.encode("The  Lily played with a tree.")
    assert ids[-1] == tokenizer.eos and tokenizer.unk not in ids
    assert tokenizer.decode(ids) == "The Lily played with a tree.</s>"


def _changed(offset: int, value: int) -> bytes:
    charsmap = usual_charsmap()
    return charsmap[:offset] + value.to_bytes(4, "little") + charsmap[offset + 4 :]


_SIZE = int.from_bytes(usual_charsmap()[:4], "little")


@pytest.mark.parametrize(
    ("charsmap", "problem"),
    [
        (b"\1\2", "are to be a trie"),
        (usual_charsmap()[:1000], "are to be a trie"),
        (_changed(0, _SIZE + 4), "are to be a trie"),
        (_changed(4, 0x7FFFFC00), "leads out of its trie"),
        (_changed(4 + 4 * 300, 0x7FFFFC41), "leads out of its trie"),
        (usual_charsmap()[:-1] + b"a", "goes on beyond its end"),
        (usual_charsmap()[: _SIZE + 4] + b"a\0", "goes on beyond its end"),
        (usual_charsmap()[: _SIZE + 4] + b"\xff\0", "not UTF-8"),
        (usual_charsmap()[: _SIZE + 4] + "é".encode() * 50_000 + b"\0", "within a character"),
        (usual_charsmap()[: _SIZE + 4] + b"a" * 100_000 + b"\0", "at most 256 are accepted"),
    ],
)
def test_a_damaged_table_is_an_error(charsmap: bytes, problem: str) -> None:
    with pytest.raises(TokenizerError, match=f"precompiled_charsmap.*{problem}"):
        made(unigram_metadata(precompiled_charsmap=list(charsmap)))


def test_a_table_of_signed_bytes_and_one_of_what_are_none() -> None:
    signed = np.frombuffer(usual_charsmap(), np.int8)
    tokenizer = made(unigram_metadata(precompiled_charsmap=signed))
    assert tokenizer.encode("ｈello") == PLAIN.encode("hello")
    with pytest.raises(TokenizerError, match="no bytes"):
        made(unigram_metadata(precompiled_charsmap=[1, 256]))
