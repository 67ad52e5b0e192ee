"""``motet embed``: vectors of texts, and how alike they are."""

import json
from typing import TYPE_CHECKING

import click

from motet.cli.inputs import (
    counted_from_one,
    existing_model,
    load_text_model,
    model_name,
    read_texts,
)
from motet.cli.loading import Loading, loading_options
from motet.cli.npy import check_npy, write_npy
from motet.cli.options import json_option, model_argument
from motet.cli.output import shortened
from motet.cli.progress import counted_progress

if TYPE_CHECKING:
    from motet.arrays import Float32

_MATRIX = 12
"""Texts, up to which all are compared."""
_NUMBERS = 4
"""Of a vector, that are shown."""
_WIDTH = 40
"""Characters of a text that are shown."""


@click.command("embed")
@model_argument
@click.argument("texts", nargs=-1, metavar="[TEXT]…")
@click.option(
    "-p", "--prompt", "prompts", multiple=True, metavar="TEXT", help="A text; or after MODEL."
)
@click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(),
    metavar="FILE",
    help="Texts, one a line (- reads them).",
)
@click.option(
    "--pooling",
    type=click.Choice(["mean", "cls", "last"]),
    help="How a text's states become one vector (default: as the file says).",
)
@click.option("--no-normalize", is_flag=True, help="Leave vectors as long as they are.")
@click.option("--truncate", is_flag=True, help="Cut texts that are too long for the model.")
@click.option(
    "--npy", type=click.Path(), metavar="FILE", help="Write a NumPy array, float32 [n, d], to FILE."
)
@loading_options
@json_option
def command(
    model: str,
    texts: tuple[str, ...],
    prompts: tuple[str, ...],
    path: str | None,
    pooling: str | None,
    no_normalize: bool,
    truncate: bool,
    npy: str | None,
    loading: Loading,
    as_json: bool,
) -> None:
    """Vectors of texts by the model in MODEL, such that like texts have like vectors.

    Shows how each vector begins and, of up to 12 texts, the cosines between all of them; --json and
    --npy give whole vectors. Many models want a prefix before a text: see their cards.
    """
    from motet.llm import LLM

    if npy is not None and as_json:
        raise click.UsageError("--npy and --json exclude each other")
    model = existing_model(model)
    if npy is not None:
        check_npy(npy, path)
    given = read_texts((*texts, *prompts), path, "texts")
    loaded = load_text_model(model, loading)
    with (
        LLM(loaded, max_sequences=1, prefix_reuse=False) as llm,
        counted_progress("embedding") as progress,
        counted_from_one(),
    ):
        vectors = llm.embed(
            given, pooling, normalize=not no_normalize, truncate=truncate, progress=progress
        )
    if npy is not None:
        write_npy(npy, vectors)
        count, width = vectors.shape
        said = f"{count} vector{'s' * (count != 1)} of {width} numbers"
        click.echo(f"{said} {'are' if count != 1 else 'is'} in {npy}", err=True)
    elif as_json:
        facts = {
            "model": model_name(loaded),
            "pooling": pooling or loaded.config.pooling,
            "normalized": not no_normalize,
            "embeddings": [[float(str(value)) for value in row] for row in vectors],
        }
        click.echo(json.dumps(facts))
    else:
        _print(given, vectors)


def _print(texts: list[str], vectors: "Float32") -> None:
    from rich.cells import cell_len, set_cell_size

    from motet.embedding import normalized

    digits = len(str(len(texts)))
    labels = [
        f"{number:{digits}}  {shortened(text, _WIDTH)}" for number, text in enumerate(texts, 1)
    ]
    column = max(map(cell_len, labels))
    rest = f"  … {vectors.shape[1]} numbers" if vectors.shape[1] > _NUMBERS else ""
    for label, vector in zip(labels, vectors, strict=True):
        numbers = "".join(f"{value:10.5f}" for value in vector[:_NUMBERS])
        click.echo(f"{set_cell_size(label, column)}{numbers}{rest}")
    if 1 < len(texts) <= _MATRIX:
        units = normalized(vectors)
        click.echo("\ncosines" + "".join(f"{number:7}" for number in range(1, len(texts) + 1)))
        for number, row in enumerate(units @ units.T, 1):
            click.echo(f"{number:7}" + "".join(f"{value:7.3f}" for value in row))
