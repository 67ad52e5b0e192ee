"""Vocabularies of every kind: tokens are the bytes that decoding gives, special ones apart."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from motet.cli.demo import shipped_model
from motet.grammar import GrammarCompiler
from motet.opening import open_model
from motet.tokenizer import Tokenizer, from_gguf
from tests.shared import SHARED, needs_shared

pytest.importorskip("llguidance", reason="needs llguidance: pip install 'motet[grammar]'")

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "n": {"type": "array", "items": {"type": "number"}}},
    "required": ["name", "n"],
}
TEXT = '{"name": "Zoë\\n≠ 🙂  x", "n": [1, -2.5e3]'
"""But for the last bracket."""


@cache
def tokenizer_of(path: Path) -> Tokenizer:
    with open_model(path) as file:
        tokenizer = from_gguf(file.metadata)
    assert tokenizer is not None
    return tokenizer


def spelt(tokenizer: Tokenizer, text: str) -> Iterator[int]:
    """Tokens whose bytes are the text's, the longest first."""
    ids = {tokenizer.piece(t): t for t in set(range(tokenizer.n_vocab)) - tokenizer.special}
    rest = text.encode()
    while rest:
        size = next(n for n in range(min(len(rest), 64), 0, -1) if rest[:n] in ids)
        yield ids[rest[:size]]
        rest = rest[size:]


def check(tokenizer: Tokenizer, text: str = TEXT) -> None:
    compiler = GrammarCompiler(tokenizer, tokenizer.n_vocab)
    vocabulary = compiler._vocabulary
    for token in range(0, tokenizer.n_vocab, max(1, tokenizer.n_vocab // 2000)):
        if token not in tokenizer.special and tokenizer.piece(token) != b"\xff":
            assert vocabulary.decode_bytes([token]) == tokenizer.piece(token)
    assert sorted(vocabulary.eos_tokens) == sorted(tokenizer.eog)
    matcher = compiler.json_schema(SCHEMA).matcher()
    for token in spelt(tokenizer, text):
        assert matcher.mask()[token] == 0
        matcher.take(token)
    special = [token for token in tokenizer.special if token not in tokenizer.eog]
    assert np.isneginf(matcher.mask()[special]).all()
    free = compiler.regex("(?s:.*)").matcher()
    allowed = free.mask() == 0
    assert allowed[list(tokenizer.eog)].all()
    assert not allowed[special].any()


def test_the_shipped_ones() -> None:
    folder = Path(shipped_model()).parent
    check(tokenizer_of(folder / "motet-tiny.gguf"))
    check(tokenizer_of(folder / "motet-tiny-t5.gguf"), '{"name": "Zoe x", "n": [1, -2.5e3]')


@needs_shared
@pytest.mark.parametrize("name", ["llama-bpe", "llama-spm", "gpt-2", "gpt-neox"])
def test_those_of_llama_cpp(name: str) -> None:
    check(tokenizer_of(SHARED / "tokenizers" / f"ggml-vocab-{name}.gguf"))


@needs_shared
@pytest.mark.parametrize("name", ["rwkv6_real", "stories"])
def test_those_of_models(name: str) -> None:
    path = SHARED / "parity" / name / "model.gguf"
    if name == "stories":
        path = SHARED / "stories260K" / "stories260K-F16.gguf"
    check(tokenizer_of(path))


@needs_shared
def test_special_tokens_by_name() -> None:
    tokenizer = tokenizer_of(SHARED / "tokenizers" / "ggml-vocab-llama-bpe.gguf")
    compiler = GrammarCompiler(tokenizer, tokenizer.n_vocab)
    matcher = compiler.lark('start: <|eot_id|> | "x" <|start_header_id|>').matcher()
    tag, x = tokenizer.encode("<|start_header_id|>", False, parse_special=True), 87
    assert np.isneginf(matcher.mask()[tag]).all() and matcher.mask()[x] == 0
    assert not matcher.take(x) and matcher.mask()[tag[0]] == 0
    assert matcher.take(tag[0]) and matcher.complete
