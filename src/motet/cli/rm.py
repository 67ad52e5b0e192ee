"""``motet rm``: a model out of the hub's cache."""

import json
import sys

import click

from motet.cli.options import json_option
from motet.machine import format_bytes


@click.command("rm")
@click.argument("address", metavar="hf://ORG/NAME")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
def command(address: str, yes: bool, as_json: bool) -> None:
    """Remove from the hub's cache what motet list shows, or all of a repository.

    hf://org/name removes every file and revision of it, hf://org/name:Q4_K_M one quantisation,
    hf://org/name@revision one revision. Files that another revision has too stay for it.
    """
    from motet.hub.address import parse_address
    from motet.hub.cache import removal
    from motet.hub.library import Hub

    going = removal(Hub.of_environment(), parse_address(address))
    size, count = format_bytes(going.nbytes), len(going.files)
    what = f"{address}: {count} file{'s' * (count != 1)}, which frees {size}"
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError(f"{what}; --yes removes it without asking")
        click.echo(f"{what}:\n  " + "\n  ".join(going.files), err=True)
        click.confirm("remove it?", abort=True, err=True)
    going.execute()
    if as_json:
        click.echo(json.dumps({"files": going.files, "bytes": going.nbytes}))
    else:
        click.echo(f"removed {what}", err=True)
