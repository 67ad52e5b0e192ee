"""``motet run``: answer a prompt, or chat on a terminal."""

import json
import sys
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from motet.cli.constraint import Constraint, constraint_options
from motet.cli.inputs import load_model, predicting, read_prompt
from motet.cli.loading import Loading, loading_options
from motet.cli.options import (
    context_option,
    json_option,
    kv_bytes_option,
    kv_type_option,
    max_tokens_option,
    model_argument,
    sampling_options,
    self_extend_options,
    ubatch_option,
)
from motet.cli.output import Interrupted, print_stream, statistics
from motet.cli.speculating import FASTER, speculate_option, speculation

if TYPE_CHECKING:
    from motet.cli.conversation import Conversation
    from motet.engine import Completion
    from motet.engine.stream import Stream
    from motet.llm import LLM
    from motet.model import Model
    from motet.sampling import SamplingFields
    from motet.self_extend import AutoExtend, SelfExtend


@click.command("run")
@model_argument
@click.argument("text", required=False, metavar="[PROMPT]")
@click.option("-p", "--prompt", metavar="TEXT", help="The prompt; or give it after MODEL.")
@click.option(
    "-f",
    "--file",
    "prompt_file",
    type=click.Path(),
    metavar="FILE",
    help="Text before the prompt, or the whole prompt; less a final newline.",
)
@max_tokens_option(
    "The most tokens of an answer (default: as many as the context has room for).", least=0
)
@sampling_options
@click.option("--stop", multiple=True, metavar="TEXT", help="End before TEXT; may be repeated.")
@constraint_options
@click.option(
    "--chat/--raw",
    "chat",
    default=None,
    help="Put the prompt in the model's chat template, or continue it as it is "
    "(default: the template, where the file has one).",
)
@click.option("-s", "--system", metavar="TEXT", help="Instructions before the chat.")
@click.option(
    "--session",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Go on with the conversation in FILE, if there is one, and keep it there.",
)
@context_option(
    "Tokens of context, answer included (default: the length the model was trained for, or as far"
    " as --self-extend reaches, with auto 16 times that length)."
)
@self_extend_options
@ubatch_option
@kv_type_option
@kv_bytes_option
@speculate_option(FASTER)
@loading_options
@json_option
def command(
    model: str,
    text: str | None,
    prompt: str | None,
    prompt_file: str | None,
    max_tokens: int | None,
    sampling: "SamplingFields",
    stop: tuple[str, ...],
    constraint: Constraint,
    chat: bool | None,
    system: str | None,
    session: Path | None,
    ctx: int | None,
    self_extend: "SelfExtend | AutoExtend | None",
    ubatch: int,
    kv_type: str,
    kv_bytes: int | None,
    speculate: str,
    loading: Loading,
    as_json: bool,
) -> None:
    """Answer PROMPT with the model in MODEL, or talk to it on a terminal.

    Text that is piped in, or in a FILE, comes before PROMPT. The answer alone goes to standard
    output; progress and the closing line to standard error.
    """
    from motet.cli.conversation import ChatOptions, Conversation
    from motet.cli.sessions import locked
    from motet.engine.state import refuse_other_models
    from motet.llm import LLM

    if prompt is not None and text is not None:
        raise click.UsageError(f"the prompt is given twice: {text!r} and -p {prompt!r}")
    prompt = text if prompt is None else prompt
    interactive = prompt is None and prompt_file is None and sys.stdin.isatty()
    if interactive and (as_json or not sys.stdout.isatty()):
        raise click.UsageError("give a prompt: after MODEL, with -f or on standard input")
    if not interactive:
        prompt = read_prompt(prompt, prompt_file)
    if session is not None and not session.absolute().parent.is_dir():
        raise click.UsageError(f"--session: there is no directory {str(session.parent)!r}")
    with ExitStack() as stack:
        begun = False
        if session is not None:
            stack.enter_context(locked(session))
            if begun := session.exists():
                kv_type, self_extend = _settings_of(session, kv_type, self_extend)
        loaded = predicting(load_model(model, loading))
        if session is not None and begun:
            refuse_other_models(loaded, session)
        _check_context(loaded, ctx, self_extend)
        llm = stack.enter_context(
            LLM(
                loaded,
                max_sequences=1,
                max_tokens=ctx,
                ubatch=ubatch,
                kv_type=kv_type,
                kv_bytes=kv_bytes,
                self_extend=self_extend,
                speculate=speculation(speculate, loading),
            )
        )
        chosen = replace(llm.sampling, **sampling)
        options = ChatOptions(_templated(llm, chat, system), chosen, max_tokens, stop)
        grammar = constraint.compiled(llm.grammars)
        conversation = Conversation(llm, options, system, grammar)
        if session is not None and not conversation.remembers:
            raise click.UsageError(
                f"--session: {loaded.name} is an encoder-decoder, and answers each prompt by itself"
            )
        if session is not None and begun:
            _resume(conversation, session, chat, system)
        if interactive:
            _chat(conversation, session)
        else:
            assert prompt is not None
            _answer(conversation, prompt, session, as_json)


