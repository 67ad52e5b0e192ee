"""Pictures of measurements: heat maps on a terminal, and figures by matplotlib."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from motet.errors import OptionError, UnsupportedError
from motet.replacing import replacing
from motet.state.file_objects import Sink

if TYPE_CHECKING:
    from types import ModuleType

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_COLOURS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
"""From 0 to 1 on a terminal: matplotlib's viridis, which the figures have."""
_CELL = 7
_LABEL = 6
_GAP = "   "

_SHADES = " ░▒▓█"
"""From 0 to 1 where there are no colours."""

_FORMATS = {".pdf": {"CreationDate": None}, ".png": {}, ".svg": {"Date": None}}
"""Kinds of figures, and what they are not to say of when they were made."""
_STYLE = {"svg.hashsalt": "motet", "svg.fonttype": "none", "pdf.fonttype": 42, "font.size": 9}
"""The same measurements give the same file; text stays text."""

Grid = Mapping[tuple[int, float], float]
"""(length, depth): share, from 0 to 1."""


def heat_maps(grids: Mapping[str, Grid], width: int, *, colour: bool) -> str:
    """Coloured or shaded tables by title, side by side where ``width`` columns suffice.

    Depths are rows and lengths are columns, so many at a time as there is room for.
    """
    maps = [_blocks(grid, title, width, colour) for title, grid in grids.items()]
    blocks = [block for parts in maps for block in parts]
    rows: list[list[list[str]]] = []
    for block in blocks:
        if rows and _width([*rows[-1], block]) <= width:
            rows[-1].append(block)
        else:
            rows.append([block])
    return "\n\n".join(_side_by_side(row) for row in rows)


