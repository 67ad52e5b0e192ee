"""Needles in haystacks: a fact somewhere in a long text, and a question about it at its end.

"passkey": a number in filler, in the words of LongLM's test (github.com/datamllab/LongLM), after
Mohtashami and Jaggi 2023 (arXiv 2305.16300). "sentence": a statement in running text (Kamradt
2023). "order": two numbers one after the other, of which the later one is asked for.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from motet.errors import OptionError
from motet.tokenizer import Tokenizer

FILLER = (
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n"
)
TELL_KEY = "The pass key is {key}. Remember it. {key} is the pass key."
ASK_KEY = "What is the pass key? The pass key is"
WRONG = 3
"""Wrong answers that the right one's likelihood is compared to, where there can be so many."""
_ASK_LAST = "What is the last pass key? The last pass key is"
_REPEATS = 64
"""Of the filler, before it is taken from its start again: some thousand tokens."""
_BACK = 16
"""Tokens searched backwards for the start of a word, in scripts that separate words by spaces."""
_CITIES = ("San Francisco", "Lisbon", "Kyoto", "Oslo", "Cairo", "Lima")
_DOINGS = (
    "eat a sandwich in the park",
    "ride the yellow tram",
    "drink green tea in a garden",
    "sail on the cold sea",
    "climb the old tower",
    "dance in the main square",
)


@dataclass(frozen=True)
class Trial:
    """One haystack, in tokens."""

    task: str
    length: int
    """Tokens of the prompt and the answer together."""
    depth: float
    """Share of the filler that stands before the (first) needle, 0 to 1."""
    seed: int
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    others: tuple[tuple[int, ...], ...]
    """Wrong answers, to which the right one's likelihood is compared."""

    @property
    def key(self) -> tuple[str, int, float, int]:
        """Identifies it among the trials of a search."""
        return self.task, self.length, self.depth, self.seed

    @property
    def candidates(self) -> tuple[tuple[int, ...], ...]:
        """The right answer, then the wrong ones."""
        return self.answer, *self.others

    @property
    def positions(self) -> int:
        """Positions that a sequence needs: an answer's last token is predicted but not computed."""
        return len(self.prompt) + max(map(len, self.candidates)) - 1

    @property
    def tokens(self) -> int:
        """Tokens in the KV cache for it, at most: the prompt once, and every answer."""
        return len(self.prompt) + sum(map(len, self.candidates))


Puzzle = tuple[list[str], str, str, list[str]]
"""Needles, the question, the answer, wrong answers."""
Task = Callable[[np.random.Generator, int], Puzzle]
"""Makes a puzzle from random numbers, with keys of so many digits."""


def different_keys(rng: np.random.Generator, digits: int, count: int) -> list[str]:
    """``count`` numbers of so many digits (fewer where there are not so many), all different."""
    low = 10 ** (digits - 1) if digits > 1 else 0
    high = 10**digits
    keys: list[str] = []
    while len(keys) < min(count, high - low):
        key = str(rng.integers(low, high))
        if key not in keys:
            keys.append(key)
    return keys


def _pass_key(rng: np.random.Generator, digits: int) -> Puzzle:
    key, *others = different_keys(rng, digits, 1 + WRONG)
    return [TELL_KEY.format(key=key)], ASK_KEY, key, others


def _sentence(rng: np.random.Generator, digits: int) -> Puzzle:
    city = _CITIES[rng.integers(len(_CITIES))]
    doing, *others = rng.permutation(_DOINGS)[: 1 + WRONG].tolist()
    asked = f"The best thing to do in {city} is to"
    return [f"{asked} {doing}."], asked, doing, others


def _order(rng: np.random.Generator, digits: int) -> Puzzle:
    first, last = different_keys(rng, digits, 2)
    needles = [f"The pass key is {key}. Remember it." for key in (first, last)]
    return needles, _ASK_LAST, last, [first]


TASKS: Mapping[str, Task] = {
    "passkey": _pass_key,
    "sentence": _sentence,
    "order": _order,
}


def require_room(length: int, least: int) -> None:
    """Raise OptionError for a haystack of fewer tokens than ``least``."""
    if length < least:
        raise OptionError(
            f"a haystack of {length} tokens has no room for the needle and the question",
            hint=f"use a length of at least {least + 64}",
        )


class Haystacks:
    """Makes trials; a trial's task, length, depth and seed determine it."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        text: str | None = None,
        digits: int = 5,
        tasks: Mapping[str, Task] = TASKS,
    ) -> None:
        """``text``: what the needles are hidden in; None for LongLM's filler. ``digits`` of a key.

        ``tasks``: what ``make`` makes, by name. Raises OptionError for a text without any tokens.
        """
        self._tokenizer = tokenizer
        self._digits = digits
        self._tasks = tasks
        first = tokenizer.encode("x", add_special=False)[:1]
        self._opens = "" if first and tokenizer.piece(first[0])[:1] == b" " else " "
        """Between a text and what follows it, where the tokenizer adds no space by itself."""
        self._anywhere = text is not None
        filler = FILLER * _REPEATS if text is None else text
        self._filler = np.array(tokenizer.encode(filler, add_special=False), np.int64)
        if not len(self._filler):
            raise OptionError("there is no text to hide needles in")

    def make(self, task: str, length: int, depth: float, seed: int) -> Trial:
        """A trial of exactly ``length`` tokens, the answer's included.

        The needle stands before the word that the share ``depth`` of the filler falls into: at 0
        it opens the text, at 1 the question follows it. A second one halves what is left of the
        filler after the first. Raises OptionError if ``length`` tokens do not suffice.
        """
        name = f"{task} {length} {depth:.6f} {seed}"
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        needles, asked, answer, others = self._tasks[task](rng, self._digits)
        hidden = [self._words(needle) for needle in needles]
        question, right = self._words(asked), self._words(answer)
        bos = self._tokenizer.bos if self._tokenizer.add_bos else None
        begin = [] if bos is None else [bos]
        said = sum(map(len, (*hidden, question, right, begin)))
        require_room(length, said + len(hidden))
        room = length - said
        filler = self._passage(room, rng)
        parts, at = [*begin], 0
        for i, needle in enumerate(hidden):
            share = depth + (1 - depth) * i / len(hidden)
            cut = max(self._word_start(filler, round(share * len(filler))), at)
            parts += [*filler[at:cut], *needle]
            at = cut
        prompt = (*parts, *filler[at:], *question)
        wrong = tuple(tuple(self._words(other)) for other in others)
        return Trial(task, length, depth, seed, prompt, tuple(right), wrong)

    def _words(self, text: str) -> list[int]:
        return self._tokenizer.encode(self._opens + text, add_special=False)

    def _passage(self, count: int, rng: np.random.Generator) -> list[int]:
        """``count`` tokens of the text from a word's start, again from its start at its end."""
        start = 0
        if self._anywhere:
            start = self._word_start(self._filler, int(rng.integers(len(self._filler))))
        return np.resize(np.roll(self._filler, -start), count).tolist()

    def _word_start(self, tokens: Sequence[int] | np.ndarray, at: int) -> int:
        """The last place up to ``at`` where a word begins; ``at`` if none does nearby."""
        if at >= len(tokens):
            return at
        for i in range(at, max(at - _BACK, 0), -1):
            if self._tokenizer.piece(int(tokens[i]))[:1] in (b" ", b"\n"):
                return i
        return at if at > _BACK else 0