def _settings_of(
    session: Path, kv_type: str, self_extend: "SelfExtend | AutoExtend | None"
) -> "tuple[str, SelfExtend | AutoExtend | None]":
    """``--kv-type`` and ``--self-extend``, where they are not given those of a saved conversation.

    Raises UsageError for another kv_type than it was saved with, StateFileError for another file.
    """
    from motet.engine.state import kv_type_in, setting_in

    saved = kv_type_in(session)
    if saved not in ("none", kv_type) and kv_type != "auto":
        raise click.UsageError(f"{session} was begun with --kv-type {saved}, not {kv_type}")
    return "auto" if saved == "none" else saved, self_extend or setting_in(session)


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


def _check_context(
    model: "Model", ctx: int | None, self_extend: "SelfExtend | AutoExtend | None"
) -> None:
    """Raise UsageError for more tokens than a sequence may have without Self-Extend."""
    from motet.cli.capacity import is_extendable
    from motet.context import position_limit

    most = position_limit(model)
    if ctx is not None and ctx > most and self_extend is None:
        beyond = "; --self-extend auto goes beyond" if is_extendable(model) else ""
        raise click.UsageError(f"--ctx is {ctx}, and the model was trained for {most}{beyond}")


def _chat(conversation: "Conversation", session: Path | None) -> None:
    """Until the user leaves, or a signal ends it; then it is saved, whatever ended it."""
    from motet.cli.chat import Chat
    from motet.cli.sessions import ended_by_signals

    with ended_by_signals():
        try:
            Chat(conversation, session).run()
        finally:
            if session is not None:
                conversation.save(session)


def _answer(conversation: "Conversation", prompt: str, session: Path | None, as_json: bool) -> None:
    """Print the answer to one prompt, and keep it where there is a session."""
    from motet.cli.capacity import longer_context
    from motet.errors import CapacityError

    try:
        stream = conversation.answer(prompt)
    except CapacityError as error:
        hint = longer_context(conversation.llm, "--self-extend auto")
        raise CapacityError(error.message, hint=hint or "shorten the prompt") from error
    if as_json:
        with stream:
            completion = next(chunk.completion for chunk in stream if chunk.completion)
        click.echo(json.dumps(_facts(completion)))
    else:
        completion = _print(stream)
    conversation.add(prompt, completion.text)
    if session is not None:
        conversation.save(session)
    if not as_json:
        click.echo(statistics(completion, conversation.llm.max_tokens), err=True)


def _templated(llm: "LLM", chat: bool | None, system: str | None) -> bool:
    """Whether to use the chat template; asked for where there is none, it is an error later."""
    has_template = llm.tokenizer is not None and llm.tokenizer.chat_template is not None
    templated = has_template if chat is None else chat
    if system is not None and not templated:
        reason = "--raw is given" if chat is False else "the model file has no chat template"
        raise click.UsageError(f"--system needs a chat template, and {reason}")
    return templated


def _print(stream: "Stream") -> "Completion":
    try:
        completion = print_stream(stream)
    except Interrupted:
        click.echo()
        raise KeyboardInterrupt from None
    if sys.stdout.isatty() or not completion.text.endswith("\n"):
        click.echo()
    return completion


def _facts(completion: "Completion") -> dict[str, Any]:
    facts = {key: value for key, value in asdict(completion).items() if value is not None}
    del facts["tool_calls"]  # the command offers no tools
    facts["timings"] |= {
        "prefill_tokens_per_second": completion.timings.prefill_tokens_per_second,
        "tokens_per_second": completion.timings.tokens_per_second,
    }
    return facts
