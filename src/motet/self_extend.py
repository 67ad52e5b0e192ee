"""Self-Extend: contexts longer than the trained one, without training.

Jin et al. 2024, "LLM Maybe LongLM: Self-Extend LLM Context Window Without Tuning", arXiv
2401.01325. A query sees its nearest ``window`` keys at their true distances, and those farther
away in groups of ``group`` positions that count as one, so that no distance exceeds the trained
ones. It is applied when attention reads its keys; what is stored does not depend on it.
"""

import math
from dataclasses import dataclass

import numpy as np

from motet.errors import OptionError

AUTO_WINDOW = 4
"""The window of "auto" is the trained length divided by this."""

AUTO_REACH = 2 / 3
"""The farthest distance that "auto" lets a key have, as a share of the trained length; the
authors advise one half to two thirds (their §4.4)."""


@dataclass(frozen=True)
class SelfExtend:
    """Positions in groups of ``group`` for keys ``window`` or more tokens before the query.

    ``group``: from 1 (which changes nothing) up. ``window``: from 1 up, below the trained length.
    ``scale``: "log" multiplies the query at position p by max(1, ln(p + 1) / ln(trained length)),
    which keeps attention from spreading too thin over very long contexts; None does not.
    Raises OptionError for any other value.
    """

    group: int
    window: int
    scale: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("group", self.group), ("window", self.window)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise OptionError(
                    f"Self-Extend's {name} is {value!r}", hint="it has to be a whole number from 1"
                )
        _check_scale(self.scale)

    def groups_at(self, positions: np.ndarray) -> np.ndarray:
        """int32 ``[T]``: the group size of a query at each position."""
        return np.full(len(positions), self.group, np.int32)

    def longest_context(self, trained: int) -> int | None:
        """Tokens up to which no distance exceeds those below ``trained``: (L − w + ⌊w/G⌋)·G."""
        return (trained - self.window + self.window // self.group) * self.group

    def check(self, trained: int) -> None:
        """Raise OptionError unless the window is below the trained length."""
        if self.window >= trained:
            raise OptionError(
                f"Self-Extend's window is {self.window}, and the model was trained for {trained}"
                " tokens",
                hint=f"use a window below {trained}: a quarter of it serves well",
            )

    def __str__(self) -> str:
        log = ", log scale" if self.scale else ""
        return f"group {self.group}, window {self.window}{log}"


@dataclass(frozen=True)
class AutoExtend:
    """Self-Extend whose group grows with the query's position.

    Within the ``trained`` length nothing changes. Beyond it the group of a query at position p is
    the smallest power of two for which the farthest key's distance, ``window`` + (p + 1 −
    ``window``) / group, is at most two thirds of the trained length: a function of p alone.
    """

    trained: int
    scale: str | None = None

    def __post_init__(self) -> None:
        _check_scale(self.scale)

    @property
    def window(self) -> int:
        """Nearest keys that are seen at their true distance."""
        return max(1, self.trained // AUTO_WINDOW)

    def groups_at(self, positions: np.ndarray) -> np.ndarray:
        """int32 ``[T]``: the group size of a query at each position."""
        far = np.maximum(positions.astype(np.float64) + 1 - self.window, 1)
        room = max(self.trained * AUTO_REACH - self.window, 1.0)
        groups = 2 ** np.ceil(np.log2(np.maximum(far / room, 1)))
        return np.where(positions < self.trained, 1, groups).astype(np.int32)

    def longest_context(self, trained: int) -> int | None:
        """None: the group grows as far as it has to."""
        return None

    def check(self, trained: int) -> None:
        """Nothing can be wrong."""

    def __str__(self) -> str:
        return f"auto{', log scale' if self.scale else ''}"


def relative_positions(length: int, group: int, window: int) -> np.ndarray:
    """int64 ``[length, length]``: each query's (row's) relative position to each key.

    The paper's Fig. 3: near keys at q − k, far ones at ⌊q/G⌋ + w − ⌊w/G⌋ − ⌊k/G⌋; -1 above the
    diagonal, which causal attention does not see.
    """
    q, k = np.arange(length)[:, None], np.arange(length)
    far = q // group + window - window // group - k // group
    return np.where(k > q, -1, np.where(q - k < window, q - k, far))


def log_factors(positions: np.ndarray, trained: int) -> np.ndarray:
    """float32 ``[T]``: max(1, ln(p + 1) / ln(trained)) for each position."""
    return np.maximum(1, np.log(positions + 1.0) / math.log(max(trained, 2))).astype(np.float32)


def _check_scale(scale: str | None) -> None:
    if scale not in (None, "log"):
        raise OptionError(f"Self-Extend's scale is {scale!r}", hint='use "log", or leave it out')
