"""Byte-level BPE, and Gemma 4's on characters."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.errors import TokenizerError
from tests.tokenizer.vocabularies import (
    BYTE,
    CONTROL,
    NORMAL,
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


def test_bytes_without_a_token_are_an_error() -> None:
    metadata = bpe_metadata()
    place = metadata["tokenizer.ggml.tokens"].index("Z")
    metadata["tokenizer.ggml.tokens"][place] = "never"
    tokenizer = made(metadata)
    assert tokenizer.decode(tokenizer.encode("Y")) == "Y"
    with pytest.raises(TokenizerError, match="0x5A"):
        tokenizer.encode("Z")


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


def test_gemma4_needs_byte_tokens() -> None:
    metadata = gemma4_metadata()
    types = metadata["tokenizer.ggml.token_type"]
    metadata["tokenizer.ggml.token_type"] = [NORMAL if kind == BYTE else kind for kind in types]
    with pytest.raises(TokenizerError, match="byte tokens"):
        made(metadata)
