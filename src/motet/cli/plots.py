"""Pictures of measurements, as PNG or SVG; matplotlib draws them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from motet.cli.heatmap import Grid
from motet.errors import OptionError, UnsupportedError

FORMATS = (".png", ".svg")


def check_plot(path: str) -> Path:
    """The path, before any work. Raises OptionError for another kind of file, UnsupportedError
    where matplotlib is missing."""
    if Path(path).suffix not in FORMATS:
        raise OptionError(f"{path!r} is no picture", hint=f"end it in {' or '.join(FORMATS)}")
    _figure_class()
    return Path(path)


def save_heat_maps(grids: Mapping[str, Grid], path: Path) -> None:
    """Grids side by side, a colour scale beside them."""
    figure = _figure_class()(figsize=(1.5 + 3.4 * len(grids), 3.2), layout="constrained")
    axes = figure.subplots(1, len(grids), squeeze=False)[0]
    image: Any = None
    for axis, (title, grid) in zip(axes, grids.items(), strict=True):
        lengths = sorted({length for length, _ in grid})
        depths = sorted({depth for _, depth in grid})
        cells = np.array([[grid.get((n, d), np.nan) for n in lengths] for d in depths])
        image = axis.imshow(cells, vmin=0, vmax=1, cmap="RdYlGn", aspect="auto")
        axis.set(title=title, xlabel="tokens", ylabel="depth of the needle")
        axis.set_xticks(range(len(lengths)), map(str, lengths))
        axis.set_yticks(range(len(depths)), [f"{depth:.0%}" for depth in depths])
        for (row, column), value in np.ndenumerate(cells):
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8)
    figure.colorbar(image, ax=list(axes), label="found")
    figure.savefig(path, dpi=150)


def save_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    path: Path,
    *,
    xlabel: str,
    ylabel: str,
    marks: Mapping[str, float],
) -> None:
    """Curves (x, y) by name; ``marks``: vertical lines by name."""
    figure = _figure_class()(figsize=(7, 3.6), layout="constrained")
    axis = figure.subplots()
    for name, (x, y) in curves.items():
        axis.plot(x, y, label=name)
    for name, x in marks.items():
        axis.axvline(x, color="grey", linestyle=":", label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.set_xscale("log", base=2)
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=150)


def _figure_class() -> Any:
    """matplotlib's Figure, without its window system."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UnsupportedError(
            "pictures need matplotlib, which is not installed", hint="pip install 'motet[plots]'"
        ) from error
    return Figure
