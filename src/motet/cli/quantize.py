"""``motet quantize``: another file of a model, in fewer bits."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from motet.cli.conversions import conversion_options, run_conversion
from motet.cli.inputs import existing_model

if TYPE_CHECKING:
    from motet.conversion.report import Conversion


class _TensorType(click.ParamType):
    """``REGEX=TYPE``."""

    name = "REGEX=TYPE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        pattern, found, type = str(value).rpartition("=")
        if not found or not pattern or not type:
            self.fail(f"{value!r} is not REGEX=TYPE, as in attn_v=q8_0", param, ctx)
        return pattern, type


class _Listed(click.Command):
    """With the types below the options."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from motet.conversion.mixes import MIXES

        with formatter.section("Types"):
            formatter.write_dl([(mix.name, mix.about) for mix in MIXES.values()])


@click.command("quantize", cls=_Listed)
@click.argument("arguments", nargs=-1, metavar="IN [OUT] TYPE")
@click.option("--pure", is_flag=True, help="The same type for every matrix.")
@click.option("--imatrix", type=click.Path(), metavar="FILE", help="Weigh errors by importance.")
@click.option(
    "--tensor-type",
    "tensor_types",
    type=_TensorType(),
    multiple=True,
    metavar="REGEX=TYPE",
    help="The type of tensors whose name has a match; several times: the first that has.",
)
@click.option(
    "--leave-output",
    "--leave-output-tensor",
    "leave_output",
    is_flag=True,
    help="Leave the output head as it is.",
)
@click.option(
    "--output-type",
    "--output-tensor-type",
    "output_type",
    metavar="TYPE",
    help="The type of the output head.",
)
@click.option(
    "--embedding-type",
    "--token-embedding-type",
    "embedding_type",
    metavar="TYPE",
    help="The type of the embedding.",
)
@click.option(
    "--allow-requantize", is_flag=True, help="Also quantise what is quantised; this loses more."
)
@conversion_options
def command(
    arguments: tuple[str, ...],
    pure: bool,
    imatrix: str | None,
    tensor_types: tuple[tuple[str, str], ...],
    leave_output: bool,
    output_type: str | None,
    embedding_type: str | None,
    allow_requantize: bool,
    split_size: int | None,
    force: bool,
    dry_run: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Write the model IN, a GGUF file or a Hugging Face directory, to OUT in fewer bits.

    OUT is by default IN's name with TYPE, in the current folder. Shows each tensor's type and size.
    """
    from motet.conversion.quantize import quantize

    if len(arguments) not in (2, 3):
        raise click.UsageError(
            "give a model, a file to write and a type, as in motet quantize IN OUT Q4_K_M"
        )
    model, *out, type = arguments
    if type.lower().endswith(".gguf"):
        raise click.UsageError(f"TYPE comes last, and {type!r} is a file")
    found = existing_model(model)

    def run(progress: Callable[[int, int], None]) -> "Conversion":
        return quantize(
            found,
            out[0] if out else None,
            type,
            imatrix=imatrix,
            pure=pure,
            leave_output=leave_output,
            tensor_types=dict(reversed(tensor_types)),
            output_type=output_type,
            embedding_type=embedding_type,
            allow_requantize=allow_requantize,
            split_size=split_size,
            overwrite=force,
            threads=threads,
            dry_run=dry_run,
            progress=progress,
        )

    run_conversion(run, "quantising", as_json)
