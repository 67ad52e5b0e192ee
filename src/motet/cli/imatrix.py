"""``motet imatrix``: which weights matter most for a text, for ``motet quantize --imatrix``."""

import json
from pathlib import Path

import click

from motet.cli.inputs import existing_model, read_text
from motet.cli.options import (
    WholeNumber,
    context_option,
    json_option,
    model_argument,
    threads_option,
)
from motet.cli.progress import progress_bar


@click.command("imatrix")
@model_argument
@click.option("-f", "--file", "text_file", type=click.Path(), metavar="FILE", help="UTF-8 text.")
@click.option(
    "-o",
    "--out",
    "--output-file",
    "out",
    type=click.Path(),
    default="imatrix.gguf",
    show_default=True,
    metavar="FILE",
    help="The file to write.",
)
@context_option("Tokens of a chunk (default: 512, or the trained length if that is less).", least=4)
@click.option("--chunks", type=WholeNumber(1), metavar="N", help="Only the first N chunks.")
@click.option("--process-output", is_flag=True, help="Also of the output head.")
@click.option("--force", is_flag=True, help="Replace a GGUF file that is there.")
@threads_option
@json_option
def command(
    model: str,
    text_file: str | None,
    out: str,
    ctx: int | None,
    chunks: int | None,
    process_output: bool,
    force: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """How much each column of the matrices in MODEL matters for a text.

    motet quantize --imatrix, and llama-quantize, then keep what matters more exactly. The text is
    best of the kind that the model will read and write; some ten thousand tokens do.
    """
    from motet.evals.importance import importance_matrix
    from motet.weights.gguf_writer import require_free

    if text_file is None:
        raise click.UsageError("give a text with -f, as in motet imatrix MODEL -f text.txt")
    text = read_text(text_file)
    model = existing_model(model)
    require_free(Path(out), (model,), force)
    with progress_bar() as show:
        matrix = importance_matrix(
            model,
            text,
            ctx=ctx,
            chunks=chunks,
            process_output=process_output,
            dataset=text_file,
            threads=threads,
            progress=lambda done, total: show(done, total, "chunks"),
        )
    matrix.write(out, overwrite=force)
    if as_json:
        facts = {"file": out, "tensors": len(matrix.entries), "chunks": matrix.chunks}
        click.echo(json.dumps(facts | {"chunk_size": matrix.chunk_size}))
    else:
        click.echo(f"{len(matrix.entries)} tensors, of {matrix.chunks} chunks", err=True)
        click.echo(f"wrote {out}", err=True)
