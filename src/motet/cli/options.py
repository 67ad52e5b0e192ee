"""Options that several commands share. Those that belong together reach a command as one value."""

import functools
import re
from collections.abc import Callable
from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from motet.evals.variants import Variant
    from motet.model import Model
    from motet.sampling import SamplingFields
    from motet.self_extend import AutoExtend, SelfExtend

Command = TypeVar("Command", bound=Callable[..., object])

KV_TYPES = ["auto", "f32", "f16", "bf16", "q8_0"]
SPLITS = ["auto", "simple", "equal", "sequence"]


class WholeNumber(click.IntRange):
    """Within limits, by a name that people have for it."""

    name = "whole number"


def model_argument(command: Callable[..., None]) -> Callable[..., None]:
    """``MODEL``, or ``-m MODEL``, passed as ``model``.

    With ``-m``, what stands first is a command's ``text`` argument, or the first of its ``texts``,
    if it has one.
    """

    @functools.wraps(command)
    def gathered(model: str | None, model_option: str | None, **parameters: object) -> None:
        if model_option is not None:
            if model is not None and isinstance(texts := parameters.get("texts"), tuple):
                parameters["texts"] = (model, *texts)
            elif model is not None:
                if parameters.get("text", model) is not None:
                    raise click.UsageError(f"MODEL is given twice: {model} and -m {model_option}")
                parameters["text"] = model
            model = model_option
        if model is None:
            raise click.UsageError(
                "Missing argument 'MODEL': a GGUF file, a directory or hf://org/name;"
                " motet demo needs none"
            )
        command(model=model, **parameters)

    named = click.option(
        "-m",
        "--model",
        "model_option",
        type=click.Path(),
        metavar="MODEL",
        help="The model; or give it first.",
    )
    positional = click.argument("model", required=False, type=click.Path(), metavar="MODEL")
    return positional(named(_no_gpu(gathered)))


def refused_option(*names: str, why: str, is_flag: bool = False) -> Callable[[Command], Command]:
    """Refuse an option of llama.cpp's that does nothing here, saying ``why``."""

    def refuse(_: click.Context, __: click.Parameter, value: object) -> None:
        if value not in (None, False):
            raise click.UsageError(f"{why}; leave out {', '.join(names)}")

    return click.option(
        *names,
        f"refused{names[0]}".replace("-", "_"),
        is_flag=is_flag,
        hidden=True,
        expose_value=False,
        callback=refuse,
        help="Refused.",
    )


def _no_gpu(command: Command) -> Command:
    """``-ngl`` would be read as ``-n gl``."""
    why = "Motet computes on the CPU"
    return refused_option("-ngl", "--n-gpu-layers", why=why)(command)


def threads_option(command: Command) -> Command:
    return click.option(
        "-t",
        "--threads",
        type=WholeNumber(1),
        metavar="N",
        help="Threads that compute (default: MOTET_THREADS, or the cores this process may use).",
    )(command)


def context_option(
    help: str, least: int = 1, most: int | None = None
) -> Callable[[Command], Command]:
    return click.option(
        "-c",
        "--ctx",
        "--ctx-size",
        "ctx",
        type=WholeNumber(least, most),
        metavar="N",
        help=help,
    )


def max_tokens_option(
    help: str, least: int = 1, default: int | None = None
) -> Callable[[Command], Command]:
    return click.option(
        "-n",
        "--max-tokens",
        "--n-predict",
        "max_tokens",
        type=WholeNumber(least),
        default=default,
        show_default=default is not None,
        metavar="N",
        help=help,
    )


def kv_type_option(command: Command) -> Command:
    return click.option(
        "--kv-type",
        type=click.Choice(KV_TYPES),
        default="auto",
        help="Data type of the KV cache; auto is f32 for F32 weights, else f16.",
    )(command)


