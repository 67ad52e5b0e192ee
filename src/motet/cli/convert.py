"""``motet convert``: a Hugging Face directory as a GGUF file."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from motet.cli.conversions import conversion_options, run_conversion
from motet.cli.inputs import existing_model

if TYPE_CHECKING:
    from motet.conversion.report import Conversion


@click.command("convert")
@click.argument("model", type=click.Path(), metavar="DIR")
@click.option(
    "-o",
    "--out",
    "--outfile",
    "out",
    type=click.Path(),
    metavar="FILE",
    help="The file to write (default: the model's name and type, in the current folder).",
)
@click.option(
    "--type",
    "--outtype",
    "type",
    type=click.Choice(["auto", "f32", "f16", "bf16", "q8_0"], case_sensitive=False),
    default="auto",
    show_default=True,
    help="What matrices are written in; auto: what the model is stored in, of f16 and bf16.",
)
@click.option(
    "--base",
    type=click.Path(),
    metavar="DIR",
    help="The model that an adapter changes (default: the one that it names).",
)
@conversion_options
def command(
    model: str,
    out: str | None,
    type: str,
    base: str | None,
    split_size: int | None,
    force: bool,
    dry_run: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Write the Hugging Face directory DIR as a GGUF file, which llama.cpp reads too.

    A GGUF file of floats, or an address on the hub, does as well.

    DIR may be a low-rank adapter that PEFT wrote: what is made goes with --lora.
    motet quantize makes smaller files, of DIR itself or of what this makes.
    """
    from motet.conversion.convert import convert

    found = existing_model(model)

    def run(progress: Callable[[int, int], None]) -> "Conversion":
        return convert(
            found,
            out,
            type,
            base=base,
            split_size=split_size,
            overwrite=force,
            threads=threads,
            dry_run=dry_run,
            progress=progress,
        )

    run_conversion(run, "converting", as_json)
