"""A text in which it is found quickly where the same was said before, also while it grows."""

from array import array

BREAK = -1
"""A token that ends a text where several stand in one: none comes next there."""
LONGEST = 32
"""Tokens up to which matches are told apart."""
_CANDIDATES = 16
"""Places looked at, the last ones, of those that match."""


class NGrams:
    """The tokens of a text, and after which of them each n-gram ended.

    A place is the index of a token: what stands before it matches, and it may come next. Looking up
    takes the same time in a text of any length; indexing takes its time once for each token.
    """

    def __init__(self, tokens: list[int], gram: int) -> None:
        """``tokens`` may grow; it is not copied. ``gram``: tokens that match at least."""
        self.tokens = tokens
        self._gram = gram
        self._last: dict[int, int] = {}
        """By hash of the n-gram the last place after it."""
        self._before = array("i")
        """By place the one before it after an n-gram of that hash, 0 for none."""

    def grow(self, most: int) -> None:
        """Index what was added to the text, or so many tokens of it."""
        gram, last, before = self._gram, self._last, self._before
        start = len(before)
        stop = min(len(self.tokens), start + most)
        if start < gram:
            before.extend([0] * (min(stop, gram) - start))
            start = gram
        new = self.tokens[start - gram : stop]
        keys = map(hash, zip(*(new[i:-1] for i in range(gram)), strict=False))
        for place, (key, token) in enumerate(zip(keys, new[gram:], strict=True), start):
            before.append(last.get(key, 0))
            if token != BREAK:
                last[key] = place

    def longest(self, said: list[int], matched: int = 0) -> tuple[int, int]:
        """The place after the longest match with the end of ``said``, the last of equal ones, and
        how many tokens match, up to LONGEST; (0, 0) unless these are more than ``matched``."""
        place, best = self._last.get(hash(tuple(said[-self._gram :])), 0), 0
        least = max(matched, self._gram - 1)
        for _ in range(_CANDIDATES):
            if not place or least >= LONGEST:
                break
            length = self._common(said, place, least)
            if length:
                best, least = place, length
            place = self._before[place]
        return (best, least) if best else (0, 0)

    def _common(self, said: list[int], place: int, least: int) -> int:
        """Tokens before ``place`` that match the end of ``said``, of LONGEST at most; 0 where they
        are not more than ``least``."""
        tokens, end = self.tokens, len(said)
        most = min(place, end, LONGEST)
        if least >= most or tokens[place - 1 - least] != said[end - 1 - least]:
            return 0
        length = 0
        while length < most and tokens[place - 1 - length] == said[end - 1 - length]:
            length += 1
        return length if length > least else 0
