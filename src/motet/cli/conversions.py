"""What ``motet convert`` and ``motet quantize`` share: options, progress and the table."""

import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from motet.cli.options import Bytes, json_option, threads_option
from motet.cli.progress import counted_progress
from motet.cli.tables import print_tables, table
from motet.machine import format_bytes

if TYPE_CHECKING:
    from rich.table import Table

    from motet.conversion.report import Conversion

Command = TypeVar("Command", bound=Callable[..., object])
Run = Callable[[Callable[[int, int], None]], "Conversion"]


def conversion_options(command: Command) -> Command:
    """``split_size``, ``force``, ``dry_run``, ``threads`` and ``as_json``."""
    for option in reversed(
        (
            click.option(
                "--split-size",
                type=Bytes(),
                metavar="N",
                help="Write several files, each with at most so many bytes of tensors, as in 2G.",
            ),
            click.option("--force", is_flag=True, help="Replace a GGUF file that is there."),
            click.option("--dry-run", is_flag=True, help="Show what would be made; write nothing."),
            threads_option,
            json_option,
        )
    ):
        command = option(command)
    return command


def run_conversion(run: Run, what: str, as_json: bool) -> None:
    """Run it with its progress on standard error, and print what was made."""
    with counted_progress(what) as progress:
        made = run(progress)
    if as_json:
        click.echo(json.dumps(_facts(made), indent=2))
        return
    print_tables([_table(made)])
    click.echo(
        f"{format_bytes(made.nbytes_before)} become {format_bytes(made.nbytes)},"
        f" {made.bits_per_weight:.2f} bits a weight ({made.type})"
    )
    for file in made.files:
        click.echo(f"wrote {file}", err=True)


def _table(made: "Conversion") -> "Table":
    return table(
        ["tensor", "shape", "from", "to", "before", "size"],
        [
            (
                each.name,
                " × ".join(map(str, each.shape)),
                each.before.name,
                each.after.name + (" (weighed)" if each.weighed else ""),
                format_bytes(each.nbytes_before),
                format_bytes(each.nbytes),
            )
            for each in made.tensors
        ],
    )


def _facts(made: "Conversion") -> dict[str, object]:
    return {
        "files": [str(file) for file in made.files],
        "type": made.type,
        "bytes_before": made.nbytes_before,
        "bytes": made.nbytes,
        "bits_per_weight": made.bits_per_weight,
        "tensors": [
            {
                "name": each.name,
                "shape": list(each.shape),
                "parameters": math.prod(each.shape),
                "from": each.before.name,
                "to": each.after.name,
                "bytes_before": each.nbytes_before,
                "bytes": each.nbytes,
                "weighed": each.weighed,
            }
            for each in made.tensors
        ],
    }
