"""Self-Extend: contexts longer than the trained one, without training.

Jin et al. 2024, "LLM Maybe LongLM: Self-Extend LLM Context Window Without Tuning", arXiv
2401.01325. A query sees its nearest ``window`` keys at their true distances, and those farther
away in groups of ``group`` positions that count as one, so that no distance exceeds the trained
ones. It is applied when attention reads its keys; what is stored does not depend on it.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from motet import checks
from motet.arrays import Int32
from motet.errors import OptionError, UnsupportedError
from motet.kernels.interface import Extended, PagedKV
from motet.kernels.interface_recurrent import RecurrentState
from motet.models.family import View
from motet.spec import FullAttention, LayerCaches, SlidingAttention, attention_specs

FARTHEST = (1 << 31) - 1
"""Positions are int32."""

AUTO_WINDOW = 4
"""The window of "auto" is the trained length divided by this."""

AUTO_TIMES = 16
"""A context's default length with "auto", in trained lengths."""

BEYOND = 'or go beyond it with Self-Extend: self_extend="auto", --self-extend auto'
"""A hint where something is longer than the trained length."""

LONGER = "use a larger group, a smaller window, or auto"
"""A hint where a setting does not reach."""

AUTO_REACH = 2 / 3
"""The farthest distance that "auto" lets a key have, as a share of the trained length; the
authors advise one half to two thirds (their §4.4)."""

_SCALES = {"None": None, "'log'": "log"}


