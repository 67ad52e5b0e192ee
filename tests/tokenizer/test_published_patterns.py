"""Pre-tokenizers cut as the models' own patterns do, matched by another library."""

import pytest

pytest.importorskip("regex", reason="needs regex, the oracle")

from tests.tokenizer.published_patterns import PATTERNS, differing


@pytest.mark.parametrize("name", PATTERNS)
def test_random_texts(name: str) -> None:
    assert differing(name, range(100)) == []


def test_kimi_keeps_han_apart() -> None:
    from tests.tokenizer.test_pretokenizers import cut, pre_tokenizer

    parts = cut(pre_tokenizer("kimi-k2", None), "Hello世界it's 漢字かな12345 \n ok")
    assert parts == ["Hello", "世界", "it's", " ", "漢字", "かな", "123", "45", " \n", " ok"]
