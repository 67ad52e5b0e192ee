"""The longest of given tokens at a place of a text, in a few steps however many there are."""

from collections.abc import Iterable
from typing import AnyStr, Generic

LONGEST = 1 << 10
"""Characters or bytes of a token, which a step reads; the longest in use has 128."""
_NOTHING = -1, 0


class LongestMatch(Generic[AnyStr]):
    """Finds, at each place of a text, the longest of given tokens, in a few steps.

    The length is found bit by bit, highest first: a dictionary knows every token, and the first
    16, 24 and 26 elements of one with 27, each with the longest token that it begins with
    (Waldvogel et al. 1997, Scalable High Speed IP Routing Lookups).
    """

    def __init__(self, tokens: Iterable[tuple[AnyStr, int]]) -> None:
        """``tokens``: (text or bytes, id), none empty or longer than LONGEST, none twice."""
        self._known: dict[AnyStr, tuple[int, int]] = {}
        self._steps: dict[object, int] = {}
        """By first element, the highest bit of the longest token's length."""
        for token, index in sorted(tokens, key=lambda item: len(item[0])):
            size = len(token)
            self._steps[token[0]] = 1 << size.bit_length() - 1
            shorter = size & size - 1  # the lowest bit cleared
            while shorter:
                if (start := token[:shorter]) not in self._known:
                    self._known[start] = self.find(start, 0)
                shorter &= shorter - 1
            self._known[token] = index, size

    def find(self, text: AnyStr, place: int) -> tuple[int, int]:
        """Id and size of the longest token at ``place``; -1 and 0 if there is none."""
        known = self._known
        found = _NOTHING
        end = place
        step = self._steps.get(text[place], 0)
        while step:
            at = known.get(text[place : end + step])
            if at is not None:
                found = at
                end += step
            step >>= 1
        return found
