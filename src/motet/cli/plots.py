"""Pictures of measurements, as PNG or SVG; matplotlib draws them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from motet.cli.heatmap import Grid
from motet.errors import OptionError, UnsupportedError

FORMATS = (".png", ".svg")
_STYLE = {"svg.hashsalt": "motet", "svg.fonttype": "none", "font.size": 9}
"""The same measurements give the same file; text stays text."""


def check_plot(path: str) -> Path:
    """The path, before any work. Raises OptionError for another kind of file or a folder that is
    not there, UnsupportedError where matplotlib is missing."""
    if Path(path).suffix not in FORMATS:
        raise OptionError(f"{path!r} is no picture", hint=f"end it in {' or '.join(FORMATS)}")
    if not Path(path).parent.is_dir():
        raise OptionError(f"{path!r}: there is no such folder")
    _matplotlib()
    return Path(path)


def save_heat_maps(rows: Sequence[Mapping[str, Grid]], path: Path) -> None:
    """Rows of grids by title, depths against lengths, and a colour scale beside them."""
    columns = max(map(len, rows))
    size = (1.4 + 2.9 * columns, 0.3 + 2.4 * len(rows))
    with _matplotlib().rc_context(_STYLE):
        figure = _figure(size)
        axes = figure.subplots(len(rows), columns, squeeze=False)
        for i, (row, grids) in enumerate(zip(axes, rows, strict=True)):
            for j, axis in enumerate(row):
                title, grid = [*grids.items(), *[("", None)] * columns][j]
                if grid is None:
                    axis.set_axis_off()
                    continue
                image = _draw(axis, grid)
                axis.set_title(title, fontsize=9)
                if i == len(rows) - 1:
                    axis.set_xlabel("tokens")
                if j == 0:
                    axis.set_ylabel("depth of the needle")
        figure.colorbar(image, ax=axes, label="share found")  # pyright: ignore
        _save(figure, path)


def _draw(axis: Any, grid: Grid) -> Any:
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
) -> None:
    """Curves (x, y) by name over a logarithmic x; ``marks``: vertical lines by name."""
    with _matplotlib().rc_context(_STYLE):
        figure = _figure((6.4, 3.2))
        axis = figure.subplots()
        for name, (x, y) in curves.items():
            axis.plot(x, y, label=name, linewidth=1.5, marker=".", markersize=4)
        for name, x in marks.items():
            axis.axvline(x, color="grey", linestyle=":", label=name)
        axis.set(xlabel=xlabel, ylabel=ylabel)
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


def _save(figure: Any, path: Path) -> None:
    metadata = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(path, dpi=150, metadata=metadata)


def _figure(size: tuple[float, float]) -> Any:
    """Without a window system."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise UnsupportedError(
            "pictures need matplotlib, which is not installed", hint="pip install 'motet[plots]'"
        ) from error
    return matplotlib
