"""Needles in haystacks: something told somewhere in a long text, and asked for at its end.

"passkey": a number in filler, as in LongLM's test (github.com/datamllab/LongLM) and Mohtashami and
Jaggi 2023 (arXiv 2305.16300). "sentence": a statement in running text (Kamradt 2023). "order": two
numbers told one after the other, and the later one asked for.
"""

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from motet.errors import OptionError

FILLER = (
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n"
)
ASK_KEY = "What is the pass key? The pass key is"
_ASK_LAST = "What is the last pass key? The last pass key is"
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
    """Share of the filler that stands before the needle, 0 to 1."""
    seed: int
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    others: tuple[tuple[int, ...], ...]
    """Wrong answers, to which the right one's likelihood is compared."""

    @property
    def key(self) -> tuple[str, int, float, int]:
        """What tells it from the other trials of a run."""
        return self.task, self.length, self.depth, self.seed


class Haystacks:
    """Makes trials; all chance comes from a trial's task, length, depth and seed."""

    def __init__(self, tokenizer: Any, text: str | None = None, digits: int = 5) -> None:
        """``text``: what the needles are hidden in; None for LongLM's filler."""
        self._tokenizer = tokenizer
        self._digits = digits
        first = tokenizer.encode("x", add_special=False)[:1]
        self._opens = "" if first and tokenizer.piece(first[0])[:1] == b" " else " "
        """What sets words apart where the tokenizer does not do so by itself."""
        self._text = text
        self._filler = np.array(tokenizer.encode(text or FILLER, add_special=False))

    def make(self, task: str, length: int, depth: float, seed: int) -> Trial:
        """A trial of exactly ``length`` tokens. Raises OptionError if they do not suffice."""
        name = f"{task} {length} {depth:.6f} {seed}"
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        told, asked, answer, others = TASKS[task](rng, self._digits)
        needles = [self._words(needle) for needle in told]
        question, right = self._words(asked), self._words(answer)
        begin = [self._tokenizer.bos] if self._tokenizer.add_bos else []
        room = length - sum(map(len, (*needles, question, right, begin)))
        if room < len(needles):
            raise OptionError(
                f"a haystack of {length} tokens has no room for the needle and the question",
                hint=f"use a length of at least {length - room + 64}",
            )
        filler = self._passage(room, rng)
        parts, at = [*begin], 0
        for i, needle in enumerate(needles):
            # Several needles divide what is left of the filler after the first one's depth.
            share = depth + (1 - depth) * i / len(needles)
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
        start = self._word_start(self._filler, int(rng.integers(len(self._filler))))
        if self._text is None:
            start = 0
        return np.resize(np.roll(self._filler, -start), count).tolist()

    def _word_start(self, tokens: Sequence[int] | np.ndarray, at: int) -> int:
        """The last place up to ``at`` where a word begins."""
        while 0 < at < len(tokens):
            if self._tokenizer.piece(int(tokens[at]))[:1] in (b" ", b"\n"):
                break
            at -= 1
        return at


Told = tuple[list[str], str, str, list[str]]
"""Needles, the question, the answer, wrong answers."""


def _pass_key(rng: np.random.Generator, digits: int) -> Told:
    key, *others = _keys(rng, digits, 4)
    told = f"The pass key is {key}. Remember it. {key} is the pass key."
    return [told], ASK_KEY, f"{key}.", [f"{other}." for other in others]


def _sentence(rng: np.random.Generator, digits: int) -> Told:
    city = _CITIES[rng.integers(len(_CITIES))]
    doing, *others = rng.permutation(_DOINGS)[:4].tolist()
    asked = f"The best thing to do in {city} is to"
    return [f"{asked} {doing}."], asked, f"{doing}.", [f"{other}." for other in others]


def _order(rng: np.random.Generator, digits: int) -> Told:
    first, last = _keys(rng, digits, 2)
    told = [f"The pass key is {key}. Remember it." for key in (first, last)]
    return told, _ASK_LAST, f"{last}.", [f"{first}."]


TASKS: dict[str, Callable[[np.random.Generator, int], Told]] = {
    "passkey": _pass_key,
    "sentence": _sentence,
    "order": _order,
}


def read_passkeys(text: str, name: str, tokenizer: Any) -> list[Trial]:
    """Trials of LongLM's ``passkey_examples.jsonl``: ``input`` and ``target``, a line each.

    Raises OptionError with the line for a text of another form.
    """
    trials = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            example = json.loads(line)
            prompt, target = str(example["input"]), str(example["target"])
            at = int(example.get("passkey_position", 0))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise OptionError(
                f"{name}: line {number} is no passkey example: {error}",
                hint='a line is a JSON object with "input" and "target"',
            ) from error
        asked = tokenizer.encode(f"{prompt}{ASK_KEY}")
        whole = tokenizer.encode(f"{prompt}{ASK_KEY} {target}")
        same = next(
            (i for i, (a, b) in enumerate(zip(asked, whole, strict=False)) if a != b), len(asked)
        )
        answer = tuple(whole[same:])
        depth = round(min(max(at / max(len(prompt), 1), 0.0), 1.0), 2)
        trials.append(Trial("passkey", len(whole), depth, number, tuple(whole[:same]), answer, ()))
    if not trials:
        raise OptionError(f"{name} has no examples")
    return trials


def _keys(rng: np.random.Generator, digits: int, count: int) -> list[str]:
    """Different numbers of so many digits."""
    low = 10 ** (digits - 1)
    keys: list[str] = []
    while len(keys) < count:
        key = str(rng.integers(low, 10 * low))
        if key not in keys:
            keys.append(key)
    return keys
