"""HellaSwag's tasks in llama.cpp's six-line form, and the order in which it takes them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from motet import checks
from motet.errors import OptionError

ENDINGS = 4
_LINES = 2 + ENDINGS


@dataclass(frozen=True)
class Task:
    """One task: a context and four endings, of which ``gold`` (0 to 3) is the right one."""

    number: int
    """Place in the file, from 1."""
    context: str
    gold: int
    endings: tuple[str, ...]

    @property
    def line(self) -> int:
        """Number of its first line in the file."""
        return _LINES * (self.number - 1) + 1


def read_tasks(text: str, name: str) -> list[Task]:
    """The tasks of a file's text: context, number of the right ending, four endings; a line each.

    Raises OptionError with the line for a text of another form; ``name`` is what it calls it.
    """
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise _malformed(name, number, "is empty")
        gold = (number - 1) % _LINES == 1
        if gold and line.strip() not in ("0", "1", "2", "3"):
            raise _malformed(
                name, number, f"is {line[:40]!r}, not the number of an ending, 0 to {ENDINGS - 1}"
            )
    if len(lines) % _LINES:
        over = len(lines) % _LINES
        raise _malformed(name, len(lines), f"is the last, and its task has {over} of {_LINES}")
    return [
        Task(i // _LINES + 1, lines[i], int(lines[i + 1]), tuple(lines[i + 2 : i + _LINES]))
        for i in range(0, len(lines), _LINES)
    ]


def shuffled(tasks: Sequence[Task], count: int, seed: int = 1) -> list[Task]:
    """``count`` tasks (all, if there are fewer) drawn at random without putting any back.

    With seed 1 these are llama.cpp's, in its order, where it is built with the C++ library of
    GCC 11 or later: ``std::mt19937``, and ``std::uniform_int_distribution`` by Lemire's method
    (arXiv 1805.10941). Raises OptionError for a seed that is not a number from 0 to 2^32 - 1.
    """
    checks.whole("seed", seed, 0)
    if seed >= 1 << 32:
        raise OptionError(f"seed is {seed}", hint="use a number below 2^32")
    random = np.random.RandomState(seed)
    left = list(tasks)
    return [left.pop(_below(random, len(left))) for _ in range(min(count, len(left)))]


def _below(random: np.random.RandomState, end: int) -> int:
    """A number from 0 to ``end`` - 1, each equally probable."""
    while True:
        product = int(random.randint(0, 1 << 32, dtype=np.uint32)) * end
        if product % (1 << 32) >= (1 << 32) % end:
            return product >> 32


def _malformed(name: str, line: int, problem: str) -> OptionError:
    return OptionError(
        f"{name}: line {line} {problem}",
        hint="a task is six lines: its context, the number of the right ending, four endings",
    )
