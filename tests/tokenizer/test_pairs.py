"""What goes around texts and between the two of a pair."""

from typing import Any

import numpy as np
import pytest

from motet.errors import TokenizerError
from tests.tokenizer.texts import random_text
from tests.tokenizer.vocabularies import (
    CONTROL,
    bert_metadata,
    bpe_metadata,
    gemma4_metadata,
    made,
    pieces,
    rwkv_metadata,
    spm_metadata,
    unigram_metadata,
    usual_charsmap,
)


def spelt(metadata: dict[str, Any], first: str = "a", second: str = "he") -> str:
    tokenizer = made(metadata)
    ids = tokenizer.encode_pair(first, second)
    before, after = tokenizer.segments(first, second)
    assert before + after == ids
    return b"|".join([*pieces(tokenizer, before), b"", *pieces(tokenizer, after)]).decode()


def test_bert_has_one_separator_and_roberta_two() -> None:
    assert spelt(bert_metadata()) == "[CLS]| a|[SEP]|| he|[SEP]"
    assert spelt(unigram_metadata()) == "<s>| a|</s>||</s>| |he|</s>"
    assert spelt(bert_metadata(), "", "") == "[CLS]|[SEP]||[SEP]"


def test_flags_decide_about_the_separator() -> None:
    assert spelt(bert_metadata(add_sep_token=True)) == "[CLS]| a|[SEP]||[SEP]| he|[SEP]"
    assert spelt(unigram_metadata(add_sep_token=False)) == "<s>| a|</s>|| |he|</s>"
    t5 = unigram_metadata(add_bos_token=False)
    assert spelt(t5) == " a|</s>|| |he|</s>"


def test_byte_level_vocabularies_of_encoders() -> None:
    special = [("[CLS]", CONTROL), ("[SEP]", CONTROL)]
    first = len(bpe_metadata()["tokenizer.ggml.tokens"])
    named = {"bos_token_id": first, "eos_token_id": first + 1, "seperator_token_id": first + 1}
    adds = {"add_bos_token": True, "add_eos_token": True}
    roberta = bpe_metadata(*special, **named, **adds, pre="roberta-bpe")
    assert spelt(roberta) == "[CLS]|a|[SEP]||[SEP]|he|[SEP]"
    modern = bpe_metadata(*special, **named, **adds, add_sep_token=False, pre="modern-bert")
    assert spelt(modern) == "[CLS]|a|[SEP]||he|[SEP]"
    assert made(modern).encode("e\u0301") == made(modern).encode("é")


def test_an_end_token_alone_is_added_where_the_file_says_so() -> None:
    """As Qwen3-Embedding's files do."""
    tokenizer = made(bpe_metadata(add_eos_token=True))
    assert pieces(tokenizer, tokenizer.encode("hello")) == [b"hello", b"<|endoftext|>"]
    assert (tokenizer.prefix, tokenizer.suffix) == ((), (tokenizer.eos,))
    assert (tokenizer.add_bos, tokenizer.add_eos) == (False, True)


@pytest.mark.parametrize("make", [spm_metadata, bpe_metadata, gemma4_metadata, rwkv_metadata])
def test_vocabularies_without_a_form_for_pairs_say_so(make: Any) -> None:
    with pytest.raises(TokenizerError, match="no form for a pair of texts"):
        made(make()).encode_pair("a", "b")


def test_bad_arguments_and_flags() -> None:
    with pytest.raises(TokenizerError, match="lone surrogate"):
        made(bert_metadata()).encode_pair("a", "\ud800")
    with pytest.raises(TokenizerError, match=r"add_sep_token' is true, but the file names no SEP"):
        made(rwkv_metadata(add_sep_token=True, eos_token_id=-1))


def test_special_tokens_in_a_pair_are_text() -> None:
    assert spelt(bert_metadata(), "[SEP]").count("[SEP]") == 2


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers")


def _vocabulary(metadata: dict[str, Any]) -> list[tuple[str, float]]:
    return list(
        zip(metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.scores"], strict=True)
    )


def test_bert_as_transformers_reads_pairs(transformers: Any) -> None:
    metadata = bert_metadata()
    tokens = [
        text if kind == CONTROL else text[1:] if text[1:] and text[0] == "▁" else f"##{text}"
        for text, kind in zip(
            metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"], strict=True
        )
    ]
    wanted = transformers.BertTokenizer(vocab={text: token for token, text in enumerate(tokens)})
    tokenizer = made(metadata)
    for seed in range(200):
        first, second = (random_text(np.random.default_rng([seed, part])) for part in (0, 1))
        assert tokenizer.encode(first) == wanted(first)["input_ids"]
        before, after = tokenizer.segments(first, second)
        answer = wanted(first, second)
        assert before + after == answer["input_ids"]
        assert [0] * len(before) + [1] * len(after) == answer["token_type_ids"]


def test_unigram_as_transformers_reads_pairs(transformers: Any) -> None:
    metadata = unigram_metadata()
    wanted = transformers.XLMRobertaTokenizer(
        vocab=_vocabulary(metadata), _spm_precompiled_charsmap=usual_charsmap()
    )
    tokenizer = made(metadata)
    texts = ["", "  hello ", "Ｈello the　a", "naïve 中文\tfile", "one\ntwo ﬁ ½ ² x"]
    for first in texts:
        assert tokenizer.encode(first) == wanted(first)["input_ids"]
        for second in texts[1:]:  # an empty one is none to transformers
            answer = wanted(first, second)["input_ids"]
            assert tokenizer.encode_pair(first, second) == answer
