"""``--self-extend`` and its companions, which several commands share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from motet.self_extend import AutoExtend, SelfExtend

Command = TypeVar("Command", bound=Callable[..., object])
_META = "motet.self_extend"


class _Setting(click.ParamType):
    """``auto`` or ``GROUP:WINDOW``."""

    name = "auto|GROUP:WINDOW"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | tuple[int, int]:
        if isinstance(value, tuple):
            return value
        choice = _read(value)
        if choice is None:
            self.fail(f"{value!r} is neither auto nor GROUP:WINDOW, as in 8:512", param, ctx)
        return choice


def self_extend_options(command: Command) -> Command:
    """The options; ``chosen_self_extend`` says what was chosen."""
    for option in reversed(
        [
            click.option(
                "--self-extend",
                type=_Setting(),
                metavar="[auto|GROUP:WINDOW]",
                expose_value=False,
                callback=_remember,
                help="Go beyond the trained length: nearest WINDOW tokens as they are, farther ones"
                " in groups. auto: groups that grow with the position.",
            ),
            click.option(
                "--self-extend-scale",
                type=click.Choice(["log"]),
                expose_value=False,
                callback=_remember,
                help="log: sharpen attention beyond the trained length.",
            ),
            click.option(
                "-gan",
                "--grp-attn-n",
                type=click.IntRange(1),
                metavar="N",
                expose_value=False,
                callback=_remember,
                help="GROUP, by llama.cpp's name.",
            ),
            click.option(
                "-gaw",
                "--grp-attn-w",
                type=click.IntRange(1),
                metavar="N",
                expose_value=False,
                callback=_remember,
                help="WINDOW, by llama.cpp's name.",
            ),
        ]
    ):
        command = option(command)
    return command


def typed_self_extend(text: str) -> "SelfExtend | AutoExtend | None":
    """``auto``, ``GROUP:WINDOW`` or ``off``, with ``log`` after it or not.

    Raises OptionError for anything else.
    """
    from motet.errors import OptionError

    if text == "off":
        return None
    first, _, scale = text.partition(" ")
    choice, scale = _read(first), scale.strip() or None
    if choice is None or scale not in (None, "log"):
        raise OptionError(
            f"{text!r} is no setting of Self-Extend", hint="auto, GROUP:WINDOW as in 8:512, or off"
        )
    return _as_setting(choice, scale)


def _as_setting(choice: str | tuple[int, int], scale: str | None) -> "SelfExtend | AutoExtend":
    """Of what ``_read`` gives."""
    from motet.self_extend import AutoExtend, SelfExtend

    return AutoExtend(scale) if isinstance(choice, str) else SelfExtend(*choice, scale)


def _read(text: str) -> str | tuple[int, int] | None:
    """``auto``, or the numbers of ``GROUP:WINDOW``; None for another text."""
    if text == "auto":
        return text
    group, _, window = text.partition(":")
    if not (group.isdecimal() and window.isdecimal()):
        return None
    return int(group), int(window)


def _remember(context: click.Context, option: click.Parameter, value: object) -> None:
    context.meta.setdefault(_META, {})[option.name] = value


def chosen_self_extend() -> "SelfExtend | AutoExtend | None":
    """What the options of the running command come to. Raises UsageError for half a choice."""
    given = click.get_current_context().meta.get(_META, {})
    setting, scale = given.get("self_extend"), given.get("self_extend_scale")
    group, window = given.get("grp_attn_n"), given.get("grp_attn_w")
    if (group is None) != (window is None):
        raise click.UsageError("--grp-attn-n and --grp-attn-w belong together")
    if group is not None:
        if setting is not None:
            raise click.UsageError("give --self-extend or --grp-attn-n and -w, not both")
        setting = group, window
    if setting is None:
        if scale is not None:
            raise click.UsageError("--self-extend-scale goes with --self-extend")
        return None
    return _as_setting(setting, scale)