@checks.named
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
        for name in ("group", "window"):
            value = checks.whole(f"Self-Extend's {name}", getattr(self, name), 1, FARTHEST)
            object.__setattr__(self, name, value)
        _check_scale(self.scale)

    def window_of(self, trained: int) -> int:
        """Nearest keys that are seen at their true distance."""
        del trained
        return self.window

    def groups_at(self, positions: np.ndarray, trained: int) -> np.ndarray:
        """int32 ``[T]``: the group size of a query at each position."""
        return np.full(len(_checked_positions(positions)), self.group, np.int32)

    def longest_context(self, trained: int) -> int:
        """Tokens up to which no distance exceeds those below ``trained``: (L − w + ⌊w/G⌋)·G."""
        trained = checks.whole("trained", trained, 1, FARTHEST)
        return (trained - self.window + self.window // self.group) * self.group

    def __str__(self) -> str:
        log = ", log scale" if self.scale else ""
        return f"group {self.group}, window {self.window}{log}"


@checks.named
@dataclass(frozen=True)
class AutoExtend:
    """Self-Extend whose group grows with the query's position.

    Within the trained length L nothing changes. Beyond it the window is L / 4, and the group of a
    query at position p the smallest power of two for which the farthest key's distance, window +
    (p + 1 − window) / group, is at most two thirds of L: a function of p alone. ``scale`` as in
    SelfExtend.
    """

    scale: str | None = None

    def __post_init__(self) -> None:
        _check_scale(self.scale)

    def window_of(self, trained: int) -> int:
        """Nearest keys that are seen at their true distance."""
        return max(1, checks.whole("trained", trained, 1, FARTHEST) // AUTO_WINDOW)

    def groups_at(self, positions: np.ndarray, trained: int) -> np.ndarray:
        """int32 ``[T]``: the group size of a query at each position."""
        positions, window = _checked_positions(positions), self.window_of(trained)
        return growing_groups(positions, trained, window, AUTO_REACH)

    def longest_context(self, trained: int) -> int:
        """As far as positions are counted: the group grows as it has to."""
        return FARTHEST

    def __str__(self) -> str:
        return f"auto{', log scale' if self.scale else ''}"


def growing_groups(positions: np.ndarray, trained: int, window: int, reach: float) -> np.ndarray:
    """int32 ``[T]``: 1 within the trained length; beyond it, of the query at each position, the
    smallest power of two that leaves no key farther than the share ``reach`` of that length."""
    far = np.maximum(positions.astype(np.float64) + 1 - window, 1)
    room = max(trained * reach - window, 1.0)
    groups = 2 ** np.ceil(np.log2(np.maximum(far / room, 1)))
    return np.where(positions < trained, 1, groups).astype(np.int32)


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


def _check_scale(scale: object) -> None:
    if scale is not None and not (isinstance(scale, str) and scale == "log"):
        raise OptionError(
            f"Self-Extend's scale is {checks.shown(scale)}", hint='use "log", or leave it out'
        )


def _checked_positions(positions: object) -> np.ndarray:
    found = checks.instance("positions", positions, np.ndarray, "use an array of positions")
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise OptionError(f"positions is {checks.shown(found)}", hint="use whole numbers, [T]")
    return found


def setting_of(value: object) -> SelfExtend | AutoExtend | None:
    """A caller's ``self_extend``: a setting, "auto", or None. Raises OptionError for another."""
    if isinstance(value, str) and value == "auto":
        return AutoExtend()
    if value is None or isinstance(value, SelfExtend | AutoExtend):
        return value
    raise OptionError(
        f"self_extend is {checks.shown(value)}",
        hint='use "auto", motet.SelfExtend(group, window) or motet.AutoExtend()',
    )


def read_setting(text: str) -> SelfExtend | AutoExtend | None:
    """A setting as Python writes it, or "none", as state files have it.

    Raises OptionError for another text.
    """
    if text == "none":
        return None
    if auto := re.fullmatch(r"AutoExtend\(scale=(None|'log')\)", text):
        return AutoExtend(_SCALES[auto[1]])
    pattern = r"SelfExtend\(group=(\d{1,10}), window=(\d{1,10}), scale=(None|'log')\)"
    if given := re.fullmatch(pattern, text, re.ASCII):
        return SelfExtend(int(given[1]), int(given[2]), _SCALES[given[3]])
    raise OptionError(f"{text[:80]!r} is no setting of Self-Extend")


def require_positions(layers: Sequence[LayerCaches], positional: str) -> None:
    """Raise UnsupportedError for a model that Self-Extend means nothing to.

    ``positional``: how attention knows positions, as ``Config.positional`` says.
    """
    attention = attention_specs(layers)
    if positional == "relative":
        reason = "has a learned bias for distances, of which all far ones share one already"
        hint = "a longer context needs nothing"
    elif not attention and positional != "none":
        reason, hint = "is an encoder: it sees a text whole", "embed a longer text in parts"
    elif not attention:
        reason, hint = "is recurrent: it has no positions", "a longer context needs nothing"
    elif positional == "none":
        reason, hint = "attends without positions", "a longer context needs nothing"
    elif positional == "learned":
        reason = "has a learned vector for each place in a sequence, not for distances"
        hint = "it cannot go beyond the length that it was trained for"
    elif all(isinstance(spec, SlidingAttention) for spec in attention):
        reason, hint = "has sliding layers alone, whose window bounds every distance", ""
    else:
        return
    raise UnsupportedError(f"Self-Extend groups positions, and the model {reason}", hint=hint)


def default_context(setting: SelfExtend | AutoExtend, trained: int) -> int:
    """Tokens of a context where nothing is said: as far as a group reaches, with auto 16 times the
    trained length."""
    return min(setting.longest_context(trained), AUTO_TIMES * trained)


def check_reach(setting: SelfExtend | AutoExtend, trained: int, context: int) -> None:
    """Raise OptionError unless ``context`` tokens stay within the trained distances."""
    window, longest = setting.window_of(trained), setting.longest_context(trained)
    if window >= trained:
        raise OptionError(
            f"Self-Extend's window is {window}, and the model was trained for {trained} tokens",
            hint=f"use a window below {trained}: a quarter of it serves well",
        )
    if context > longest:
        raise OptionError(
            f"a context of {context} tokens is beyond what Self-Extend with {setting} reaches:"
            f" {longest} tokens",
            hint=LONGER,
        )


def extend(setting: SelfExtend | AutoExtend, positions: np.ndarray, trained: int) -> Extended:
    """What attention needs for queries at ``positions``, int32 ``[T]``."""
    factors = log_factors(positions, trained) if setting.scale else None
    return Extended(setting.window_of(trained), setting.groups_at(positions, trained), factors)


@dataclass(frozen=True)
class ExtendedView:
    """A micro-batch's view of memory whose layers that see every token see far ones in groups.

    Memory does not know of it: keys lie there without positions, and what is made of them is the
    reader's choice.
    """

    view: View
    layers: Sequence[LayerCaches]
    extended: Extended

    @property
    def positions(self) -> Int32:
        """``[T]``."""
        return self.view.positions

    def cache(self, layer: int, k: int = 0) -> PagedKV | RecurrentState:
        """What the ``k``-th cache of ``layer`` reads and writes."""
        found = self.view.cache(layer, k)
        if isinstance(found, PagedKV) and isinstance(self.layers[layer][k], FullAttention):
            return found._replace(extended=self.extended)
        return found
