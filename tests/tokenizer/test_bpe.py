"""Byte-level BPE, and Gemma 4's on characters."""

import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.errors import TokenizerError
from motet.tokenizer.pretokenizers import BY_NAME
from tests.tokenizer.texts import random_text
from tests.tokenizer.vocabularies import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    bpe_metadata,
    gemma4_metadata,
    made,
    pieces,
)

PLAIN = made(bpe_metadata())
GEMMA = made(gemma4_metadata())
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def test_words_are_cut_then_merged() -> None:
    ids = PLAIN.encode("hello hello, é 123")
    assert pieces(PLAIN, ids) == [
        *(b"hello", b" hello", b",", b" ", "é".encode()),
        *(b" ", b"123"),
    ]


def test_no_bos_unless_the_file_or_the_pre_tokenizer_says_so() -> None:
    end = PLAIN.eos
    assert not PLAIN.add_bos and PLAIN.bos is None
    assert made(bpe_metadata(bos_token_id=end)).encode("a") == PLAIN.encode("a")
    adds = made(bpe_metadata(bos_token_id=end, add_bos_token=True, add_eos_token=True))
    assert adds.encode("a") == [end, *PLAIN.encode("a"), end]
    assert made(bpe_metadata(bos_token_id=end, pre="llama-bpe")).encode("a")[0] == end


@given(TEXT)
def test_decoding_gives_the_text_back(text: str) -> None:
    assert PLAIN.decode(PLAIN.encode(text)) == text


@given(TEXT)
def test_decoding_gives_composed_text_back_where_text_is_composed(text: str) -> None:
    assert QWEN.decode(QWEN.encode(text)) == unicodedata.normalize("NFC", text)


QWEN = made(bpe_metadata(pre="qwen2"))


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_has_its_piece(byte: int) -> None:
    assert PLAIN.piece(byte) == bytes((byte,))


def test_special_tokens() -> None:
    tokenizer = made(bpe_metadata(("<tag>", USER_DEFINED), ("  ", USER_DEFINED), ("né", CONTROL)))
    tag = tokenizer.n_vocab - 3
    ids = tokenizer.encode("a<tag>  <|endoftext|>né")
    assert tag in ids and tag + 1 in ids
    assert not {tokenizer.eos, tag + 2} & set(ids)
    assert tokenizer.decode(ids) == "a<tag>  <|endoftext|>né"
    parsed = tokenizer.encode("a<tag>  <|endoftext|>né", parse_special=True)
    assert parsed[-4:] == [tag, tag + 1, tokenizer.eos, tag + 2]
    assert tokenizer.decode(parsed) == "a<tag>  <|endoftext|>né"


def test_ignore_merges_takes_whole_words() -> None:
    """Llama 3's vocabulary has tokens that no merges lead to."""
    llama3 = made(bpe_metadata(("wholeword", NORMAL), pre="llama-bpe"))
    assert pieces(llama3, llama3.encode("wholeword")) == [b"wholeword"]
    gpt2 = made(bpe_metadata(("wholeword", NORMAL)))
    assert len(gpt2.encode("wholeword")) == len("wholeword")


@pytest.mark.parametrize("text", ["a" * 200_000, " " * 200_000 + "a", "1" * 200_000])
@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "deepseek-llm", "tekken", "falcon"])
def test_long_runs_take_no_quadratic_time(pre: str, text: str) -> None:
    tokenizer = made(bpe_metadata(pre=pre))
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(("text", "kind"), [("A", "characters without"), (" ", "spaces")])
def test_a_run_past_what_a_pattern_can_meet_is_refused(text: str, kind: str) -> None:
    with pytest.raises(TokenizerError, match=f"position 3.*{kind}|{kind}.*position 3"):
        PLAIN.encode(("1  " if text == "A" else "111") + text * (1 << 21) + text)


def without(metadata: dict[str, Any], *tokens: str) -> dict[str, Any]:
    """Under other names, so that ids stay as they are."""
    texts = metadata["tokenizer.ggml.tokens"]
    types = list(metadata["tokenizer.ggml.token_type"])
    renamed = list(texts)
    for token in tokens:
        renamed[place := texts.index(token)] = f"[was {token}]"
        types[place] = UNUSED
    return metadata | {"tokenizer.ggml.tokens": renamed, "tokenizer.ggml.token_type": types}


def test_bytes_without_a_token_are_left_out() -> None:
    """Before merging, as the ``tokenizers`` library does it; llama.cpp leaves them out after."""
    tokenizer = made(without(bpe_metadata(), "Z", "Ģ"))  # the latter is byte 0x80
    assert tokenizer.encode("hZeZ") == tokenizer.encode("he")
    assert tokenizer.decode(tokenizer.encode("aZ 가Z\u0400b")) == "a \ufffd\ufffdb"
    assert tokenizer.encode("Z") == []


