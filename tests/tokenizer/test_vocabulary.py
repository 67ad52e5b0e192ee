"""What a vocabulary may say about itself, and what it may not."""

from typing import Any

import numpy as np
import pytest

from motet.errors import MotetError, TokenizerError, UnsupportedError
from motet.tokenizer import from_gguf
from tests.tokenizer.vocabularies import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    bert_metadata,
    bpe_metadata,
    gemma4_metadata,
    made,
    rwkv_metadata,
    spm_metadata,
    unigram_metadata,
)

N = len(spm_metadata()["tokenizer.ggml.tokens"])
ARRAYS = ["tokens", "scores", "token_type"]


def changed(key: str, value: Any) -> dict[str, Any]:
    return spm_metadata() | {f"tokenizer.ggml.{key}": value}


def test_no_vocabulary() -> None:
    assert from_gguf({"tokenizer.ggml.model": "no_vocab"}) is None
    assert from_gguf({"tokenizer.ggml.model": "none"}) is None


@pytest.mark.parametrize("kind", ["plamo2", "hybriddna", ""])
def test_other_kinds_are_named(kind: str) -> None:
    with pytest.raises(UnsupportedError, match=f"tokenizer.ggml.model.*'{kind}'"):
        from_gguf({"tokenizer.ggml.model": kind})


@pytest.mark.parametrize("metadata", [{}, {"tokenizer.ggml.model": 7}])
def test_a_file_must_name_the_kind(metadata: dict) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer\.ggml\.model"):
        from_gguf(metadata)


@pytest.mark.parametrize("key", ARRAYS)
@pytest.mark.parametrize("value", [[], 7, "text", [[1], [2, 3]], {"a": 1}, True])
def test_arrays_of_the_wrong_kind(key: str, value: Any) -> None:
    with pytest.raises(TokenizerError, match=rf"tokenizer\.ggml\.{key}"):
        from_gguf(changed(key, value))


@pytest.mark.parametrize("key", ["scores", "token_type"])
@pytest.mark.parametrize("difference", [-1, 1])
def test_arrays_of_the_wrong_length(key: str, difference: int) -> None:
    with pytest.raises(TokenizerError, match=rf"tokenizer\.ggml\.{key}.*{N + difference} elements"):
        from_gguf(changed(key, [1] * (N + difference)))


@pytest.mark.parametrize(
    ("key", "wrong", "problem"),
    [
        ("tokens", 7, "index 5"),
        ("tokens", "<s>", "'<s>' at both 1 and 5"),
        ("tokens", "a\ud800", r"U\+D800, at index 5"),
        ("scores", float("nan"), "is nan at index 5"),
        ("scores", 1e39, "is inf at index 5"),
        ("scores", "high", "must hold numbers"),
        ("token_type", -1, "is -1 at index 5"),
        ("token_type", 7, "is 7 at index 5"),
        ("token_type", 2**40, "at index 5"),
        ("token_type", 1.5, "must hold numbers"),
        ("tokens", "<0x5>", "byte"),
    ],
)
def test_one_wrong_element(key: str, wrong: Any, problem: str) -> None:
    metadata = spm_metadata()
    metadata[f"tokenizer.ggml.{key}"][5] = wrong
    with pytest.raises(TokenizerError, match=problem):
        from_gguf(metadata)


@pytest.mark.parametrize(
    "make",
    [
        *(spm_metadata, unigram_metadata, bert_metadata),
        *(bpe_metadata, gemma4_metadata, rwkv_metadata),
    ],
)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bos_token_id", 10**6),
        ("eos_token_id", -2),
        ("unknown_token_id", "0"),
        ("seperator_token_id", 1.0),
        ("padding_token_id", True),
        ("eot_token_id", [1]),
        ("eom_token_id", 2**63),
        ("fim_pad_token_id", -2),
        ("add_eos_token", 1),
        ("add_bos_token", "yes"),
    ],
)
def test_special_tokens_that_cannot_be(make: Any, key: str, value: Any) -> None:
    with pytest.raises(TokenizerError, match=rf"tokenizer\.ggml\.{key}"):
        from_gguf(make(**{key: value}))


