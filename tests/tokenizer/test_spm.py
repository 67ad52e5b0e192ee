"""SentencePiece vocabularies."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.errors import TokenizerError, UnsupportedError
from tests.tokenizer.vocabularies import (
    BYTE,
    NORMAL,
    UNUSED,
    USER_DEFINED,
    made,
    pieces,
    spm_metadata,
)

PLAIN = made(spm_metadata())
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"))


def test_a_space_is_put_before_the_text_and_bos_before_that() -> None:
    ids = PLAIN.encode("hello the é🦙")
    assert PLAIN.add_bos and not PLAIN.add_eos
    assert pieces(PLAIN, ids) == [
        b"<s>",
        b" hello",
        b" the",
        b" ",
        "é".encode(),
        *(bytes((byte,)) for byte in "🦙".encode()),
    ]
    assert PLAIN.encode("hello the é🦙", add_special=False) == ids[1:]


def test_nothing_is_put_before_no_text() -> None:
    assert PLAIN.encode("") == [PLAIN.bos]
    assert PLAIN.encode("", add_special=False) == []


def test_the_space_is_left_out_where_the_file_says_so() -> None:
    tokenizer = made(spm_metadata(add_space_prefix=False))
    assert pieces(tokenizer, tokenizer.encode("hello hello")) == [b"<s>", b"hello", b" hello"]
    assert tokenizer.decode(tokenizer.encode(" hello", add_special=False)) == " hello"


def test_add_bos_and_add_eos_are_obeyed() -> None:
    tokenizer = made(spm_metadata(add_bos_token=False, add_eos_token=True))
    assert tokenizer.encode("a")[-1] == tokenizer.eos == 2
    assert tokenizer.bos not in tokenizer.encode("a")


@given(TEXT)
def test_decoding_gives_the_text_back(text: str) -> None:
    assert PLAIN.decode(PLAIN.encode(text, add_special=False)) == text
    assert PLAIN.decode(PLAIN.encode(text)) == "<s>" + text


def _merged(text: str) -> list[str]:
    """The definition: of all neighbours that make a token, join those of the highest score first,
    the leftmost of equals, until there are none."""
    metadata = spm_metadata()
    scores = {
        piece: score
        for piece, score, kind in zip(
            metadata["tokenizer.ggml.tokens"],
            metadata["tokenizer.ggml.scores"],
            metadata["tokenizer.ggml.token_type"],
            strict=True,
        )
        if kind == NORMAL
    }
    parts = list(text.replace(" ", "▁"))
    while True:
        joined = [(scores.get(a + b), -i) for i, (a, b) in enumerate(pairwise(parts))]
        best = max((pair for pair in joined if pair[0] is not None), default=None)
        if best is None:
            return parts
        place = -best[1]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]


def test_merging_follows_the_definition() -> None:
    rng = random.Random(3)
    for _ in range(300):
        text = "".join(rng.choice("aahellot  ") for _ in range(rng.randrange(1, 30)))
        spelt = [part.replace("▁", " ").encode() for part in _merged(" " + text)]
        assert pieces(PLAIN, PLAIN.encode(text, add_special=False)) == spelt


def test_control_tokens_are_text_unless_asked_for() -> None:
    ids = PLAIN.encode("</s>", add_special=False)
    assert PLAIN.eos not in ids
    assert PLAIN.decode(ids) == "</s>"
    assert PLAIN.encode("a</s>hello", add_special=False, parse_special=True) == [
        *PLAIN.encode("a", add_special=False),
        PLAIN.eos,
        *PLAIN.encode("hello", add_special=False),
    ]
    assert PLAIN.decode(PLAIN.encode("a</s>hello", parse_special=True)) == "<s>a</s>hello"


def test_user_defined_tokens_are_always_found() -> None:
    metadata = spm_metadata(("<tag>", 0, USER_DEFINED), ("    ", 0, USER_DEFINED))
    tokenizer = made(metadata)
    tag, spaces = tokenizer.n_vocab - 2, tokenizer.n_vocab - 1
    ids = tokenizer.encode("a<tag>    a", add_special=False)
    assert tag in ids and spaces in ids
    assert tokenizer.decode(ids) == "a<tag>    a"


def test_a_long_token_and_one_of_bytes() -> None:
    """Past the lengths that one byte of protobuf holds; bytes that are no UTF-8."""
    long = "ab" * 100
    raw = b"\xff\xfe".decode("utf-8", "surrogateescape")
    tokenizer = made(spm_metadata((long, 0.0, USER_DEFINED), (raw, -9.0, UNUSED)))
    assert pieces(tokenizer, tokenizer.encode(long, add_special=False)) == [long.encode()]
    assert tokenizer.piece(tokenizer.n_vocab - 1) == b"\xff\xfe"


@pytest.mark.parametrize("text", ["a" * 1_000_000, " " * 1_000_000, "ab" * 100_000, "🦙" * 50_000])
def test_long_runs_take_no_quadratic_time(text: str) -> None:
    """By the definition, a million letters would take hours."""
    assert PLAIN.decode(PLAIN.encode(text, add_special=False)) == text


def test_nul_and_other_control_characters() -> None:
    text = "a\0b\x01\x7f\r\n\t"
    assert PLAIN.decode(PLAIN.encode(text, add_special=False)) == text


def test_without_byte_tokens_there_is_unk() -> None:
    metadata = spm_metadata()
    kept = [i for i, kind in enumerate(metadata["tokenizer.ggml.token_type"]) if kind != BYTE]
    for key in ("tokens", "scores", "token_type"):
        metadata[f"tokenizer.ggml.{key}"] = [metadata[f"tokenizer.ggml.{key}"][i] for i in kept]
    tokenizer = made(metadata)
    assert pieces(tokenizer, tokenizer.encode("aX", add_special=False)) == [b" a", b"<unk>"]
    for key in ("tokens", "scores", "token_type"):
        metadata[f"tokenizer.ggml.{key}"] = metadata[f"tokenizer.ggml.{key}"][1:]
    tokenizer = made(metadata)
    assert tokenizer.unk is None
    with pytest.raises(TokenizerError, match="neither byte tokens nor an unknown token"):
        tokenizer.encode("aX")
    assert tokenizer.decode(tokenizer.encode("a", add_special=False)) == "a"


@pytest.mark.parametrize(
    "keys", [{"remove_extra_whitespaces": True}, {"precompiled_charsmap": [1, 2]}]
)
def test_normalisation_is_refused(keys: dict) -> None:
    with pytest.raises(UnsupportedError, match=next(iter(keys))):
        made(spm_metadata(**keys))
