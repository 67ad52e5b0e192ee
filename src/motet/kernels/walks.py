"""How kernels walk through weights on this processor: measured once, kept, and used from then on.

A walk is (strips read side by side, bytes of prefetch, level of the cache that they come to). There
is one for each way in which weights are stored and each height of a tile. Walks change how long a
product takes and no bit of it (native/tuning.hpp).
"""

import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from motet.bounded_json import parse
from motet.replacing import replacing, write_all
from motet.system import processor_name
from motet.weights.formats import TensorType, row_bytes

if TYPE_CHECKING:
    from motet.kernels.cpu import CPU

Walk = tuple[int, int, int]
Walks = tuple[tuple[Walk, ...], ...]
"""A walk for each load and height."""

LOADS = (TensorType.Q4_0, TensorType.Q8_0, TensorType.Q4_K, TensorType.F32, TensorType.BF16)
"""A type of each way of storing weights, in the order of tuning.hpp's ``Load``."""
HEIGHTS = (1, 2, 4, 8, 16)
"""Rows of activations that a tile has."""
CANDIDATES: tuple[Walk, ...] = (
    (1, 0, 1), (2, 0, 1), (4, 0, 1), (8, 0, 1), (4, 512, 1), (8, 512, 1),
    (1, 6144, 2), (1, 8192, 2), (4, 1024, 2),
)  # fmt: skip
TURNS = 7
WORTH = 0.98
"""A candidate takes the place of the processor's own walk where it takes at most this share of its
time: less is noise."""

_ROWS, _COLUMNS = 2048, 4096
_BEYOND_CACHES = 128 << 20
"""Bytes of weights that a pass goes through, so that they come from memory."""
_MOST_BYTES = 1 << 16
_log = logging.getLogger("motet")


@dataclass(frozen=True)
class Measured:
    """What was found for one load and height."""

    type: TensorType
    rows: int
    before: Walk
    """The walk that is chosen by the processor's name."""
    best: Walk
    share: float
    """The best one's time by that of before, the median over the turns; 1 where they are one."""


def measure_walks(kernels: "CPU", progress: Callable[[int, int], None]) -> list[Measured]:
    """The best walk for each load and height, on the threads of ``kernels``: some ten seconds.

    ``progress`` gets how many of all are done. The kernels walk as before afterwards.
    """
    native: Any = kernels._native  # pyright: ignore[reportPrivateUsage]
    now = native.tuning()
    own = native.default_tuning().walks
    found: list[Measured] = []
    try:
        for load, type in enumerate(LOADS):
            matrices = _matrices(kernels, type)
            for height, rows in enumerate(HEIGHTS):
                progress(len(found), len(LOADS) * len(HEIGHTS))
                x = np.ones((rows, _COLUMNS), np.float32)
                before: Walk = tuple(own[load][height])
                walks = [before, *(walk for walk in CANDIDATES if walk != before)]
                taken: list[list[float]] = [[] for _ in walks]
                for turn in range(TURNS):
                    for i in range(len(walks)):
                        at = (turn + i) % len(walks)  # none always follows the same one
                        everywhere = [[walks[at]] * len(HEIGHTS)] * len(LOADS)
                        native.set_tuning(native.Tuning(everywhere, now.chains, now.dots))
                        start = perf_counter()
                        for matrix in matrices:
                            kernels.linear(x, matrix)
                        taken[at].append(perf_counter() - start)
                shares = [
                    median(b / a for a, b in zip(taken[0], times, strict=True)) for times in taken
                ]
                best = min(range(len(walks)), key=shares.__getitem__)
                if shares[best] > WORTH:
                    best = 0
                found.append(Measured(type, rows, before, walks[best], shares[best]))
    finally:
        native.set_tuning(now)
    return found


def _matrices(kernels: "CPU", type: TensorType) -> list[Any]:
    # 0x2d2d: a small float16 wherever a scale may stand, and small floats.
    raw = np.full((_ROWS, row_bytes(type, _COLUMNS)), 0x2D, np.uint8)
    first = kernels.pack(raw, type, _ROWS, _COLUMNS)
    more = -(-_BEYOND_CACHES // first.nbytes) - 1
    return [first, *(kernels.pack(raw, type, _ROWS, _COLUMNS) for _ in range(more))]


def keep_walks(isa: str, found: list[Measured]) -> Path:
    """Write the walks to the user's cache, for this processor, and say where.

    Those of other instruction sets stay. Raises MotetError where it can't be written, and OSError.
    """
    path = walks_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    kept: dict[str, Any] = {}
    with suppress(FileNotFoundError, ValueError):  # what is no such file is replaced
        kept = _read(path)
    if kept.get("processor") != processor_name():
        kept = {"processor": processor_name()}
    by_load = [found[i : i + len(HEIGHTS)] for i in range(0, len(found), len(HEIGHTS))]
    kept[isa] = [[each.best for each in heights] for heights in by_load]
    with replacing(path) as file:
        write_all(file, json.dumps(kept).encode())
    return path


def kept_walks(isa: str) -> Walks | None:
    """What was measured on this processor and kept, if it was.

    A file that can't be read, or says what no kernel can do, is left aside with a warning.
    """
    try:
        path = walks_file()
        if not path.exists():
            return None
        kept = _read(path)
        if kept.get("processor") != processor_name() or isa not in kept:
            return None
        return _checked(kept[isa])
    except (OSError, ValueError, RuntimeError) as error:  # the last where the user has no home
        _log.warning("the walks that were measured are left aside: %s", error)
        return None


def walks_file() -> Path:
    """In the XDG cache directory."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    return base / "motet" / "walks.json"


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        kept = parse(file.read(_MOST_BYTES))
    if not isinstance(kept, dict):
        raise ValueError(f"{path} is not what `motet tune` writes")
    return cast(dict[str, Any], kept)


def _checked(value: Any) -> Walks:
    return tuple(
        tuple(_walk(walk) for walk in _items(heights, len(HEIGHTS)))
        for heights in _items(value, len(LOADS))
    )


def _items(value: Any, count: int) -> list[Any]:
    if not isinstance(value, list) or len(cast(list[Any], value)) != count:
        raise ValueError(f"{walks_file()} has walks of another form")
    return cast(list[Any], value)


def _walk(value: Any) -> Walk:
    match value:
        case [1 | 2 | 4 | 8 as strips, int(ahead), 1 | 2 as level] if 0 <= ahead < 1_000_000:
            return strips, ahead, level
        case _:
            raise ValueError(f"{walks_file()} has {value!r}, which is no walk")
