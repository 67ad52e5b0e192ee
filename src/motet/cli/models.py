"""``motet list``: the models in the hub's cache."""

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from motet.cli.options import json_option
from motet.cli.output import printable
from motet.machine import format_bytes

if TYPE_CHECKING:
    from motet.hub.cache import CachedModel


@click.command("list")
@json_option
def command(as_json: bool) -> None:
    """List models in the cache of the hub that Motet may open, by what to type for MODEL.

    Other tools that use the hub share the cache, and so what they fetched is listed too.
    """
    from motet.hub.cache import cached_models
    from motet.hub.library import Hub

    hub = Hub.of_environment()
    models = cached_models(hub)
    if as_json:
        click.echo(json.dumps({"cache": str(hub.cache), "models": [_facts(m) for m in models]}))
    elif models:
        _print(models)
    else:
        said = f"the hub's cache, {hub.cache}, has no models; motet pull hf://org/name fetches one"
        click.echo(said, err=True)


def _facts(model: "CachedModel") -> dict[str, object]:
    return {
        "address": str(model.address),
        "path": model.path,
        "bytes": model.nbytes,
        "last_used": _time(model).isoformat(timespec="seconds"),
        "commit": model.commit,
        "refs": model.refs,
    }


def _time(model: "CachedModel") -> datetime:
    return datetime.fromtimestamp(model.last_used, timezone.utc).astimezone()


def _print(models: "list[CachedModel]") -> None:
    names = [printable(str(model.address)) for model in models]
    width = max(map(len, names))
    for name, model in zip(names, models, strict=True):
        click.echo(f"{name:{width}}  {format_bytes(model.nbytes):>9}  {_time(model):%Y-%m-%d}")
