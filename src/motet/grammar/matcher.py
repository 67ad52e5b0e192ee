"""Where one answer stands in its grammar, and the masks of tokens that may come next."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from motet.arrays import Array, Float32
from motet.errors import MotetError
from motet.grammar.library import shortened
from motet.grammar.lookahead import Lookahead

if TYPE_CHECKING:
    from llguidance import LLMatcher

    from motet.grammar.compiler import Grammar

_FORBIDDEN = np.array(-np.inf, np.float32).view(np.int32)


class Matcher:
    """Follows an answer through a grammar: ``mask`` for the next token, ``take`` the one chosen.

    One thread at a time may use it.
    """

    def __init__(self, grammar: "Grammar") -> None:
        self.grammar = grammar
        self.complete = False
        """Whether nothing may follow: the answer ends without an end-of-generation token."""
        self._state: LLMatcher | None = None
        self._mask: Float32 | None = None
        self._ahead: list[tuple[int, Float32]] = []
        """Tokens that may be taken next, the next one last, and the masks after each."""

    @property
    def ready(self) -> bool:
        """Whether the next token's mask is there."""
        return self._mask is not None

    @property
    def state(self) -> "LLMatcher":
        """llguidance's, made when it is needed: what waits for its turn takes no memory."""
        if self._state is None:
            self._state = self.grammar.begin()
        return self._state

    def mask(self) -> Float32:
        """0 for each token that may come next, minus infinity for the others: float32 [n_vocab].

        Raises MotetError where the grammar turns out to be too complex, or comes to where no token
        of the vocabulary goes on.
        """
        if self._mask is None:
            self.fill(np.frombuffer(self.state.compute_bitmask(), np.int32))
            self._require_sound()
        assert self._mask is not None
        return self._mask

    def fill(self, words: Array) -> None:
        """Take a mask as llguidance gives it: a bit a token, int32 [n_vocab ÷ 32, rounded up]."""
        if not self.state.is_error():
            self._mask = self._unpacked(words)

    def prepare(self, proposed: Sequence[int], words: Array) -> None:
        """Take the masks after each of ``proposed``, which may be taken next: int32 [n, words]."""
        masks = [self._unpacked(row) for row in words]
        self._ahead = [*zip(proposed, masks, strict=True)][::-1]

    def lookahead(self) -> Lookahead:
        """From where the answer stands."""
        grammar = self.grammar
        return Lookahead(self.state.deep_copy(), grammar.tokenizer, -(-grammar.n_vocab // 32))

    def _unpacked(self, words: Array) -> Float32:
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")
        signs = bits[: self.grammar.n_vocab].astype(np.int32) - 1
        return (signs & _FORBIDDEN).view(np.float32)

    def take(self, token: int) -> bool:
        """Go on by a token that the mask allows; whether the answer may end there."""
        expected, self._mask = self._ahead.pop() if self._ahead else (token, None)
        if token != expected:
            self._mask, self._ahead = None, []
        self.state.consume_token(token)
        self._require_sound()
        self.complete = self.state.is_stopped()
        return self.state.is_accepting()

    def _require_sound(self) -> None:
        if self.state.is_error():
            raise MotetError(
                f"the grammar can't be followed any further: {shortened(self.state.get_error())}",
                hint="make it simpler, or loosen it where this answer came to",
            )


class MaskComputer:
    """Computes the masks of several answers at once, on threads of its own."""

    def __init__(self, threads: int) -> None:
        from llguidance import LLExecutor

        self._executor: LLExecutor = LLExecutor(threads)

    def compute(self, matchers: Sequence[Matcher]) -> None:
        """Make the next token's masks of ``matchers``, of one vocabulary, ready.

        That of a matcher which fails stays away; its ``mask`` says why.
        """
        if not matchers:
            return
        words = np.zeros((len(matchers), -(-matchers[0].grammar.mask_size // 32)), np.int32)
        states = [(matcher.state, row) for row, matcher in enumerate(matchers)]
        size = words.itemsize * words.shape[1]
        self._executor.unsafe_compute_mask_ptr(states, words.ctypes.data, size, len(words))
        for matcher, row in zip(matchers, words, strict=True):
            matcher.fill(row)

    def compute_ahead(self, matcher: Matcher, proposed: Sequence[int]) -> None:
        """Make the masks ready that follow each of ``proposed``, which the grammar allows.

        Those that can't be computed ahead stay away, and are computed where they are needed.
        """
        state = matcher.lookahead().state
        words = np.zeros((len(proposed) + 1, -(-matcher.grammar.mask_size // 32)), np.int32)
        size = words.itemsize * words.shape[1]
        asked = [(state, 0, list(proposed))]
        self._executor.unsafe_compute_mask_ptr_with_draft_token(
            asked, words.ctypes.data, size, len(words)
        )
        if not state.is_error():
            counts = [int(np.count_nonzero(row)) for row in words[1:]]
            known = counts.index(0) if 0 in counts else len(proposed)
            matcher.prepare(proposed[:known], words[1 : known + 1])
