"""``motet bench``: tokens a second, and the share of the memory's speed that decoding reaches."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from motet.cli.inputs import load_model, predicting, read_text
from motet.cli.loading import Loading, loading_options
from motet.cli.options import (
    WholeNumber,
    json_option,
    kv_type_option,
    max_tokens_option,
    model_argument,
    self_extend_options,
    ubatch_option,
)
from motet.cli.speculating import speculate_option, speculation

if TYPE_CHECKING:
    from motet.evals.generation import Writing
    from motet.evals.speed import Speed
    from motet.model import Model
    from motet.self_extend import AutoExtend, SelfExtend

LENGTHS = (64, 512)


def _numbers(_: click.Context, option: click.Parameter, text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = [0]
    if min(numbers) < 1:
        raise click.BadParameter(f"{text!r} is not a list of numbers from 1 up, like 64,512")
    return numbers


@click.command("bench")
@model_argument
@click.option(
    "--lengths",
    callback=_numbers,
    metavar="N,…",
    help="Lengths of the prompts (default: 64,512, where the model was trained for so many).",
)
@max_tokens_option("Tokens decoded after each.", default=64)
@click.option(
    "--parallel",
    default="1,4,16",
    show_default=True,
    callback=_numbers,
    metavar="N,…",
    help="Sequences at once.",
)
@click.option(
    "--repeat",
    type=WholeNumber(1),
    default=3,
    show_default=True,
    metavar="N",
    help="Repetitions; the median is shown.",
)
@self_extend_options
@ubatch_option
@kv_type_option
@speculate_option("Also write answers, without speculation and with it.", None)
@click.option(
    "-f",
    "--file",
    "text_file",
    type=click.Path(),
    metavar="FILE",
    help="With --speculate: the prompts are the beginning of this text (default: random tokens).",
)
@loading_options
@json_option
def command(
    model: str,
    lengths: list[int] | None,
    max_tokens: int,
    parallel: list[int],
    repeat: int,
    self_extend: "SelfExtend | AutoExtend | None",
    ubatch: int,
    kv_type: str,
    speculate: str | None,
    text_file: str | None,
    loading: Loading,
    as_json: bool,
) -> None:
    """Speed of the model in MODEL on this machine.

    Prefill reads a prompt, decode writes after it; an encoder encodes it instead. The share is of
    the read bandwidth measured in the same run: weights read a second by decode, its keys and
    values not counted. With --speculate whole answers are written too, greedily, sampling
    included: the tokens proposed for them, how many of these were right, and tokens a step.
    """
    if text_file is not None and speculate is None:
        raise click.UsageError("--file goes with --speculate")
    from motet.evals.generation import Writing, written
    from motet.evals.speed import longest_prompt, measure
    from motet.kernels import CPU

    loaded = load_model(model, loading)
    text = None if text_file is None else read_text(text_file)
    ways = [] if speculate is None else _ways(speculate, loaded, loading)
    if lengths is None:
        room = longest_prompt(loaded, max_tokens, self_extend)
        if self_extend is None:  # without attention there is no limit
            room = min(room, loaded.config.context_length)
        lengths = [length for length in LENGTHS if length <= room] or [max(room, 1)]
    assert isinstance(loaded.kernels, CPU)
    bandwidth = loaded.kernels.read_bandwidth()
    speeds = []
    for speed in measure(
        loaded,
        prompts=lengths,
        generate=max_tokens,
        parallel=parallel,
        repeat=repeat,
        self_extend=self_extend,
        ubatch=ubatch,
        kv_type=kv_type,
    ):
        speeds.append(speed)
        if not as_json:
            click.echo(f"{_name(speed)}: {speed.tokens_per_second:.1f} tokens/s", err=True)
    writings: list[Writing] = []
    if ways:
        for writing in written(
            predicting(loaded),
            ways,
            prompts=lengths,
            text=text,
            generate=max_tokens,
            parallel=parallel,
            repeat=repeat,
            self_extend=self_extend,
            ubatch=ubatch,
            kv_type=kv_type,
        ):
            writings.append(writing)
            if not as_json:
                click.echo(f"{_title(writing)}: {writing.tokens_per_second:.1f} tokens/s", err=True)
    if as_json:
        facts = _facts(loaded.bytes_per_token, bandwidth, speeds)
        if writings:
            facts["written"] = [
                asdict(writing) | {"tokens_per_second": writing.tokens_per_second}
                for writing in writings
            ]
        click.echo(json.dumps(facts))
    else:
        _print(loaded.bytes_per_token, bandwidth, speeds)
        _print_written(writings)


def _name(speed: "Speed") -> str:
    if speed.test != "decode":
        return f"{speed.test} {speed.prompt}"
    return f"decode after {speed.prompt}, {speed.sequences} at once"


def _title(writing: "Writing") -> str:
    return f"written after {writing.prompt}, {writing.sequences} at once, {writing.speculate}"


def _ways(
    speculate: str, model: "Model", loading: Loading
) -> "list[tuple[str, str | Model | None]]":
    """What is compared, by name. What can't draft is refused here, before anything is measured."""
    from motet.speculation import DraftModel

    how = speculation(speculate, loading)
    if how is None:
        return [("none", None)]
    if isinstance(how, str):
        return [("none", None), (speculate, how)]
    DraftModel(how, model, 1, model.config.context_length).close()
    return [("none", None), (how.name, how)]