@pytest.mark.parametrize("name", ["bos", "eos"])
def test_a_token_that_is_to_be_added_must_be_named(name: str) -> None:
    metadata = bpe_metadata(**{f"add_{name}_token": True, f"{name}_token_id": 0xFFFFFFFF})
    with pytest.raises(TokenizerError, match=f"add_{name}_token.*no {name.upper()} token"):
        from_gguf(metadata)


def test_numpy_arrays_will_do() -> None:
    metadata = spm_metadata()
    metadata["tokenizer.ggml.scores"] = np.array(metadata["tokenizer.ggml.scores"], np.float32)
    metadata["tokenizer.ggml.token_type"] = np.array(metadata["tokenizer.ggml.token_type"], "i4")
    metadata["tokenizer.ggml.tokens"] = np.array(metadata["tokenizer.ggml.tokens"])
    assert made(metadata).encode("hello") == made(spm_metadata()).encode("hello")


def test_defaults_of_sentencepiece_hold_for_control_tokens_only() -> None:
    tokenizer = made(spm_metadata())
    assert (tokenizer.bos, tokenizer.eos, tokenizer.unk) == (1, 2, 0)
    metadata = spm_metadata()
    metadata["tokenizer.ggml.token_type"][1] = NORMAL
    tokenizer = made(metadata)
    assert tokenizer.bos is None and not tokenizer.add_bos


def test_an_unknown_token_that_a_converter_marked_as_control() -> None:
    metadata = spm_metadata()
    metadata["tokenizer.ggml.token_type"][0] = CONTROL
    assert made(metadata).encode("hello") == made(spm_metadata()).encode("hello")


def test_several_unknown_tokens() -> None:
    tokenizer = made(spm_metadata(("<unk2>", 0, UNKNOWN)))
    assert tokenizer.unk == 0 and tokenizer.n_vocab - 1 in tokenizer.special
    assert tokenizer.encode("hello") == made(spm_metadata()).encode("hello")


def test_empty_tokens_have_ids_but_no_text() -> None:
    tokenizer = made(bpe_metadata(("", NORMAL), ("", CONTROL)))
    assert tokenizer.piece(tokenizer.n_vocab - 1) == f"[EMPTY_{tokenizer.n_vocab - 1}]".encode()


def test_ends_of_generation() -> None:
    tokenizer = made(
        bpe_metadata(
            ("<|eot_id|>", CONTROL),
            ("<end_of_turn>", NORMAL),
            ("<|im_start|>", CONTROL),
            ("</s>", CONTROL),
            ("<|fim_pad|>", CONTROL),
            ("stop", NORMAL),
            ("<|eom_id|>", CONTROL),
            eom_token_id=260,
        )
    )
    end = tokenizer.eos
    assert end is not None
    assert tokenizer.eot == end + 1
    assert tokenizer.eog == {end, end + 1, end + 2, end + 4, end + 5, end + 7, 260}


def test_parts_that_matter_to_nothing_may_be_named_beyond_the_vocabulary() -> None:
    """As padding is by converters that forget a token; llama.cpp takes it for none."""
    for make in (spm_metadata, bpe_metadata, gemma4_metadata, rwkv_metadata):
        tokenizer = made(make(padding_token_id=10**6, seperator_token_id=10**6))
        assert tokenizer.pad is None and tokenizer.sep is None
        assert made(make(fim_pad_token_id=10**6)).eog == made(make()).eog


def test_an_undefined_type_is_a_normal_one() -> None:
    metadata = bpe_metadata()
    types = metadata["tokenizer.ggml.token_type"]
    metadata["tokenizer.ggml.token_type"] = [0 if kind == NORMAL else kind for kind in types]
    text = "hello <|endoftext|> é"
    assert made(metadata).encode(text) == made(bpe_metadata()).encode(text)
    assert made(metadata).decode(made(metadata).encode(text)) == text


