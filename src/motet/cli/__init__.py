"""The ``motet`` command: a group of subcommands, each imported when it is asked for."""

from importlib import import_module

import click

from motet import __version__
from motet.errors import MotetError, OptionError

COMMANDS = ("run", "show", "tokenize", "perplexity", "hellaswag", "bench", "needle", "demo")
"""Each name is a module ``motet.cli.<name>`` with a click command called ``command``."""

_DEBUG = "motet.debug"


def _remember(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        context.meta[_DEBUG] = True


_debug_option = click.Option(
    ["--debug"],
    is_flag=True,
    expose_value=False,
    callback=_remember,
    help="Show the traceback of an error.",
)


class LazyGroup(click.Group):
    """Imports a subcommand when it is named, and turns errors into one line and a status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"motet.cli.{cmd_name}").command
        if _debug_option not in command.params:
            command.params.append(_debug_option)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the subcommand. Status 1 for a failure, 2 for bad use, 130 for Ctrl-C."""
        try:
            return super().invoke(ctx)
        except MotetError as error:
            if ctx.meta.get(_DEBUG):
                raise
            click.echo("error: " + " ".join(str(error).split("\n")), err=True)
            ctx.exit(2 if isinstance(error, OptionError) else 1)
        except KeyboardInterrupt:
            ctx.exit(130)


@click.group(
    cls=LazyGroup,
    params=[_debug_option],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Run language models on this machine: many sequences at once, each exactly itself."""
