"""``motet rank``: documents in the order in which they answer a query."""

import json

import click

from motet.cli.inputs import (
    counted_from_one,
    existing_model,
    load_text_model,
    model_name,
    read_texts,
)
from motet.cli.loading import Loading, loading_options
from motet.cli.options import WholeNumber, json_option, model_argument
from motet.cli.output import shortened
from motet.cli.progress import counted_progress

_WIDTH = 100
"""Characters of a document that are shown."""


@click.command("rank")
@model_argument
@click.argument("texts", nargs=-1, metavar="[DOCUMENT]…")
@click.option("-q", "--query", required=True, metavar="TEXT", help="What is looked for.")
@click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(),
    metavar="FILE",
    help="Documents, one a line (- reads them).",
)
@click.option("--top", type=WholeNumber(1), metavar="N", help="Print the N best alone.")
@click.option("--truncate", is_flag=True, help="Cut pairs that are too long for the model.")
@loading_options
@json_option
def command(
    model: str,
    texts: tuple[str, ...],
    query: str,
    path: str | None,
    top: int | None,
    truncate: bool,
    loading: Loading,
    as_json: bool,
) -> None:
    """Score documents for a query with the reranker in MODEL; the best comes first.

    A line has the score, the document's number and its beginning.
    """
    from motet.llm import LLM

    model = existing_model(model)
    documents = read_texts(texts, path, "documents")
    loaded = load_text_model(model, loading)
    with (
        LLM(loaded, max_sequences=1, prefix_reuse=False) as llm,
        counted_progress("ranking") as progress,
        counted_from_one(),
    ):
        scores = llm.rank(query, documents, truncate=truncate, progress=progress)
    order = sorted(range(len(documents)), key=lambda place: -scores[place])[:top]
    if as_json:
        results = [
            {"index": i, "score": float(str(scores[i])), "document": documents[i]} for i in order
        ]
        facts = {"model": model_name(loaded), "query": query, "results": results}
        click.echo(json.dumps(facts))
        return
    column = len(str(len(documents)))
    for place in order:
        number = place + 1
        click.echo(
            f"{scores[place]:9.4f}  {number:{column}}  {shortened(documents[place], _WIDTH)}"
        )