def _blocks(grid: Grid, title: str, width: int, colour: bool) -> list[list[str]]:
    """The lines of one map, or of several where it is too wide for one."""
    lengths = sorted({length for length, _ in grid})
    most = max((width - _LABEL - 1) // _CELL, 1)
    parts = [lengths[i : i + most] for i in range(0, len(lengths), most)]
    return [_block(grid, part, title, colour) for part in parts]


def _block(grid: Grid, lengths: Sequence[int], title: str, colour: bool) -> list[str]:
    depths = sorted({depth for length, depth in grid if length in lengths})
    rows = [
        f"{depth:{_LABEL}.0%} " + "".join(_cell(grid.get((n, depth)), colour) for n in lengths)
        for depth in depths
    ]
    foot = f"{'tokens':>{_LABEL}} " + "".join(f"{n:^{_CELL}}" for n in lengths)
    return [click.style(title, bold=True), *rows, click.style(foot.rstrip(), dim=True)]


def _side_by_side(blocks: Sequence[Sequence[str]]) -> str:
    widths = [max(map(_columns, block)) for block in blocks]
    lines: list[str] = []
    for parts in zip_longest(*blocks, fillvalue=""):
        padded = [part + " " * (w - _columns(part)) for part, w in zip(parts, widths, strict=True)]
        lines.append(_GAP.join(padded).rstrip())
    return "\n".join(lines)


def _width(blocks: Sequence[Sequence[str]]) -> int:
    return sum(max(map(_columns, block)) for block in blocks) + len(_GAP) * (len(blocks) - 1)


def _columns(line: str) -> int:
    return len(click.unstyle(line))


def _cell(value: float | None, coloured: bool) -> str:
    if value is None:
        return " " * _CELL
    if not coloured:
        shade = _SHADES[round(min(max(value, 0.0), 1.0) * (len(_SHADES) - 1))]
        return f"{f'{shade} {value:.2f}':{_CELL}}"
    colour = _colour(value)
    return click.style(
        f"{value:^{_CELL}.2f}", bg=colour, fg="white" if sum(colour) < 330 else "black"
    )


def _colour(value: float) -> tuple[int, int, int]:
    """Red, green and blue at ``value`` from 0 to 1, interpolated."""
    at = min(max(value, 0.0), 1.0) * (len(_COLOURS) - 1)
    first = min(int(at), len(_COLOURS) - 2)
    share = at - first
    red, green, blue = (
        round(a + share * (b - a))
        for a, b in zip(_COLOURS[first], _COLOURS[first + 1], strict=True)
    )
    return red, green, blue


def check_plot(path: str) -> Path:
    """The path of a figure, checked before anything is measured.

    Raises OptionError for another kind of file or a missing folder, UnsupportedError where
    matplotlib is missing.
    """
    if Path(path).suffix.lower() not in _FORMATS:
        raise OptionError(f"{path!r} is not a picture", hint=f"end it in {', '.join(_FORMATS)}")
    if not Path(path).parent.is_dir():
        raise OptionError(f"{path!r}: there is no such folder", hint="make it first")
    _matplotlib()
    return Path(path)


def save_heat_maps(
    rows: Sequence[Mapping[str, Grid]], path: Path, *, title: str | None = None
) -> None:
    """Rows of grids by name, depths against lengths, and a colour scale beside them; ``title`` is
    of the whole. Raises StateFileError where ``path`` cannot be written."""
    columns = max(map(len, rows))
    size = (1.4 + 2.9 * columns, 0.3 + 0.3 * (title is not None) + 2.4 * len(rows))
    with _matplotlib().rc_context(_STYLE):
        figure = _figure(size)
        axes = figure.subplots(len(rows), columns, squeeze=False)
        for i, (row, grids) in enumerate(zip(axes, rows, strict=True)):
            for j, axis in enumerate(row):
                name, grid = [*grids.items(), *[("", None)] * columns][j]
                if grid is None:
                    axis.set_axis_off()
                    continue
                image = _draw(axis, grid)
                axis.set_title(name, fontsize=9)
                if i == len(rows) - 1:
                    axis.set_xlabel("tokens")
                if j == 0:
                    axis.set_ylabel("depth of the needle")
        figure.colorbar(image, ax=axes, label="share found")  # pyright: ignore
        if title is not None:
            figure.suptitle(title, fontsize=10)
        _save(figure, path)


def _draw(axis: "Axes", grid: Grid) -> "AxesImage":
    lengths = sorted({length for length, _ in grid})
    depths = sorted({depth for _, depth in grid})
    cells = np.array([[grid.get((n, d), np.nan) for n in lengths] for d in depths])
    image = axis.imshow(cells, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axis.set_xticks(range(len(lengths)), map(str, lengths), fontsize=7)
    axis.set_yticks(range(len(depths)), [f"{depth:.0%}" for depth in depths], fontsize=7)
    for (row, column), value in np.ndenumerate(cells):
        if not np.isnan(value):
            colour = "white" if value < 0.6 else "black"
            text = f"{value:.2f}"
            axis.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)
    return image


def save_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    path: Path,
    *,
    xlabel: str,
    ylabel: str,
    marks: Mapping[str, float],
    title: str | None = None,
) -> None:
    """Curves (x, y) by name over a logarithmic x; ``marks``: vertical lines by name. Raises
    StateFileError where ``path`` cannot be written."""
    with _matplotlib().rc_context(_STYLE):
        figure = _figure((6.4, 3.2))
        axis = figure.subplots()
        for name, (x, y) in curves.items():
            axis.plot(x, y, label=name, linewidth=1.5, marker=".", markersize=4)
        for name, x in marks.items():
            axis.axvline(x, color="grey", linestyle=":", label=name)
        axis.set(xlabel=xlabel, ylabel=ylabel)
        if title is not None:
            axis.set_title(title, fontsize=10)
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
        _save(figure, path)


def save_matrices(matrices: Mapping[str, np.ndarray], path: Path) -> None:
    """Square matrices of whole numbers by title; what is below 0 is left blank."""
    with _matplotlib().rc_context(_STYLE):
        figure = _figure((3.2 * len(matrices), 3.4))
        axes = figure.subplots(1, len(matrices), squeeze=False)[0]
        for axis, (title, matrix) in zip(axes, matrices.items(), strict=True):
            axis.imshow(np.where(matrix < 0, np.nan, matrix), cmap="Blues", vmin=0, vmax=14)
            for (row, column), value in np.ndenumerate(matrix):
                if value >= 0:
                    axis.text(column, row, str(value), ha="center", va="center", fontsize=7)
            axis.set_title(title, fontsize=9)
            axis.set(xlabel="key", ylabel="query")
        _save(figure, path)


def _save(figure: "Figure", path: Path) -> None:
    """All of it, or the old file stays."""
    kind = path.suffix.lower()
    picture = BytesIO()
    figure.savefig(picture, format=kind[1:], dpi=150, metadata=_FORMATS[kind])
    with replacing(path) as file:
        Sink(file).write(picture.getbuffer())


def _figure(size: tuple[float, float]) -> "Figure":
    """An empty figure, made without a window system."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def _matplotlib() -> "ModuleType":
    """Imported when a figure is asked for. Raises UnsupportedError where it is missing."""
    try:
        import matplotlib
    except ImportError as error:
        raise UnsupportedError(
            "pictures need matplotlib, which is not installed", hint="pip install 'motet[plots]'"
        ) from error
    return matplotlib
