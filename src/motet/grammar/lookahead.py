"""Where an answer would stand in its grammar after tokens that are only proposed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from motet.arrays import Array

if TYPE_CHECKING:
    from llguidance import LLMatcher

    from motet.tokenizer import Tokenizer

_SPELLINGS = 32
"""Where more tokens may come next, no text is taken to be forced."""


class Lookahead:
    """A copy of a matcher's state, so that nothing that is only proposed leaves a trace there.

    What fails here proposes nothing and prepares nothing: the matcher itself says what is wrong,
    where it comes to that.
    """

    def __init__(self, state: "LLMatcher", tokenizer: "Tokenizer", mask_words: int) -> None:
        """``mask_words``: int32 of a mask, a bit a token."""
        self.state = state
        self._tokenizer = tokenizer
        self._mask_words = mask_words

    def allowed(self, tokens: Sequence[int]) -> Sequence[int]:
        """As many of ``tokens`` as the grammar allows."""
        return tokens[: self.state.validate_tokens(list(tokens))]

    def forced(self, most: int) -> list[int]:
        """Tokens that spell the text which the grammar forces, if it does, the longest ones first.

        The same text may be spelt by other tokens, so the model may choose otherwise.
        """
        found: list[int] = []
        while len(found) < most:
            mask = np.frombuffer(self.state.compute_bitmask(), np.int32)[: self._mask_words]
            token = self._only(mask)
            if token is None or not self.state.consume_token(token) or self.state.is_error():
                break
            found.append(token)
            if self.state.is_stopped():
                break
        if found and not self.state.is_error():
            self.state.rollback(len(found))
        return [] if self.state.is_error() else found

    def _only(self, mask: Array) -> int | None:
        """The longest of the tokens that may come next, where all others begin it."""
        words = np.flatnonzero(mask)
        if not 0 < len(words) <= _SPELLINGS:
            return None
        bits = np.unpackbits(mask[words].view(np.uint8), bitorder="little").reshape(len(words), 32)
        at, bit = np.nonzero(bits)
        tokens = (words[at] * 32 + bit).tolist()
        if len(tokens) > _SPELLINGS or not self._tokenizer.eog.isdisjoint(tokens):
            return None
        spelt = [self._tokenizer.piece(token) for token in tokens]
        longest = max(spelt, key=len)
        if not longest or not all(longest.startswith(each) for each in spelt):
            return None
        return tokens[len(spelt) - 1 - spelt[::-1].index(longest)]