def _print_written(writings: "list[Writing]") -> None:
    from rich.console import Console
    from rich.table import Table

    if not writings:
        return
    table = Table("after", title="answers written", title_justify="left")
    table.add_column("speculation", overflow="fold", min_width=11)
    table.add_column("sequences")
    table.add_column("tokens/s")
    for column in ("tokens\na step", "proposed", "accepted"):
        table.add_column(column)
    for column in table.columns[2:]:
        column.justify = "right"
    for each in writings:
        table.add_row(
            str(each.prompt),
            each.speculate,
            str(each.sequences),
            f"{each.tokens_per_second:.1f}",
            f"{each.tokens_per_step:.2f}",
            str(each.proposed),
            str(each.accepted),
        )
    Console().print(table)


def _share(speed: "Speed", bandwidth: float) -> float:
    return speed.bandwidth / (bandwidth * 1e9)


def _facts(bytes_per_token: int, bandwidth: float, speeds: "list[Speed]") -> dict[str, object]:
    return {
        "bytes_per_token": bytes_per_token,
        "read_bandwidth_gb_per_s": bandwidth,
        "results": [
            asdict(speed)
            | {"tokens_per_second": speed.tokens_per_second, "spread": speed.spread}
            | ({"bandwidth_share": _share(speed, bandwidth)} if speed.weight_bytes else {})
            for speed in speeds
        ],
    }


def _print(bytes_per_token: int, bandwidth: float, speeds: "list[Speed]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("test", "sequences", "tokens/s", "spread", "weights read", "share")
    for column in table.columns[1:]:
        column.justify = "right"
    for speed in speeds:
        read, share = "", ""
        if speed.weight_bytes:
            read, share = f"{speed.bandwidth / 1e9:.1f} GB/s", f"{_share(speed, bandwidth):.0%}"
        what = f"{speed.test} after" if speed.test == "decode" else speed.test
        what += f" {speed.prompt}"
        table.add_row(
            what,
            str(speed.sequences),
            f"{speed.tokens_per_second:.1f}",
            f"± {speed.spread / 2:.1%}",
            read,
            share,
        )
    console = Console()
    console.print(table)
    each = f"; a token reads {bytes_per_token / 1e6:.1f} MB"
    decoded = any(speed.weight_bytes for speed in speeds)
    console.print(f"memory is read at {bandwidth:.1f} GB/s{each if decoded else ''}")
