"""SentencePiece vocabularies."""

import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.errors import TokenizerError
from tests.tokenizer.texts import random_text
from tests.tokenizer.vocabularies import (
    BYTE,
    CONTROL,
    NORMAL,
    UNUSED,
    USER_DEFINED,
    made,
    pieces,
    spm_metadata,
    usual_charsmap,
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
    assert tokenizer.decode(tokenizer.encode("aXb", add_special=False)) == "ab"
    with pytest.raises(TokenizerError, match=r"'X', U\+0058, at position 1"):
        tokenizer.encode("aXb", strict=True)


def changed(metadata: dict[str, Any], change: dict[str, int | None]) -> dict[str, Any]:
    """With some tokens of another type, or (None) under another name."""
    texts, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    for text, kind in change.items():
        place = texts.index(text)
        if kind is None:
            texts[place], types[place] = f"[was {text}]", UNUSED
        else:
            types[place] = kind
    return metadata


@pytest.mark.parametrize("kind", [0, NORMAL, USER_DEFINED])
def test_byte_tokens_are_known_by_their_spelling(kind: int) -> None:
    tokenizer = made(changed(spm_metadata(), {"<0x0A>": kind, "<0xC3>": kind}))
    assert tokenizer.encode("a\nñ") == PLAIN.encode("a\nñ")
    assert tokenizer.decode(tokenizer.encode("a\nñ")) == "<s>a\nñ"


def test_a_character_of_which_a_byte_is_missing_is_unknown() -> None:
    tokenizer = made(changed(spm_metadata(), {"<0xC3>": None, "<0x58>": None}))
    ids = tokenizer.encode("aXñÑX bñλ🦙X", add_special=False)
    assert pieces(tokenizer, ids) == [
        *(b" a", b"<unk>", b" ", b"b", b"<unk>", b"\xce", b"\xbb", b"\xf0", b"\x9f", b"\xa6"),
        *(b"\x99", b"<unk>"),
    ]
    with pytest.raises(TokenizerError, match=r"'ñ', U\+00F1, at position 1"):
        tokenizer.encode("añX", strict=True)
    assert tokenizer.encode("aλ🦙", strict=True) == PLAIN.encode("aλ🦙")


def test_absent_types_are_guessed() -> None:
    metadata = spm_metadata()
    del metadata["tokenizer.ggml.token_type"]
    tokenizer = made(metadata)
    assert tokenizer.encode("hello the é🦙") == PLAIN.encode("hello the é🦙")
    assert (tokenizer.bos, tokenizer.eos, tokenizer.unk) == (1, 2, 0)
    assert tokenizer.special == {0, 1, 2}


def test_without_scores_the_leftmost_are_joined_first() -> None:
    metadata = spm_metadata()
    del metadata["tokenizer.ggml.scores"]
    tokenizer = made(metadata)
    assert pieces(PLAIN, PLAIN.encode(" a", add_special=False)) == [b" ", b" a"]
    assert pieces(tokenizer, tokenizer.encode(" a", add_special=False)) == [b"  ", b"a"]


def test_spaces_after_phi_3s_turns_are_stripped() -> None:
    turns = [(text, 0.0, CONTROL) for text in ("<|user|>", "<|end|>", "<|other|>")]
    for keys in (
        {"general.architecture": "phi3"},
        {"general.architecture": "phimoe"},
        {"general.name": "My Phi-3 mini"},
        {"general.name": "Phi3"},
    ):
        phi3 = made(spm_metadata(*turns) | keys)
        ids = phi3.encode("<|user|> \n\u2003a <|end|>  <s> a\n<|other|> a", False, True)
        assert phi3.decode(ids) == "<|user|>a <|end|><s> a\n<|other|> a"
        assert phi3.encode("<|user|> \n", False, True) == phi3.encode("<|user|>", False, True)
        assert phi3.decode(phi3.encode("<|user|> a", False)) == "<|user|> a"
    for keys in ({}, {"general.architecture": "llama"}, {"general.name": "phi-2"}):
        other = made(spm_metadata(*turns) | keys)
        assert other.decode(other.encode("<|user|> a", False, True)) == "<|user|> a"


def test_strictness_knows_places_after_stripped_spaces() -> None:
    metadata = spm_metadata(("<|end|>", 0.0, CONTROL))
    tokenizer = made(changed(metadata, {"<0x58>": None}) | {"general.name": "phi3"})
    with pytest.raises(TokenizerError, match="position 11"):
        tokenizer.encode("<|end|>   aX", parse_special=True, strict=True)


def test_a_long_text_in_parts_is_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = made(changed(spm_metadata(), {"<0xC3>": None, "<0x0A>": None}))
    crossing = made(spm_metadata(("o▁hello", 9.0, NORMAL)))
    texts = [random_text(np.random.default_rng(seed), pieces=60) for seed in range(40)]
    texts += ["hello hello " * 20, "éñ\n é\nÑ" * 20]
    whole = [tokenizer.encode(text) for text in texts]
    crossed = [crossing.encode(text) for text in texts]
    monkeypatch.setattr("motet.tokenizer.split._PART", 1)
    assert [tokenizer.encode(text) for text in texts] == whole
    assert [crossing.encode(text) for text in texts] == crossed


def test_text_is_normalised_where_the_file_says_so() -> None:
    tokenizer = made(
        spm_metadata(remove_extra_whitespaces=True, precompiled_charsmap=list(usual_charsmap()))
    )
    assert tokenizer.encode(" ｈello\u3000  a ") == PLAIN.encode("hello a")
    assert tokenizer.encode(" ") == PLAIN.encode("")
