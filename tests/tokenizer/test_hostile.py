"""Whatever the metadata hold, there is a tokenizer or an error that a user can read."""

import subprocess
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from motet.errors import MotetError
from motet.tokenizer import from_gguf
from tests.tokenizer.vocabularies import (
    bert_metadata,
    bpe_metadata,
    gemma4_metadata,
    rwkv_metadata,
    spm_metadata,
    unigram_metadata,
)

VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**64), 2**64),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.one_of(st.integers(-9, 9), st.floats(), st.text(max_size=3)), max_size=4),
)
NUMBERS = st.one_of(st.integers(-9, 9), st.integers(), st.floats())
WORDS = st.text(st.sampled_from("ab▁<>0xF \n\0\ud800\udcffé\\"), max_size=6)
MAKERS = st.sampled_from(
    [spm_metadata, unigram_metadata, bert_metadata, bpe_metadata, gemma4_metadata, rwkv_metadata]
)


def try_it(metadata: dict[str, Any]) -> None:
    try:
        tokenizer = from_gguf(metadata)
        if tokenizer is not None:
            ids = tokenizer.encode("hello <s> é", add_special=False, parse_special=True)
            assert all(0 <= token < tokenizer.n_vocab for token in ids)
            tokenizer.decode(range(tokenizer.n_vocab))
    except MotetError as error:
        assert "\n" not in str(error) and len(str(error)) < 600


@given(MAKERS, st.data())
def test_any_value_under_any_key(make: Any, data: st.DataObject) -> None:
    metadata = make(bos_token_id=1, unknown_token_id=0, add_space_prefix=True)
    for key in data.draw(st.lists(st.sampled_from(sorted(metadata)), min_size=1, max_size=3)):
        metadata[key] = data.draw(VALUES)
    try_it(metadata)


@given(MAKERS, st.data())
def test_any_element_of_any_array(make: Any, data: st.DataObject) -> None:
    metadata = make()
    arrays = sorted(key for key, value in metadata.items() if isinstance(value, list))
    for key in data.draw(st.lists(st.sampled_from(arrays), min_size=1, max_size=5)):
        place = data.draw(st.integers(0, len(metadata[key]) - 1))
        is_text = isinstance(metadata[key][place], str)
        metadata[key][place] = data.draw(WORDS if is_text else NUMBERS)
    try_it(metadata)


def test_libraries_are_imported_when_needed() -> None:
    code = (
        "import sys, motet.tokenizer, motet.tokenizer.chat\n"
        "print(*{'sentencepiece', 'tokenizers', 'jinja2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
