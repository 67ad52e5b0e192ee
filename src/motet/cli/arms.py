"""The ways in which a command runs a model side by side: plain, and with Self-Extend."""

from typing import TYPE_CHECKING

import click

from motet.cli.extending import chosen_self_extend

if TYPE_CHECKING:
    from motet.evals.needle import Arm
    from motet.model import Model


def plain_and_extended(model: "Model") -> "list[Arm]":
    """With auto, unless the command's options say otherwise.

    Plain alone, and a note why, for a model that Self-Extend means nothing to; UnsupportedError
    where the options ask for it all the same.
    """
    from motet.errors import UnsupportedError
    from motet.evals.needle import Arm
    from motet.self_extend import AutoExtend, require_positions

    chosen = chosen_self_extend()
    plain = Arm("plain", None)
    try:
        require_positions(model.caches, model.config.positional)
    except UnsupportedError as error:
        if chosen is not None:
            raise
        click.echo(f"plain alone: {error}", err=True)
        return [plain]
    extended = chosen or AutoExtend()
    return [plain, Arm(f"Self-Extend {extended}", extended)]
