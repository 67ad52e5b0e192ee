"""How text is cut before merging."""

import pytest

from motet.errors import UnsupportedError
from motet.tokenizer.pretokenizers import PreTokenizer, pre_tokenizer
from tests.tokenizer.vocabularies import NORMAL, bpe_metadata, made, pieces

TEXT = "I'LL go\n\n  to Ünï1234 —$9!?\r\n\ttab x'S  "


def cut(prepare: PreTokenizer, text: str) -> list[str]:
    from tokenizers import pre_tokenizers

    parts = pre_tokenizers.Sequence(prepare.steps()).pre_tokenize_str(text)
    return [text[start:end] for _, (start, end) in parts]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("gpt-2", "I|'|LL| go|\n\n | to| Ünï|1234| —$|9|!?|\r\n|\t|tab| x|'|S|  "),
        ("llama-bpe", "I|'LL| go|\n\n| | to| Ünï|123|4| —$|9|!?\r\n|\ttab| x|'S|  "),
        ("qwen2", "I|'LL| go|\n\n| | to| Ünï|1|2|3|4| —$|9|!?\r\n|\ttab| x|'S|  "),
        ("gpt-4o", "I'LL| go|\n\n| | to| Ünï|123|4| —$|9|!?\r\n|\ttab| x'S|  "),
        ("tekken", "I|'LL| go|\n\n| | to| Ünï|1|2|3|4| —$|9|!?\r\n|\ttab| x|'S|  "),
        ("starcoder", "I|'|LL| go|\n\n | to| Ünï|1|2|3|4| —$|9|!?|\r\n|\t|tab| x|'|S|  "),
        ("falcon", "I|'|LL| go|\n\n | to| Ünï|123|4| |—$|9|!?|\r\n|\t|tab| x|'|S|  "),
    ],
)
def test_known_cuts(name: str, parts: str) -> None:
    got = cut(pre_tokenizer(name, None), TEXT)
    assert "".join(got) == TEXT
    assert got == parts.split("|")


def test_deepseek_leaves_spaces_at_the_end_of_a_line_alone() -> None:
    prepare = pre_tokenizer("deepseek-llm", None)
    assert cut(prepare, "a   b   \nc  ") == ["a", "  ", " b", "   ", "\n", "c", "  "]


def test_deepseek_llm_reads_letters_as_they_are_in_its_own_list() -> None:
    """U+1F7D is the end of a range there; its composed form, U+03CE, is another letter."""
    assert cut(pre_tokenizer("deepseek-llm", None), "\u1f70\u1f7d1") == ["\u1f70\u1f7d", "1"]


def test_falcon_knows_the_punctuation_of_the_library_it_was_made_with() -> None:
    """U+2E56 came with Unicode 14: a symbol like others there, which takes the space before it."""
    assert cut(pre_tokenizer("falcon", None), " \u2e56 !`$")[0] == " \u2e56"
    assert cut(pre_tokenizer("falcon", None), " \u2e55 !`$")[-2:] == [" ", "!`$"]


def test_falcon_cuts_bytes_that_are_spelt_as_digits() -> None:
    """Where the byte between them has no token: U+BC8F9 is F2 BC A3 B9, and ½ and ¼ are digits."""
    metadata = bpe_metadata(("½¼", NORMAL), pre="falcon")
    metadata["tokenizer.ggml.merges"].append("½ ¼")
    texts = metadata["tokenizer.ggml.tokens"]
    texts[texts.index("ò")] = "[none]"
    tokenizer = made(metadata)
    assert pieces(tokenizer, tokenizer.encode("\U0001f3fd\U000bc8f9"))[3:5] == [b"\xbd", b"\xbc"]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="'kimi-k9'"):
        pre_tokenizer("kimi-k9", "deepseek2")


def test_files_that_name_none() -> None:
    assert pre_tokenizer(None, "gptneox") == pre_tokenizer("olmo", None)
    assert pre_tokenizer(None, "mamba") == pre_tokenizer("mpt", None)
    assert pre_tokenizer(None, "gpt2") == pre_tokenizer("gpt-2", None)
    assert pre_tokenizer(None, "mpt") == pre_tokenizer("mpt", None)
    assert pre_tokenizer(None, "starcoder2") == pre_tokenizer("starcoder", None)
    assert pre_tokenizer(None, "llama") == pre_tokenizer("default", None)
    assert pre_tokenizer(None, None) == pre_tokenizer("default", None)
