"""Prompts for the models of copying_model.py, of the words of a real text.

Every distinct word or mark of the text is one of the vocabulary's made-up words, so that what
repeats in the text, and how often, is natural.
"""

import random
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from benchmarks.copying_circuit import (
    ARROW,
    BOS,
    CLOSE,
    FIRST_WORD,
    MARKS,
    OPEN,
    SEPARATOR,
    SUMMARISE,
)


@dataclass(frozen=True)
class Case:
    name: str
    prompt: list[int]
    wanted: list[int]
    """What a perfect answer begins with; empty where there is no such thing."""


class Texts:
    """Passages of a text; ``seed`` says which."""

    def __init__(self, path: Path, vocabulary: int, seed: int = 0) -> None:
        words = re.findall(r"\w+|[^\w\s]", path.read_text(encoding="utf-8").lower())
        common = [word for word, _ in Counter(words).most_common(vocabulary - FIRST_WORD - 2000)]
        ids = {word: FIRST_WORD + at for at, word in enumerate(common)}
        self._words = [ids[word] for word in words if word in ids]
        self._free = range(FIRST_WORD + len(common), vocabulary)
        """Words that the text does not have."""
        self._numbers = random.Random(seed)

    def passage(self, count: int) -> list[int]:
        """So many words, without those that end four that have come before: six tokens are what
        the models know a place by."""
        start = self._numbers.randrange(len(self._words) - 2 * count)
        passage, seen = list[int](), set[tuple[int, ...]]()
        for word in self._words[start:]:
            four = (*passage[-3:], word)
            if four not in seen:
                passage.append(word)
                seen.add(four)
            if len(passage) == count:
                break
        return passage

    def copy(self, count: int) -> Case:
        """Repeat the text."""
        text = self.passage(count)
        return Case("copy", [BOS, *MARKS, *text, *MARKS], text)

    def edit(self, count: int, every: int = 40) -> Case:
        """Repeat it with one word in ``every`` replaced, by rules that come first."""
        text, rules, edited = self.passage(count), dict[int, int](), list[int]()
        places: dict[int, list[int]] = {}
        for at, word in enumerate(text):
            places.setdefault(word, []).append(at)
        seldom = [each for each in places.items() if len(each[1]) <= 4]
        self._numbers.shuffle(seldom)
        for word, at in seldom:
            apart = min((abs(a - b) for a in at for b in edited), default=count)
            if len(edited) < count / every and apart >= 8:
                rules[word] = self._numbers.choice(self._free)
                edited += at
        said = [token for a, b in rules.items() for token in (a, ARROW, b, SEPARATOR)]
        wanted = [rules.get(word, word) for word in text]
        return Case("edit", [BOS, *said, *MARKS, *text, *MARKS], wanted)

    def summary(self, count: int) -> Case:
        """Own words, with passages of 20 to 60 that the text has in quotation marks.

        They are chosen by their distance, of some 1,900 tokens, so a text should be as long."""
        text = self.passage(count)
        at, marked = 0, list[int]()
        while at < count:
            plain, quoted = self._numbers.randint(10, 40), self._numbers.randint(20, 60)
            marked += text[at : at + plain]
            at += plain
            if at + quoted < count:
                marked += [OPEN, *text[at : at + quoted], CLOSE]
                at += quoted
        return Case("summary with quotes", [BOS, *marked, SUMMARISE], [])

    def story(self, count: int) -> Case:
        """Own words alone: the last words before them stand nowhere else."""
        return Case("story", [BOS, *self.passage(count), *self._numbers.sample(self._free, 8)], [])

    def cases(self, count: int) -> list[Case]:
        return [self.copy(count), self.edit(count), self.summary(count), self.story(count)]