@pytest.mark.parametrize("make", [bpe_metadata, gemma4_metadata, rwkv_metadata])
def test_absent_types_are_guessed(make: Any) -> None:
    metadata = make()
    wanted = made(metadata)
    del metadata["tokenizer.ggml.token_type"]
    tokenizer = made(metadata)
    assert (tokenizer.eog, tokenizer.special) == (wanted.eog, wanted.special)
    for text in ("hello é 🦙\n", "<|endoftext|><eos><s>"):
        for parse in (False, True):
            ids = wanted.encode(text, parse_special=parse)
            assert tokenizer.encode(text, parse_special=parse) == ids
            assert tokenizer.decode(ids) == wanted.decode(ids)


def test_a_very_long_special_token_is_refused() -> None:
    for kind in (CONTROL, USER_DEFINED, UNKNOWN):
        with pytest.raises(TokenizerError, match=r"special token of 1025 characters at index 26\d"):
            made(bpe_metadata(("<" * 1025, kind)))
    assert made(bpe_metadata(("<" * 1025, NORMAL)))


def test_suppressed_tokens() -> None:
    assert made(bpe_metadata()).suppressed == frozenset()
    assert made(bpe_metadata(suppress_tokens=[])).suppressed == frozenset()
    assert made(bpe_metadata(suppress_tokens=[7, 3, 7])).suppressed == {3, 7}
    assert made(bpe_metadata(suppress_tokens=[-1, 3, 10**6])).suppressed == {3}


@pytest.mark.parametrize("wrong", [["a"], [1.0], [[1]], 7, "7", [2**64]])
def test_suppressed_tokens_that_cannot_be(wrong: Any) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer\.ggml\.suppress_tokens"):
        made(bpe_metadata(suppress_tokens=wrong))


def test_a_text_cannot_end_a_generation_by_spelling() -> None:
    tokenizer = made(bpe_metadata(("<end_of_turn>", USER_DEFINED), ("<fim_middle>", USER_DEFINED)))
    assert tokenizer.n_vocab - 2 not in tokenizer.encode("<end_of_turn>")
    assert tokenizer.n_vocab - 1 not in tokenizer.encode("<fim_middle>")
    assert tokenizer.encode("<end_of_turn>", parse_special=True) == [tokenizer.n_vocab - 2]


def test_tokens_that_end_elsewhere_but_not_here() -> None:
    harmony = made(bpe_metadata(("<|end|>", CONTROL), ("<|return|>", CONTROL), ("<|call|>", 3)))
    assert harmony.eog == {harmony.n_vocab - index for index in (1, 2, 4)}
    gemma = made(gemma4_metadata(("</s>", NORMAL), ("<|tool_response>", USER_DEFINED)))
    assert gemma.eog == {gemma.eos, gemma.n_vocab - 1}
    qwen = made(bpe_metadata(("</s>", NORMAL)))
    assert qwen.eog == {qwen.eos}
    assert qwen.encode("</s>", parse_special=True) == qwen.encode("</s>")
    assert made(bpe_metadata(("</s>", NORMAL), eos_token_id=267)).eog == {266, 267}


def test_text_that_is_no_unicode() -> None:
    with pytest.raises(TokenizerError, match=r"U\+D800, at position 2"):
        made(spm_metadata()).encode("ab\ud800")


def test_tokens_of_raw_bytes_are_refused_where_the_library_cannot_hold_them() -> None:
    raw = b"\xff".decode("utf-8", "surrogateescape")
    with pytest.raises(TokenizerError, match=r"tokenizer\.ggml\.tokens"):
        from_gguf(bpe_metadata((raw, NORMAL)))


@pytest.mark.parametrize("token", [-1, N, 10**30])
def test_ids_that_are_not_there(token: int) -> None:
    tokenizer = made(spm_metadata())
    with pytest.raises(TokenizerError, match=f"{token}.*{N}"):
        tokenizer.piece(token)
    with pytest.raises(TokenizerError, match=str(token)):
        tokenizer.decode([3, token])


def test_every_error_is_one_line() -> None:
    metadata = spm_metadata() | {"tokenizer.ggml.model": "a\nb" * 1000}
    with pytest.raises(MotetError) as caught:
        from_gguf(metadata)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
