"""``motet run``: answer a prompt, or chat on a terminal."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from motet.cli.inputs import load_model, read_prompt
from motet.cli.options import (
    json_option,
    kv_type_option,
    sampling_options,
    self_extend_options,
    threads_option,
    ubatch_option,
)
from motet.cli.output import Interrupted, print_stream, statistics

if TYPE_CHECKING:
    from motet.cli.conversation import Conversation
    from motet.engine import Completion
    from motet.engine.stream import Stream
    from motet.llm import LLM
    from motet.sampling import Sampling
    from motet.self_extend import AutoExtend, SelfExtend


@click.command("run")
@click.argument("model")
@click.option("-p", "--prompt", metavar="TEXT", help="The prompt (default: standard input).")
@click.option(
    "-f",
    "--file",
    "prompt_file",
    metavar="FILE",
    help="Read the prompt from FILE, less a final newline.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(0),
    metavar="N",
    help="The most tokens of an answer (default: as many as the context has room for).",
)
@sampling_options
@click.option("--stop", multiple=True, metavar="TEXT", help="End before TEXT; may be repeated.")
@click.option(
    "--chat/--raw",
    "chat",
    default=None,
    help="Put the prompt in the model's chat template, or continue it as it is "
    "(default: the template, where the file has one).",
)
@click.option("--system", metavar="TEXT", help="Instructions before the chat.")
@click.option(
    "--session",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Go on with the conversation in FILE, if there is one, and save it there at the end.",
)
@click.option(
    "--ctx",
    type=click.IntRange(1),
    metavar="N",
    help="Tokens of context, answer included (default: the length the model was trained for, or as"
    " far as --self-extend reaches, with auto 16 times that length).",
)
@self_extend_options
@ubatch_option
@kv_type_option
@threads_option
@json_option
def command(
    model: str,
    prompt: str | None,
    prompt_file: str | None,
    max_tokens: int | None,
    sampling: "Sampling",
    stop: tuple[str, ...],
    chat: bool | None,
    system: str | None,
    session: Path | None,
    ctx: int | None,
    self_extend: "SelfExtend | AutoExtend | None",
    ubatch: int,
    kv_type: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Answer a prompt with the model in MODEL (GGUF), or talk to it on a terminal.

    The answer alone goes to standard output; progress and the closing line to standard error.
    """
    from motet.cli.conversation import ChatOptions, Conversation
    from motet.engine.state import setting_in
    from motet.llm import LLM

    interactive = prompt is None and prompt_file is None and sys.stdin.isatty()
    if interactive and (as_json or not sys.stdout.isatty()):
        raise click.UsageError("give a prompt with -p, -f or on standard input")
    if not interactive:
        prompt = _prompt(prompt, prompt_file)
    if session is not None and not session.absolute().parent.is_dir():
        raise click.UsageError(f"--session: there is no directory {str(session.parent)!r}")
    begun = session if session is not None and session.exists() else None
    if begun is not None and self_extend is None:
        self_extend = setting_in(begun)
    with LLM(
        load_model(model, threads),
        max_sequences=1,
        max_tokens=ctx,
        ubatch=ubatch,
        kv_type=kv_type,
        self_extend=self_extend,
    ) as llm:
        options = ChatOptions(_templated(llm, chat, system), sampling, max_tokens, stop)
        conversation = Conversation(llm, options, system)
        if begun is not None:
            _resume(conversation, begun, chat, system)
        if interactive:
            from motet.cli.chat import Chat

            Chat(conversation).run()
        else:
            assert prompt is not None
            _answer(conversation, prompt, as_json)
        if session is not None:
            conversation.save(session)


def _resume(
    conversation: "Conversation", session: Path, chat: bool | None, system: str | None
) -> None:
    """Load a saved conversation; options on the command line replace those saved with it."""
    given, opening = conversation.options, conversation.opening
    conversation.load(session, adopt_self_extend=False)
    if chat is not None and chat != conversation.options.templated:
        raise click.UsageError(f"{session} was begun with {'--raw' if chat else '--chat'}")
    if system is not None and opening != conversation.opening:
        raise click.UsageError(f"{session} was begun with another --system, or without one")
    conversation.set_options(conversation.options.updated(given, _given_options()))


def _given_options() -> set[str]:
    """Parameters that the command line sets."""
    context = click.get_current_context()
    return {
        n for n in context.params if context.get_parameter_source(n) is ParameterSource.COMMANDLINE
    }


def _answer(conversation: "Conversation", prompt: str, as_json: bool) -> None:
    stream = conversation.answer(prompt)
    if as_json:
        completion = _finished(stream)
        click.echo(json.dumps(_facts(completion)))
    else:
        completion = _print(stream, conversation.llm.max_tokens)
    conversation.add(prompt, completion.text)


def _prompt(prompt: str | None, file: str | None) -> str:
    if prompt is not None and file is not None:
        raise click.UsageError("give the prompt with -p or with -f, not both")
    if prompt is not None:
        return prompt
    return read_prompt(file)


def _templated(llm: "LLM", chat: bool | None, system: str | None) -> bool:
    """Whether to use the chat template; asked for where there is none, it is an error later."""
    has_template = llm.tokenizer is not None and llm.tokenizer.chat_template is not None
    templated = has_template if chat is None else chat
    if system is not None and not templated:
        reason = "--raw is given" if chat is False else "the model file has no chat template"
        raise click.UsageError(f"--system needs a chat template, and {reason}")
    return templated


def _print(stream: "Stream", context: int) -> "Completion":
    try:
        completion = print_stream(stream)
    except Interrupted:
        click.echo()
        raise KeyboardInterrupt from None
    if sys.stdout.isatty() or not completion.text.endswith("\n"):
        click.echo()
    click.echo(statistics(completion, context), err=True)
    return completion


def _finished(stream: "Stream") -> "Completion":
    with stream:
        return next(chunk.completion for chunk in stream if chunk.completion)


def _facts(completion: "Completion") -> dict[str, Any]:
    facts = {key: value for key, value in asdict(completion).items() if value is not None}
    facts["timings"] |= {
        "prefill_tokens_per_second": completion.timings.prefill_tokens_per_second,
        "tokens_per_second": completion.timings.tokens_per_second,
    }
    return facts
