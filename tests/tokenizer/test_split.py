"""Special tokens spelt out in a text."""

import re

from hypothesis import given
from hypothesis import strategies as st

from motet.tokenizer.split import SpecialSplitter

LETTERS = st.text("<ab> ", min_size=1, max_size=5)


@given(st.sets(LETTERS, max_size=8), st.text("<ab> ", max_size=40))
def test_at_each_place_the_longest_that_fits(texts: set[str], text: str) -> None:
    ids = {token: index for index, token in enumerate(sorted(texts))}
    longest_first = sorted(texts, key=len, reverse=True)
    pattern = "|".join(map(re.escape, longest_first)) or "(?!)"
    parts = re.split(f"({pattern})", text)  # every second one is a match
    expected = [ids[part] if index % 2 else part for index, part in enumerate(parts) if part]
    assert list(SpecialSplitter(ids.items()).split(text)) == expected


def test_no_tokens_and_no_text() -> None:
    assert list(SpecialSplitter([]).split("a<b>")) == ["a<b>"]
    assert list(SpecialSplitter([("a", 1)]).split("")) == []


def test_many_tokens_and_a_long_text_of_their_beginnings() -> None:
    """Trying each of the 6,000 at each place would take hours."""
    splitter = SpecialSplitter((f"<unused{index}>", index) for index in range(6000))
    text = "<unused" * 100_000 + "<unused77>"
    assert list(splitter.split(text)) == ["<unused" * 100_000, 77]
