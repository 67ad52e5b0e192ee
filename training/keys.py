"""Rows of the proof model: one key or two in a text, in many words, and the last asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.tasks import ANSWER_WEIGHT, FILLER_WEIGHT, Row, Stream, Tasks
from training.wordings import OPENINGS, THINGS, VARIED, Wording, line_of

WHOLE_LINES = 0.5
"""Share of the repeated lines that keys are put between; others are cut where a word begins."""
FROM_TEXT = 0.3
"""Share of the repeated lines that are words of a text."""
_TRIES = 200


@dataclass(frozen=True)
class _Words:
    """What a row says beside its filler, in tokens."""

    opening: list[int]
    told: list[list[int]]
    asked: list[int]
    answer: list[int]

    def __len__(self) -> int:
        return sum(map(len, (self.opening, *self.told, self.asked, self.answer)))


class KeyRows:
    """Makes rows; all chance comes from the given rng."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    def row(
        self,
        stream: Stream,
        length: int,
        rng: np.random.Generator,
        keys: int,
        *,
        repeated: bool,
        wording: Wording = VARIED,
    ) -> Row:
        """``keys`` told at chance places, and the last one asked for; scored as ``Tasks.pass_key``.

        They stand in a passage of ``stream``, or in a line that is ``repeated``. Raises ValueError
        where ``length`` tokens do not suffice.
        """
        line, words = self._choose(stream, length, rng, keys, repeated, wording)
        room = length - len(words)
        cuts = np.sort(rng.integers(0, room + 1, keys)).tolist()
        sizes = np.diff([0, *cuts, room]).tolist()
        if repeated:
            fillers = self._lines(line, sizes, rng)
        else:
            fillers = [self._tasks.words(stream, size, rng) for size in sizes]
        parts: list[tuple[Sequence[int] | np.ndarray, float]] = [(words.opening, 0.0)]
        for filler, told in zip(fillers, words.told, strict=False):
            parts += [(filler, FILLER_WEIGHT), (told, 0.0)]
        parts += [
            (fillers[-1], FILLER_WEIGHT),
            (words.asked, 0.0),
            (words.answer[:-1], ANSWER_WEIGHT),
            (words.answer[-1:], FILLER_WEIGHT),
        ]
        return self._tasks.filled(parts, stream, length, rng)

    def _choose(
        self,
        stream: Stream,
        length: int,
        rng: np.random.Generator,
        keys: int,
        repeated: bool,
        wording: Wording,
    ) -> tuple[list[int], _Words]:
        """The line that is repeated, which also opens a row without instruction, and words that
        leave room, with a key of their own each."""
        for _ in range(_TRIES):
            line = self._line(stream, rng) if repeated else []
            thing, told = str(rng.choice(THINGS)), str(rng.choice(wording.told))
            asked = str(rng.choice(wording.asked if keys == 1 else wording.asked_last))
            numbers = [wording.key(rng) for _ in range(keys)]
            opened = rng.random() < wording.opened
            words = _Words(
                self._after(str(rng.choice(OPENINGS)), " ") if opened else line,
                [
                    self._after(told.format(thing=thing, key=key), str(rng.choice(wording.joints)))
                    for key in numbers
                ],
                self._after(asked.format(thing=thing), str(rng.choice(wording.joints))),
                self._after(f"{numbers[-1]}.", " "),
            )
            if len(words) <= length:
                return line, words
        raise ValueError(f"a row of {keys} keys needs more than {length} tokens")

    def _line(self, stream: Stream, rng: np.random.Generator) -> list[int]:
        """What is said over and over, from a word's start."""
        if rng.random() < FROM_TEXT:
            return self._tasks.words(stream, int(rng.integers(8, 40)), rng).tolist()
        return self._after(line_of(rng), " ")

    def _lines(
        self, line: list[int], sizes: list[int], rng: np.random.Generator
    ) -> list[np.ndarray]:
        """A line over and over, cut into parts of at most so many tokens."""
        again = np.array(self._after(self._tasks.vocabulary.decode(line), "\n"))
        whole, parts, at = rng.random() < WHOLE_LINES, [], 0
        for size in sizes:
            if whole:
                parts.append(np.tile(again, size // len(again)))
                continue
            part = np.resize(np.roll(again, -at), size + 1)
            while size and not (self._tasks.opens_word[part[size]] or part[size] == again[0]):
                size -= 1
            parts.append(part[:size])
            at = (at + size) % len(again)
        return parts

    def _after(self, text: str, joint: str) -> list[int]:
        """The tokens of a text that follows another one after ``joint``."""
        ids = self._tasks.vocabulary.encode(f"\n{joint}{text}")
        return ids[2:]  # the space that the vocabulary puts first, and the line feed
