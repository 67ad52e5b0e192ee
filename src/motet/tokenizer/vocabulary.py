"""The tokens of a vocabulary, what each is, and which of them have a part to play."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from motet.cached import cached_property
from motet.tokenizer.longest import LONGEST
from motet.tokenizer.metadata import VocabularyKeys
from motet.tokenizer.special import SPELLINGS, SpecialTokens, special_tokens
from motet.tokenizer.types import BYTE_TEXTS, SPECIAL_TYPES, TokenType, read_types

TOKENS = "tokenizer.ggml.tokens"
_LOOKED_UP = SPELLINGS.union(BYTE_TEXTS)
"""Tokens that are known by their spelling."""


@dataclass(frozen=True)
class Vocabulary:
    """Tokens in the order of their ids.

    ``texts``: each token as the file spells it, or what its spelling stands for where the kind of
    vocabulary has escapes. ``types``: a TokenType each.
    """

    texts: list[str]
    types: bytes
    special: SpecialTokens

    @cached_property
    def ids(self) -> dict[str, int]:
        """Text -> id. Made when it is first needed: it takes 0.05 s of a large vocabulary."""
        return dict(zip(self.texts, range(len(self.texts)), strict=True))

    def of_type(self, *types: TokenType) -> list[int]:
        """Ids of all tokens of one of the types, ascending."""
        marks = np.frombuffer(self.types, np.uint8)
        return np.flatnonzero(np.isin(marks, types)).tolist()


def read_vocabulary(
    keys: VocabularyKeys,
    defaults: dict[str, int],
    unescape: Callable[[str], str] | None = None,
    spelt_bytes: bool = False,
) -> Vocabulary:
    """The tokens and special tokens that ``keys`` describe.

    ``defaults``: id of "bos" and "eos" where the file does not name them and that token is a
    control token. ``unescape``: from a token's spelling to its text; ValueError if it is none.
    ``spelt_bytes``: tokens spelt as bytes are bytes, whatever type the file gives them.
    """
    texts = _texts(keys, unescape)
    if len(set(texts)) != len(texts):
        ids = dict(zip(texts, range(len(texts)), strict=True))
        index = next(i for i, text in enumerate(texts) if ids[text] != i)
        again = ids[texts[index]]
        raise keys.error(TOKENS, f"has {texts[index][:40]!r} at both {index} and {again}")
    ids = {text: index for index, text in enumerate(texts) if text in _LOOKED_UP}
    types = read_types(keys, texts, ids, defaults, spelt_bytes)
    special = special_tokens(keys, ids, types, defaults)
    vocabulary = Vocabulary(texts, bytes(types), special)
    for token in vocabulary.of_type(*SPECIAL_TYPES):
        if len(texts[token]) > LONGEST:
            raise keys.error(
                TOKENS,
                f"has a special token of {len(texts[token])} characters at index {token}; "
                f"at most {LONGEST} are read",
            )
    return vocabulary


def _texts(keys: VocabularyKeys, unescape: Callable[[str], str] | None) -> list[str]:
    texts = keys.strings(TOKENS)
    if unescape is not None:
        texts = _unescaped(keys, texts, unescape)
    if "" in texts:
        # As in llama.cpp: an empty token can never be met in a text, but it has an id.
        texts = [text or f"[EMPTY_{index}]" for index, text in enumerate(texts)]
    try:
        "".join(texts).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        wrong = error.object[error.start]
        index = next(index for index, text in enumerate(texts) if wrong in text)
        raise keys.error(
            TOKENS, f"has a lone surrogate, U+{ord(wrong):04X}, at index {index}"
        ) from None
    return texts


def _unescaped(keys: VocabularyKeys, texts: list[str], unescape: Callable[[str], str]) -> list[str]:
    meant = []
    for index, text in enumerate(texts):
        try:
            meant.append(unescape(text))
        except ValueError as error:
            raise keys.error(TOKENS, f"has {text[:40]!r} at index {index}: {error}") from None
    return meant
