"""A grid of shares between 0 and 1, in colour on a terminal and in figures anywhere."""

from collections.abc import Mapping, Sequence

import click

_COLOURS = ((165, 0, 38), (244, 109, 67), (254, 224, 139), (102, 189, 99), (0, 104, 55))
"""From 0 to 1: red, orange, yellow, green, dark green (ColorBrewer's RdYlGn)."""
Grid = Mapping[tuple[int, float], float]
"""(length, depth): share."""


def heat_map(grid: Grid, title: str) -> str:
    """Depths as rows, lengths as columns."""
    lengths = sorted({length for length, _ in grid})
    depths = sorted({depth for _, depth in grid})
    lines = [click.style(title, bold=True)]
    lines += [
        f"{depth:6.0%} " + "".join(_cell(grid.get((n, depth))) for n in lengths) for depth in depths
    ]
    lines.append(click.style("depth  " + "".join(f"{n:^7}" for n in lengths) + " tokens", dim=True))
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    if value is None:
        return "       "
    colour = blend(_COLOURS, value)
    dark = sum(colour) < 330
    return click.style(f"{value:^7.2f}", bg=colour, fg="white" if dark else "black")


def blend(colours: Sequence[tuple[int, int, int]], value: float) -> tuple[int, int, int]:
    """The colour at ``value`` from 0 to 1 along evenly spaced ones."""
    at = min(max(value, 0.0), 1.0) * (len(colours) - 1)
    first = min(int(at), len(colours) - 2)
    share = at - first
    red, green, blue = (
        round(a + share * (b - a)) for a, b in zip(colours[first], colours[first + 1], strict=True)
    )
    return red, green, blue
