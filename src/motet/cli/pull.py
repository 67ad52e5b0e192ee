"""``motet pull``: a model from the hub into the cache."""

import json

import click

from motet.cli.inputs import fetched
from motet.cli.options import json_option
from motet.hub import is_address
from motet.hub.address import meant


@click.command("pull")
@click.argument("address", metavar="hf://ORG/NAME")
@click.option("--revision", metavar="NAME", help="A branch, a tag or a commit (default: main).")
@click.option(
    "--token",
    metavar="TOKEN",
    help="For a private or gated model (default: HF_TOKEN, or that of hf auth login).",
)
@click.option("--offline", is_flag=True, help="Ask no hub: only say where the cache has it.")
@json_option
def command(
    address: str, revision: str | None, token: str | None, offline: bool, as_json: bool
) -> None:
    """Fetch a model from the Hugging Face Hub, and print the path that it has then.

    hf://org/name:Q4_K_M is a GGUF file of that quantisation, hf://org/name:path/file.gguf one file,
    hf://org/name the default: Q4_K_M, else another with 4 bits, else the first; or the directory,
    where the model is published as safetensors. What was interrupted goes on where it was.
    """
    if not is_address(address):
        like = meant(address) or "hf://org/name"
        raise click.UsageError(f"{address} is no address on the hub; it is like {like}")
    path = fetched(address, revision, token, offline)
    click.echo(json.dumps({"address": address, "path": path}) if as_json else path)
