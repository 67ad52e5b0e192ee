"""Ids to text one at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.tokenizer import IncrementalDecoder, Tokenizer
from tests.tokenizer.vocabularies import (
    USER_DEFINED,
    bpe_metadata,
    gemma4_metadata,
    made,
    spm_metadata,
)

SPM = made(spm_metadata(("<tag>", 0, USER_DEFINED)))
BPE = made(bpe_metadata())
GEMMA = made(gemma4_metadata())


def ids_of(tokenizer: Tokenizer) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, tokenizer.n_vocab - 1), max_size=40)


@pytest.mark.parametrize("tokenizer", [SPM, BPE, GEMMA], ids=["llama", "gpt2", "gemma4"])
@given(data=st.data())
def test_pushes_and_flush_are_the_whole(tokenizer: Tokenizer, data: st.DataObject) -> None:
    ids = data.draw(ids_of(tokenizer))
    decoder = IncrementalDecoder(tokenizer)
    parts = [decoder.push(token) for token in ids]
    assert "".join(parts) + decoder.flush() == tokenizer.decode(ids)


@given(ids_of(BPE))
def test_the_whole_is_the_bytes_with_errors_replaced(ids: list[int]) -> None:
    whole = b"".join(BPE.piece(token) for token in ids)
    assert BPE.decode(ids) == whole.decode("utf-8", "replace")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd")))
def test_never_half_a_character(text: str) -> None:
    decoder = IncrementalDecoder(BPE)
    done = ""
    for byte in text.encode():
        part = decoder.push(byte)  # the first 256 ids are the bytes
        done += part
        assert text.startswith(done)
    assert done == text
    assert decoder.flush() == ""


def test_unfinished_bytes_show_at_the_end_only() -> None:
    decoder = IncrementalDecoder(BPE)
    assert [decoder.push(byte) for byte in "🦙".encode()[:3]] == ["", "", ""]
    assert decoder.flush() == "\ufffd"
    assert decoder.flush() == ""


def test_bytes_that_can_no_longer_become_a_character_show_at_once() -> None:
    decoder = IncrementalDecoder(BPE)
    assert [decoder.push(byte) for byte in (0xF0, 0x9F, ord("a"))] == ["", "", "\ufffda"]
    assert decoder.push(0xFF) == "\ufffd"


def test_going_on_from_a_prompt_keeps_the_space() -> None:
    hello = SPM.encode("hello", add_special=False)
    prompt = SPM.encode("a")
    assert SPM.decode(hello) == "hello"
    assert SPM.decode(hello, previous=prompt[-1]) == " hello"
    assert SPM.decode(hello, previous=SPM.bos) == "hello"
    assert SPM.decode(prompt + hello) == "<s>a hello"
    assert IncrementalDecoder(SPM, previous=prompt[-1]).push(hello[0]) == " hello"


def test_the_space_after_a_special_token_was_added_too() -> None:
    ids = SPM.encode("a<tag>hello</s> a", parse_special=True)
    assert SPM.decode(ids) == "<s>a<tag>hello</s> a"


def test_only_one_space_goes() -> None:
    ids = SPM.encode("   a", add_special=False)
    assert SPM.decode(ids) == "   a"


def test_nothing_goes_where_none_is_added() -> None:
    plain = made(spm_metadata(add_space_prefix=False))
    assert plain.decode(plain.encode(" hello")) == "<s> hello"
    assert BPE.decode(BPE.encode(" hello")) == " hello"
