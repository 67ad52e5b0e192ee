"""The ``motet`` command: a group of subcommands, each imported when it is asked for."""

import os
import sys
from functools import partial
from importlib import import_module
from typing import Any

import click

from motet import __version__
from motet.cli.failures import BAD_USE, INTERRUPTED, report_failures
from motet.errors import MotetError

COMMANDS = {
    "run": "Answer a prompt, or chat on a terminal.",
    "embed": "Vectors of texts.",
    "rank": "How well documents answer a query.",
    "serve": "Serve a model to clients of OpenAI, Anthropic and llama-server.",
    "show": "What a model file holds, and what a context takes.",
    "tokenize": "The tokens of a text.",
    "perplexity": "How well a model predicts a text.",
    "hellaswag": "How often a model finds the sensible ending.",
    "needle": "Find a key in long texts, plain and with Self-Extend.",
    "convert": "Write a Hugging Face directory as GGUF.",
    "quantize": "Write a model in fewer bits.",
    "pack": "Write a model so that it loads in no time.",
    "imatrix": "Which weights matter most for a text.",
    "bench": "Speed on this machine.",
    "tune": "Measure how to read weights fastest on this machine.",
    "pull": "Fetch a model from the hub.",
    "list": "Models that were fetched.",
    "rm": "Remove a model that was fetched.",
    "demo": "See it work, with the tiny model that ships.",
}
"""Each name is a module ``motet.cli.<name>`` with a click command called ``command``."""

_MODULES = {"list": "models"}
"""A module of another name than its command: ``list`` would hide Python's own in here."""

_ELSEWHERE = {
    "chat": "run",
    "generate": "run",
    "complete": "run",
    "info": "show",
    "inspect": "show",
    "tokens": "tokenize",
    "ppl": "perplexity",
    "benchmark": "bench",
    "embedding": "embed",
    "embeddings": "embed",
    "encode": "embed",
    "server": "serve",
    "llama-server": "serve",
    "rerank": "rank",
    "download": "pull",
    "fetch": "pull",
    "ls": "list",
    "models": "list",
    "remove": "rm",
    "delete": "rm",
}
"""What other programs call a command."""

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
    """Imports a subcommand when it is named, and ends as ``report_failures`` says."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"motet.cli.{_MODULES.get(cmd_name, cmd_name)}")
        command: click.Command = module.command
        if _debug_option not in command.params:
            command.params.append(_debug_option)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(BAD_USE)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        known = name.startswith("-") or self.get_command(ctx, name) is not None
        if known or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        raise click.UsageError(f"there is no command {name}{_meant(name)}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table: no command has to be imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run, and end the process unless ``standalone_mode`` is off.

        Status 1 for a failure, 2 for bad use, 130 for Ctrl-C.
        """
        run = partial(super().main, *args, standalone_mode=False, **extra)
        if not standalone_mode:
            return run()
        sys.exit(report_failures(run))

    def invoke(self, ctx: click.Context) -> object:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except (MotetError, OSError, click.ClickException):
            if ctx.meta.get(_DEBUG):
                import traceback

                traceback.print_exc()
            raise
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


def _meant(name: str) -> str:
    """What a mistyped command, or one by another program's name, is here."""
    from difflib import get_close_matches

    if name.endswith(".gguf"):
        return f"; to run the model: motet run {name}"
    near = [_ELSEWHERE[name]] if name in _ELSEWHERE else get_close_matches(name, COMMANDS)
    return f"; did you mean {' or '.join(near)}?" if near else ""


@click.group(
    cls=LazyGroup,
    params=[_debug_option],
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Run language models on this machine: many sequences at once, each exactly itself.

    To begin: motet demo, or motet run MODEL "Once upon a time".
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        context.color = False
