"""Grids of shares between 0 and 1, in colour on a terminal and in figures anywhere."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest

import click

_COLOURS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
"""From 0 to 1, as the figures have it: matplotlib's viridis, dark to light, to all eyes."""
_CELL = 7
_LABEL = 6
_GAP = "   "
Grid = Mapping[tuple[int, float], float]
"""(length, depth): share."""


def heat_maps(grids: Mapping[str, Grid], width: int) -> str:
    """Maps by title, beside each other where ``width`` columns suffice, else below each other.

    Depths are rows and lengths are columns, so many at a time as there is room for.
    """
    blocks = [block for title, grid in grids.items() for block in _blocks(grid, title, width)]
    rows: list[list[list[str]]] = []
    for block in blocks:
        if rows and _width([*rows[-1], block]) <= width:
            rows[-1].append(block)
        else:
            rows.append([block])
    return "\n\n".join(_beside(row) for row in rows)


def _blocks(grid: Grid, title: str, width: int) -> list[list[str]]:
    """The lines of one map, or of several where it is too wide for one."""
    lengths = sorted({length for length, _ in grid})
    most = max((width - _LABEL - 1) // _CELL, 1)
    return [_block(grid, lengths[i : i + most], title) for i in range(0, len(lengths), most)]


def _block(grid: Grid, lengths: Sequence[int], title: str) -> list[str]:
    depths = sorted({depth for length, depth in grid if length in lengths})
    rows = [
        f"{depth:{_LABEL}.0%} " + "".join(_cell(grid.get((n, depth))) for n in lengths)
        for depth in depths
    ]
    foot = f"{'tokens':>{_LABEL}} " + "".join(f"{n:^{_CELL}}" for n in lengths)
    return [click.style(title, bold=True), *rows, click.style(foot, dim=True)]


def _beside(blocks: Sequence[Sequence[str]]) -> str:
    widths = [max(map(_columns, block)) for block in blocks]
    lines = []
    for parts in zip_longest(*blocks, fillvalue=""):
        padded = [part + " " * (w - _columns(part)) for part, w in zip(parts, widths, strict=True)]
        lines.append(_GAP.join(padded).rstrip())
    return "\n".join(lines)


def _width(blocks: Sequence[Sequence[str]]) -> int:
    return sum(max(map(_columns, block)) for block in blocks) + len(_GAP) * (len(blocks) - 1)


def _columns(line: str) -> int:
    return len(click.unstyle(line))


def _cell(value: float | None) -> str:
    if value is None:
        return " " * _CELL
    colour = _blend(value)
    return click.style(
        f"{value:^{_CELL}.2f}", bg=colour, fg="white" if sum(colour) < 330 else "black"
    )


def _blend(value: float) -> tuple[int, int, int]:
    """The colour at ``value`` from 0 to 1."""
    at = min(max(value, 0.0), 1.0) * (len(_COLOURS) - 1)
    first = min(int(at), len(_COLOURS) - 2)
    share = at - first
    red, green, blue = (
        round(a + share * (b - a))
        for a, b in zip(_COLOURS[first], _COLOURS[first + 1], strict=True)
    )
    return red, green, blue
