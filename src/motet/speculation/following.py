"""Where a sequence stands in the texts that it may be repeating: its own, and others."""

from collections.abc import Iterable
from dataclasses import dataclass

from motet.speculation.ngrams import BREAK, NGrams

_SURE = 8
"""Tokens after which a match is not compared with others, and is looked for again when it ends."""
_SINCE = 8
"""Tokens after its end in which it is looked for."""
_AHEAD = 24
"""Tokens beyond its end among which it is looked for."""
_BETTER = 5
"""Tokens of a match elsewhere that count for more than one found again."""
_FOLLOWED = 64
"""Tokens that are compared; after more of them all is looked for anew."""


@dataclass(frozen=True, slots=True)
class Text:
    """One that a sequence may be repeating."""

    ngrams: NGrams
    name: str


@dataclass(slots=True)
class Place:
    """In a text: what stands at ``index`` comes next, if the text is repeated."""

    text: Text
    index: int
    matched: int
    """Tokens before it that match."""
    resumed: bool = False
    """Whether it was found near to where another one ended."""
    sure: bool = False
    """Whether it is worth to be found again."""

    @property
    def source(self) -> str:
        """The text, or that it was found again just now."""
        return "resumed" if self.resumed and self.matched < _SURE else self.text.name

    def next(self, most: int, said: list[int]) -> tuple[int, ...]:
        """The tokens from here on; what a sequence has ``said`` goes on as it ended."""
        tokens = self.text.ngrams.tokens
        part = tokens[self.index : self.index + most]
        if tokens is said and 0 < len(part) < most:
            part = (part * (most // len(part) + 1))[:most]
        return tuple(part[: part.index(BREAK)] if BREAK in part else part)

    def follow(self, said: list[int]) -> int:
        """Go on over the next tokens as far as they are these; how many are."""
        here = self.text.ngrams.tokens[self.index : self.index + len(said)]
        count = len(said)
        if here != said:
            pairs = zip(here, said, strict=False)
            count = next((n for n, (a, b) in enumerate(pairs) if a != b), len(here))
        self.index += count
        self.matched += count
        self.sure |= count > 0 and (self.resumed or self.matched >= _SURE)
        return count


class Following:
    """Follows one sequence through texts."""

    def __init__(self, said: list[int], expected: Place | None) -> None:
        """``said``: what the sequence says, which grows. ``expected``: where it may go on."""
        self._said = said
        self._seen = len(said)
        self._place: Place | None = None
        self._lost, self._since = expected, 1

    def find(self, texts: Iterable[Text]) -> Place | None:
        """The best place for what was said by now; ``texts``: the first is best of equals."""
        new = self._said[self._seen :]
        self._seen = len(self._said)
        if len(new) > _FOLLOWED:
            self._place = self._lost = None
        else:
            self._follow(new)
        if self._place is None or not self._place.sure:
            self._search(texts)
        return self._place

    def _follow(self, new: list[int]) -> None:
        place = self._place
        self._since += len(new)
        if place is None:
            return
        other = len(new) - place.follow(new)
        if other:
            self._place = None
            if place.sure:
                self._lost, self._since = place, other

    def _search(self, texts: Iterable[Text]) -> None:
        best = self._place
        for text in texts:
            index, matched = text.ngrams.longest(self._said, best.matched if best else 0)
            if index:
                best = Place(text, index, matched, sure=matched >= _SURE)
        if self._lost is not None and (best is None or best.matched < _BETTER):
            best = self._again(self._lost, guess=best is None) or best
        self._place = best

    def _again(self, lost: Place, guess: bool) -> Place | None:
        """Where a match goes on that ended: after the last token, which stands near to its end.

        ``guess``: or else behind its end, as if the last token stood for the one there.
        """
        if self._since > _SINCE:
            self._lost = None
            return None
        tokens, last = lost.text.ngrams.tokens, self._said[-1]
        index, matched = 0, 0
        for place in range(lost.index + 1, min(lost.index + _AHEAD, len(tokens))):
            if tokens[place - 1] == last:
                both = place > 1 and tokens[place - 2] == self._said[-2]
                if both or not matched:
                    index, matched = place, 1 + both
                if both:
                    break
        if matched:
            return Place(lost.text, index, matched, resumed=True)
        if guess and self._since == 1:
            return Place(lost.text, lost.index + 1, 0, resumed=True)
        return None
