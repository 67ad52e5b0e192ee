"""``motet pack``: a file of a model that is mapped, not loaded."""

from pathlib import Path

import click

from motet.cli.inputs import existing_model
from motet.cli.loading import Loading, weight_options
from motet.cli.options import model_argument
from motet.cli.progress import counted_progress
from motet.machine import format_bytes


@click.command("pack")
@model_argument
@click.argument("file", required=False, type=click.Path(), metavar="FILE")
@click.option(
    "-o", "--out", type=click.Path(), metavar="FILE", help="The file to write; or after MODEL."
)
@click.option("--force", is_flag=True, help="Replace a packed file that is there.")
@weight_options
def command(model: str, file: str | None, out: str | None, force: bool, loading: Loading) -> None:
    """Write MODEL to FILE as it lies in memory: that file then loads in no time.

    FILE goes wherever a model does. Any number of processes share one copy of its weights. It is
    for this version of Motet: another may ask for it to be packed again.
    """
    from motet.packing import pack

    if file is not None and out is not None:
        raise click.UsageError(f"FILE is given twice: {file} and -o {out}")
    if (target := file or out) is None:
        raise click.UsageError("give the file to write, as in motet pack MODEL -o model.packed")
    found = existing_model(model)
    with counted_progress("packing") as progress:
        made = pack(
            found,
            target,
            type=loading.type,
            lora=loading.lora,
            overwrite=force,
            threads=loading.threads,
            progress=progress,
        )
    click.echo(f"wrote {made}, {format_bytes(Path(made).stat().st_size)}", err=True)
