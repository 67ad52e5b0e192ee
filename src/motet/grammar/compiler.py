"""Schemas, regular expressions and grammars, compiled for a vocabulary."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from motet.cached import cached_property
from motet.checks import shown
from motet.errors import OptionError, UnsupportedError
from motet.grammar.deep_stack import on_deep_stack
from motet.grammar.gbnf import gbnf_as_lark, is_gbnf
from motet.grammar.lark import checked_grammar, checked_lark, regex_as_lark
from motet.grammar.library import limits, refusal, require_llguidance
from motet.grammar.matcher import Matcher
from motet.grammar.schemas import schema_text
from motet.grammar.vocabulary import masked_vocabulary
from motet.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

CACHED = 32
"""Grammars that a compiler keeps."""
CACHED_CHARACTERS = 500_000
"""What their texts may have together."""


class Grammar:
    """What an answer may say; never changes. Made by a ``GrammarCompiler``."""

    def __init__(
        self, lark: str, start: "LLMatcher", tokenizer: Tokenizer, n_vocab: int, mask_size: int
    ) -> None:
        """``lark``: its text. ``mask_size``: tokens of llguidance's masks."""
        self.lark = lark
        self.tokenizer = tokenizer
        self.n_vocab = n_vocab
        self.mask_size = mask_size
        self._start = start
        self._copying = threading.Lock()

    def matcher(self) -> Matcher:
        """For an answer that has not begun."""
        return Matcher(self)

    def begin(self) -> "LLMatcher":
        """llguidance's state before the first token."""
        with self._copying:
            return self._start.deep_copy()


class GrammarCompiler:
    """Compiles grammars for a model's vocabulary, each once; safe to share between threads.

    The first needs the vocabulary in a form of its own, which takes up to a second (``prepare``).
    Every method raises UnsupportedError where the model has no vocabulary or llguidance is not
    installed, and OptionError for what can't be compiled, is too large, or nothing satisfies.
    """

    def __init__(self, tokenizer: Tokenizer | None, n_vocab: int) -> None:
        """``n_vocab``: of the model, which may have more tokens than its vocabulary."""
        self._tokenizer = tokenizer
        self._n_vocab = n_vocab
        self._cache: OrderedDict[str, Grammar] = OrderedDict()
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Do what compiling the first grammar would have to do."""
        require_llguidance()
        with self._lock:
            _ = self._vocabulary

    def json_schema(self, schema: Mapping[str, Any] | str | bool) -> Grammar:
        """JSON that satisfies a schema: a dictionary, or its text. True: any JSON."""
        text = schema_text(schema)
        return self._compiled("the JSON schema", f"start: %json {text}")

    def regex(self, pattern: str) -> Grammar:
        """Text that a regular expression matches as a whole.

        Of Rust's ``regex`` syntax: no look-around, no back-references.
        """
        return self._compiled(f"the regular expression {shown(pattern)}", regex_as_lark(pattern))

    def lark(self, text: str) -> Grammar:
        """Text of a grammar in llguidance's variant of Lark."""
        return self._compiled("the grammar", checked_lark(text))

    def gbnf_or_lark(self, text: str) -> Grammar:
        """Text of a grammar in Lark, or in llama.cpp's GBNF, whose rules have ``::=``."""
        grammar = checked_grammar(text)
        if is_gbnf(grammar):
            return self._compiled("the grammar", gbnf_as_lark(grammar))
        return self.lark(grammar)

    def own(self, grammar: Grammar) -> Grammar:
        """A compiled grammar. Raises OptionError for one of another vocabulary."""
        if grammar.tokenizer is not self._tokenizer or grammar.n_vocab != self._n_vocab:
            raise OptionError(
                "the grammar was compiled for another model's vocabulary",
                hint="compile it by the grammars of this LLM",
            )
        return grammar

    def _compiled(self, what: str, lark: str) -> Grammar:
        require_llguidance()
        with self._lock:
            found = self._cache.get(lark)
            if found is not None:
                self._cache.move_to_end(lark)
                return found
            vocabulary = self._vocabulary
        grammar = self._made(what, lark, vocabulary)
        with self._lock:
            grammar = self._cache.setdefault(lark, grammar)
            while len(self._cache) > CACHED or sum(map(len, self._cache)) > CACHED_CHARACTERS:
                self._cache.popitem(last=False)
        return grammar

    @cached_property
    def _vocabulary(self) -> "LLTokenizer":
        if self._tokenizer is None:
            raise UnsupportedError(
                "the model file has no vocabulary, so a grammar means nothing to it"
            )
        return masked_vocabulary(self._tokenizer, self._n_vocab)

    def _made(self, what: str, lark: str, vocabulary: "LLTokenizer") -> Grammar:
        """Compile, and compute the first mask, in which what nothing satisfies shows."""
        from llguidance import LLMatcher

        def compiled() -> tuple[LLMatcher, bytes]:
            # Tokens are the model's to choose, also where only one text may follow.
            text = lark + '\n%llguidance {"no_forcing": true}\n'
            start = LLMatcher(vocabulary, text, log_level=0, limits=limits())
            return start, b"" if start.is_error() else start.compute_bitmask()

        start, first = on_deep_stack(compiled)
        if start.is_error():
            raise refusal(what, start.get_error())
        assert self._tokenizer is not None
        bits = np.unpackbits(np.frombuffer(first, np.uint8), bitorder="little")
        if not bits[: self._n_vocab].any():
            raise OptionError(f"{what} allows no text at all", hint="loosen it")
        return Grammar(lark, start, self._tokenizer, self._n_vocab, vocabulary.vocab_size)