def test_strictly_a_character_without_a_token_is_an_error_that_tells_where() -> None:
    tokenizer = made(without(bpe_metadata(("<tag>", USER_DEFINED)), "Z", "Ģ"))
    assert tokenizer.encode("a<tag>Y", strict=True) == tokenizer.encode("a<tag>Y")
    with pytest.raises(TokenizerError, match=r"'Z', U\+005A, at position 7"):
        tokenizer.encode("a<tag>YZ가Z", strict=True)
    with pytest.raises(TokenizerError, match=r"'가', U\+AC00, at position 1"):
        tokenizer.encode("Y가Z", strict=True)


def test_strictly_composed_characters_count() -> None:
    tokenizer = made(without(bpe_metadata(pre="qwen2"), "¼"))  # ü is 0xC3 0xBC
    assert tokenizer.decode(tokenizer.encode("uu\u0308")) == "u\ufffd"
    with pytest.raises(TokenizerError, match=r"'ü', U\+00FC, at position 1"):
        tokenizer.encode("uu\u0308", strict=True)


@pytest.mark.parametrize("pre", sorted(BY_NAME))
def test_a_long_text_in_parts_is_as_in_one(pre: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = made(bpe_metadata(pre=pre))
    texts = [random_text(np.random.default_rng(seed), pieces=60) for seed in range(12)]
    whole = [tokenizer.encode(text) for text in texts]
    monkeypatch.setattr("motet.tokenizer.split._PART", 1)
    assert [tokenizer.encode(text) for text in texts] == whole


def test_normal_tokens_outside_the_byte_alphabet_are_their_own_text() -> None:
    tokenizer = made(bpe_metadata(("[pad 1]", NORMAL), ("<0x0A>", BYTE)))
    assert tokenizer.piece(tokenizer.n_vocab - 2) == b"[pad 1]"
    assert tokenizer.piece(tokenizer.n_vocab - 1) == b"\n"


def test_merges_must_fit_the_tokens() -> None:
    for merges, problem in (
        (["h e", "nosuch token"], "merge 1 makes 'nosuchtoken'"),
        (["h e", "hel lo"], "out of vocabulary"),
        (["h e", "two"], "at index 1"),
        (["h e", " he"], "at index 1"),
        (["h e", 7], "at index 1"),
        ([], "must be an array"),
    ):
        metadata = bpe_metadata() | {"tokenizer.ggml.merges": merges}
        with pytest.raises(TokenizerError, match=r"tokenizer\.ggml\.merges.*" + problem):
            made(metadata)


@given(TEXT)
def test_gemma4_gives_the_text_back(text: str) -> None:
    spelt = text.replace("▁", " ")
    assert GEMMA.decode(GEMMA.encode(text, add_special=False)) == spelt


def test_gemma4_merges_over_spaces_and_lines() -> None:
    ids = GEMMA.encode("hello  hello\n\né")
    assert pieces(GEMMA, ids) == [
        *(b"<bos>", b"hello", b"  ", b"hello", b"\n\n"),
        *(bytes((byte,)) for byte in "é".encode()),
    ]


def test_gemma4_always_has_bos() -> None:
    """Early conversions wrongly say false; llama.cpp overrides them too."""
    assert made(gemma4_metadata(add_bos_token=False)).add_bos


def test_gemma4_without_some_byte_tokens() -> None:
    metadata = without(gemma4_metadata(("<unk>", UNKNOWN)), "<0xC3>", "<0x41>")
    tokenizer = made(metadata)
    unk = tokenizer.n_vocab - 1
    a, space, b = (tokenizer.encode(part, add_special=False) for part in "a b")
    letter = tokenizer.encode("λ", add_special=False)
    ids = tokenizer.encode("aAéA ñbλ", add_special=False)
    assert ids == [*a, unk, *space, unk, *b, *letter]
    with pytest.raises(TokenizerError, match=r"'A', U\+0041, at position 1"):
        tokenizer.encode("aAéA", strict=True)
    assert made(without(gemma4_metadata(), "<0x41>")).encode("aAb", add_special=False) == [
        *GEMMA.encode("ab", add_special=False)
    ]


def test_gemma4_knows_byte_tokens_by_their_spelling() -> None:
    metadata = gemma4_metadata()
    types = metadata["tokenizer.ggml.token_type"]
    metadata["tokenizer.ggml.token_type"] = [NORMAL if kind == BYTE else kind for kind in types]
    assert made(metadata).decode(made(metadata).encode("aé")) == "<bos>aé"


def test_gemma4_reads_a_long_text_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "hello  hello é\n" * 30
    whole = GEMMA.encode(text)
    crossing = made(gemma4_metadata(("o▁hello", NORMAL)))
    monkeypatch.setattr("motet.tokenizer.split._PART", 1)
    assert GEMMA.encode(text) == whole
    assert crossing.encode(text) == whole
