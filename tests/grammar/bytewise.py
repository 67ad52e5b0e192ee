"""Grammars on a vocabulary of single bytes: whether texts are of them."""

import pytest

pytest.importorskip("llguidance", reason="needs llguidance: pip install 'motet[grammar]'")

from motet.grammar import Grammar, GrammarCompiler
from tests.scripted import N_VOCAB, ByteTokenizer


def compiler() -> GrammarCompiler:
    return GrammarCompiler(ByteTokenizer(), N_VOCAB)  # type: ignore[arg-type]


def accepts(grammar: Grammar, text: str) -> bool:
    """Whether an answer may be ``text``, and end there."""
    matcher, may_end = grammar.matcher(), False
    for byte in text.encode():
        if matcher.complete or matcher.mask()[byte] != 0:
            return False
        may_end = matcher.take(byte)
    return may_end