class Bytes(click.ParamType):
    """``1000000``, ``500M`` or ``2G``, the letters in powers of 1024."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d{1,15})([KMGT]?)(i?B)?", str(value), re.ASCII | re.IGNORECASE)
        if match is None:
            self.fail(f"{value!r} is not a number of bytes, as in 500M or 2G", param, ctx)
        return int(match[1]) << 10 * " KMGT".index(match[2].upper() or " ")


def kv_bytes_option(command: Command) -> Command:
    return click.option(
        "--kv-bytes",
        type=Bytes(),
        metavar="N",
        help="The most that keys, values and states take, as in 500M or 2G (default: three quarters"
        " of the memory that is left).",
    )(command)


def batch_option(help: str, default: int | None = None) -> Callable[[Command], Command]:
    return click.option(
        "-b",
        "--batch",
        "--batch-size",
        "batch",
        type=WholeNumber(1),
        default=default,
        show_default=default is not None,
        metavar="N",
        help=help,
    )


def ubatch_option(command: Command) -> Command:
    return click.option(
        "-ub",
        "--ubatch",
        "--ubatch-size",
        "ubatch",
        type=WholeNumber(1),
        default=512,
        show_default=True,
        metavar="N",
        help="Tokens of a micro-batch.",
    )(command)


def split_option(command: Command) -> Command:
    return click.option(
        "--split",
        type=click.Choice(SPLITS),
        default="auto",
        help="How a batch is split into micro-batches; affects the speed alone.",
    )(command)


def plot_option(help: str) -> Callable[[Command], Command]:
    return click.option("--plot", type=click.Path(), metavar="FILE", help=help)


def json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, nothing abbreviated.")(
        command
    )


def sampling_options(command: Callable[..., None]) -> Callable[..., None]:
    """An option for each field of Sampling but ``logit_bias``.

    Those that are given are passed by their names, as one ``sampling``.
    """
    from motet.sampling.options import Sampling

    options = [field for field in fields(Sampling) if field.name != "logit_bias"]

    @functools.wraps(command)
    def gathered(**parameters: object) -> None:
        given = {field.name: parameters.pop(field.name) for field in options}
        chosen = {name: value for name, value in given.items() if value is not None}
        Sampling(**cast("SamplingFields", chosen))  # to say what cannot be before a model is loaded
        command(sampling=chosen, **parameters)

    for field in reversed(options):
        gathered = _sampling_option(field)(gathered)
    return gathered


def _sampling_option(field: Field[Any]) -> Callable[[Command], Command]:
    """Its values are checked by Sampling; here only that they are numbers."""
    from motet.sampling.recommended import FIELDS

    model = "the model's, else " if field.name in FIELDS.values() else ""
    return click.option(
        *_SHORTER.get(field.name, ()),
        f"--{field.name.replace('_', '-')}",
        field.name,
        type=_type_of(field),
        show_default=field.default is not None and f"{model}{field.default}",
        metavar=field.metadata["metavar"],
        help=field.metadata["help"],
    )


def _type_of(field: Field[Any]) -> Any:
    if choices := field.metadata.get("choices"):
        return click.Choice(choices)
    return float if isinstance(field.default, float) else int


_SHORTER = {"typical_p": ("--typical",), "temperature": ("--temp",)}


class _SelfExtendChoice(click.ParamType):
    """``auto`` or ``GROUP:WINDOW``."""

    name = "auto|GROUP:WINDOW"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | tuple[int, int]:
        if isinstance(value, tuple):
            return value
        choice = _parse_choice(value)
        if choice is None:
            self.fail(f"{value!r} is neither auto nor GROUP:WINDOW, as in 8:512", param, ctx)
        return choice


def self_extend_options(command: Callable[..., None]) -> Callable[..., None]:
    """``--self-extend`` and its companions, passed as one ``self_extend``."""

    @functools.wraps(command)
    def gathered(
        self_extend: str | tuple[int, int] | None,
        self_extend_scale: str | None,
        grp_attn_n: int | None,
        grp_attn_w: int | None,
        **parameters: object,
    ) -> None:
        setting = _self_extend(self_extend, self_extend_scale, grp_attn_n, grp_attn_w)
        command(self_extend=setting, **parameters)

    for option in reversed(_SELF_EXTEND_OPTIONS):
        gathered = option(gathered)
    return gathered


_SELF_EXTEND_OPTIONS = (
    click.option(
        "--self-extend",
        type=_SelfExtendChoice(),
        metavar="[auto|GROUP:WINDOW]",
        help="Go beyond the trained length: nearest WINDOW tokens as they are, farther ones"
        " in groups. auto: groups that grow with the position.",
    ),
    click.option(
        "--self-extend-scale",
        type=click.Choice(["log"]),
        help="log: sharpen attention beyond the trained length.",
    ),
    click.option(
        "-gan",
        "--grp-attn-n",
        type=WholeNumber(1),
        metavar="N",
        help="GROUP, by llama.cpp's name.",
    ),
    click.option(
        "-gaw",
        "--grp-attn-w",
        type=WholeNumber(1),
        metavar="N",
        help="WINDOW, by llama.cpp's name.",
    ),
)


def _self_extend(
    choice: str | tuple[int, int] | None, scale: str | None, group: int | None, window: int | None
) -> "SelfExtend | AutoExtend | None":
    """Of the four options. Raises UsageError where they do not go together."""
    if (group is None) != (window is None):
        raise click.UsageError("--grp-attn-n and --grp-attn-w belong together")
    if group is not None and window is not None:
        if choice is not None:
            raise click.UsageError("give --self-extend or --grp-attn-n and -w, not both")
        choice = group, window
    if choice is None:
        if scale is not None:
            raise click.UsageError("--self-extend-scale goes with --self-extend")
        return None
    return _setting(choice, scale)


def parse_self_extend(text: str) -> "SelfExtend | AutoExtend | None":
    """``auto``, ``GROUP:WINDOW`` or ``off``, with or without ``log`` after it.

    Raises OptionError for anything else.
    """
    from motet.errors import OptionError

    if text == "off":
        return None
    first, _, scale = text.partition(" ")
    choice, scale = _parse_choice(first), scale.strip() or None
    if choice is None or scale not in (None, "log"):
        raise OptionError(
            f"{text!r} is not a setting of Self-Extend",
            hint="auto, GROUP:WINDOW as in 8:512, or off",
        )
    return _setting(choice, scale)


def _parse_choice(text: str) -> str | tuple[int, int] | None:
    """``auto``, or the numbers of ``GROUP:WINDOW``; None for another text."""
    if text == "auto":
        return text
    group, _, window = text.partition(":")
    if not (group.isdecimal() and window.isdecimal()):
        return None
    return int(group), int(window)


def _setting(choice: str | tuple[int, int], scale: str | None) -> "SelfExtend | AutoExtend":
    """Of what ``_parse_choice`` returns."""
    from motet.self_extend import AutoExtend, SelfExtend

    return AutoExtend(scale) if isinstance(choice, str) else SelfExtend(*choice, scale)


def plain_and_extended(
    model: "Model", self_extend: "SelfExtend | AutoExtend | None"
) -> "list[Variant]":
    """The variants that a command compares: plain, and with ``self_extend`` (None: auto).

    Plain alone, and a note why on standard error, for a model that Self-Extend does not apply to.
    Raises UnsupportedError where ``self_extend`` asks for it all the same.
    """
    from motet.errors import UnsupportedError
    from motet.evals.variants import PLAIN, Variant, require_extendable
    from motet.self_extend import AutoExtend

    try:
        require_extendable(model)
    except UnsupportedError as error:
        if self_extend is not None:
            raise
        click.echo(f"plain alone: {error}", err=True)
        return [PLAIN]
    extended = self_extend or AutoExtend()
    return [PLAIN, Variant(f"Self-Extend {extended}", extended)]
