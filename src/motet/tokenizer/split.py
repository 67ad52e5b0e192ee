"""Cutting text: at special tokens that are spelt out in it, and into parts of bounded length."""

import re
from collections.abc import Callable, Iterable, Iterator

from motet.tokenizer.longest import LongestMatch

_PART = 1 << 16
"""Characters of a part, at least: libraries need some hundred bytes for each."""
_BEGINNING = 2
"""Characters of a token that are looked for by a pattern before the token is."""


class SpecialSplitter:
    """Cuts text at the spellings of given tokens, at each place the longest that fits.

    Takes time in proportion to the text, however many tokens there are.
    """

    def __init__(self, tokens: Iterable[tuple[str, int]]) -> None:
        """``tokens``: (text, id), no text empty or longer than LONGEST."""
        ids = dict(tokens)
        self._tokens = LongestMatch(ids.items())
        size = min(_BEGINNING, min(map(len, ids), default=0))
        sets = [_one_of({text[place] for text in ids}) for place in range(size)]
        self._starts = re.compile("".join(sets)) if ids else None

    def split(self, text: str) -> Iterator[str | int]:
        """The parts of ``text`` in order: an id for a token spelt out, else a text, not empty."""
        done = place = 0
        while self._starts and (start := self._starts.search(text, place)):
            place = start.start()
            token, size = self._tokens.find(text, place)
            if not size:
                place += 1
                continue
            if place > done:
                yield text[done:place]
            yield token
            done = place = place + size
        if done < len(text):
            yield text[done:]


def parts(text: str, cuts: Callable[[], re.Pattern[str]]) -> Iterator[str]:
    """``text`` in parts of bounded length, as far as there are places to cut.

    ``cuts``: gives the pattern that is found there; asked only if the text is long.
    """
    done = 0
    if len(text) > _PART:
        pattern = cuts()
        while len(text) - done > _PART and (cut := pattern.search(text, done + _PART)):
            yield text[done : cut.start()]
            done = cut.start()
    yield text[done:]


def _one_of(characters: set[str]) -> str:
    """A set that is matched in one step, however large: as patterns have it in the first plane."""
    near = "".join(map(re.escape, sorted(char for char in characters if char <= "\uffff")))
    return f"[{near}\U00010000-\U0010ffff]" if max(characters) > "\uffff" else f"[{near}]"
