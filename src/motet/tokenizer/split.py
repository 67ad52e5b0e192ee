"""Finding special tokens that are spelt out in a text."""

import re
from collections.abc import Iterable, Iterator


class SpecialSplitter:
    """Cuts text at the spellings of given tokens, at each place the longest that fits.

    Takes time in proportion to the text, however many tokens there are.
    """

    def __init__(self, tokens: Iterable[tuple[str, int]]) -> None:
        """``tokens``: (text, id), no text empty."""
        self._ids = dict(tokens)
        lengths: dict[str, set[int]] = {}
        for text in self._ids:
            lengths.setdefault(text[:_KEY], set()).add(len(text))
        self._lengths = {key: sorted(found, reverse=True) for key, found in lengths.items()}
        keys = sorted(lengths, key=len, reverse=True)
        self._starts = re.compile("|".join(map(re.escape, keys))) if keys else None

    def split(self, text: str) -> Iterator[str | int]:
        """The parts of ``text`` in order: an id for a token spelt out, else a text, not empty."""
        done = place = 0
        while self._starts and (start := self._starts.search(text, place)):
            place = start.start()
            match = self._longest(text, place)
            if match is None:
                place += 1
                continue
            if place > done:
                yield text[done:place]
            yield self._ids[match]
            done = place = place + len(match)
        if done < len(text):
            yield text[done:]

    def _longest(self, text: str, place: int) -> str | None:
        for size in range(_KEY, 0, -1):
            for length in self._lengths.get(text[place : place + size], ()):
                if (candidate := text[place : place + length]) in self._ids:
                    return candidate
        return None


_KEY = 2
"""Tokens are looked up by their first characters, so many."""
