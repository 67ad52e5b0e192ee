"""How a command loads its model: threads, the type of weights, adapters."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import click

from motet.cli.options import Bytes, threads_option


@dataclass(frozen=True)
class Loading:
    """How a model is loaded: see ``Model.load``."""

    threads: int | None = None
    type: str | None = None
    lora: tuple[tuple[str, float], ...] = ()
    packed_cache: str | None = None
    packed_cache_bytes: int | None = None


class _Lora(click.ParamType):
    """``FILE`` or ``FILE:SCALE``."""

    name = "FILE[:SCALE]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        file, _, scale = str(value).rpartition(":")
        try:
            return (file, float(scale)) if file else (scale, 1.0)
        except ValueError:
            return str(value), 1.0


def loading_options(command: Callable[..., None]) -> Callable[..., None]:
    """``weight_options``, ``--packed-cache`` and its size, passed as one ``loading``."""

    @functools.wraps(command)
    def gathered(
        loading: Loading,
        packed_cache: str | None,
        packed_cache_bytes: int | None,
        **parameters: object,
    ) -> None:
        if packed_cache is None and packed_cache_bytes is not None:
            raise click.UsageError("--packed-cache-bytes is the size of a --packed-cache")
        kept = replace(loading, packed_cache=packed_cache, packed_cache_bytes=packed_cache_bytes)
        command(loading=kept, **parameters)

    gathered = click.option(
        "--packed-cache-bytes",
        type=Bytes(),
        metavar="N",
        help="The most that --packed-cache takes, as in 20G (default: 32G); what was used longest"
        " ago goes first.",
    )(gathered)
    gathered = click.option(
        "--packed-cache",
        type=click.Path(),
        metavar="DIR",
        help="Keep the model in DIR as it lies in memory: the next time it loads in no time.",
    )(gathered)
    return weight_options(gathered)


def weight_options(command: Callable[..., None]) -> Callable[..., None]:
    """``--threads``, ``--type`` and ``--lora``, passed as one ``loading``."""

    @functools.wraps(command)
    def gathered(
        threads: int | None,
        weight_type: str | None,
        lora: tuple[tuple[str, float], ...],
        **parameters: object,
    ) -> None:
        command(loading=Loading(threads, weight_type, lora), **parameters)

    gathered = click.option(
        "--lora",
        type=_Lora(),
        multiple=True,
        metavar="FILE[:SCALE]",
        help="Merge a low-rank adapter (GGUF, or a PEFT directory) into the weights, SCALE times"
        " as strong as it was trained; may be repeated.",
    )(gathered)
    gathered = click.option(
        "--type",
        "weight_type",
        metavar="TYPE",
        help="Quantise float weights while they are loaded: q8_0, q4_0, q4_k_m, … as motet quantize"
        " has them.",
    )(gathered)
    return threads_option(gathered)
