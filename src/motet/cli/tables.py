"""Tables on standard output: columns side by side without lines."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from motet.cli.output import printable

if TYPE_CHECKING:
    from rich.table import Table

_NUMBERS = {"tensors", "parameters", "size", "share", "offset", "before"}
"""Titles of right-aligned columns."""
_WIDTH = 200
"""Where there is no terminal."""


def table(titles: list[str] | None, rows: Iterable[tuple[str, ...]]) -> "Table":
    """Of text; long cells are folded, never cut. Without titles there are two columns."""
    from rich.table import Table

    made = Table(box=None, show_header=titles is not None, pad_edge=False, header_style="bold")
    for title in titles or ["", ""]:
        right = title in _NUMBERS
        made.add_column(title, justify="right" if right else "left", overflow="fold")
    for row in rows:
        made.add_row(*map(printable, row))
    return made


def print_tables(tables: "Iterable[Table]") -> None:
    """One below the other."""
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console = Console(width=_WIDTH, markup=False, highlight=False, emoji=False)
    for each in tables:
        console.print(each)
