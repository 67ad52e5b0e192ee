"""``motet serve``: a model behind HTTP."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from motet.cli.inputs import existing_model, load_model
from motet.cli.loading import Loading, loading_options
from motet.cli.options import (
    Bytes,
    WholeNumber,
    context_option,
    kv_bytes_option,
    kv_type_option,
    max_tokens_option,
    model_argument,
    refused_option,
    sampling_options,
    self_extend_options,
    ubatch_option,
)
from motet.cli.speculating import FASTER, speculate_option, speculation
from motet.errors import UnsupportedError

if TYPE_CHECKING:
    from motet.sampling import SamplingFields
    from motet.self_extend import AutoExtend, SelfExtend
    from motet.server.service import Served


class _TemplateOptions(click.ParamType):
    """A JSON object."""

    name = "JSON"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        try:
            found = json.loads(value)
        except ValueError as error:
            self.fail(f"{value!r} is no JSON: {error}", param, ctx)
        if not isinstance(found, dict):
            self.fail(f"{value!r} is no JSON object", param, ctx)
        return found


def _without_llama_servers(command: Callable[..., None]) -> Callable[..., None]:
    """Refuse the options of llama-server's that its users give and that do nothing here."""
    always = {
        ("--jinja",): "chat templates always work",
        ("--mlock",): "weights are packed into memory of the process, which isn't locked",
        ("--no-mmap",): "weights are packed into memory in any case",
        ("-cb", "--cont-batching"): "batches are always continuous",
    }
    for names, why in always.items():
        command = refused_option(*names, why=why, is_flag=True)(command)
    thoughts = "thoughts always are reasoning_content"
    command = refused_option("--reasoning-format", why=thoughts)(command)
    return refused_option("-fa", "--flash-attn", why="there is one attention", is_flag=True)(
        command
    )


@click.command("serve")
@_without_llama_servers
@model_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port to listen at; 0: one that is free.",
)
@click.option(
    "--api-key",
    "api_keys",
    multiple=True,
    envvar="MOTET_API_KEY",
    metavar="KEY",
    help="Answer those alone who send it; may be repeated. Also read from MOTET_API_KEY, which"
    " other users of this machine can't see.",
)
@click.option(
    "--api-key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="API keys, one a line.",
)
@click.option(
    "-a",
    "--alias",
    "aliases",
    multiple=True,
    metavar="NAME",
    help="What clients see the model called; several with commas between or one after the other,"
    " the first of which answers name.",
)
@click.option(
    "--tags",
    multiple=True,
    metavar="TAG",
    help="What /v1/models says of the model beside its names, with commas between.",
)
@click.option(
    "-np",
    "--max-sequences",
    "--parallel",
    "max_sequences",
    type=WholeNumber(1),
    default=16,
    show_default=True,
    metavar="N",
    help="Answers computed at once; further requests wait.",
)
@context_option(
    "Tokens of a conversation, answer included (default, and 0: the model's trained length).", 0
)
@max_tokens_option("Tokens of an answer at most, where a request does not say.", 0)
@click.option(
    "--chat-template-file",
    "template_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A Jinja chat template to use instead of the model's own.",
)
@click.option(
    "--chat-template-kwargs",
    "template_options",
    type=_TemplateOptions(),
    metavar="JSON",
    help='What chat templates are told by default, as in {"enable_thinking": false}.',
)
@self_extend_options
@ubatch_option
@kv_type_option
@kv_bytes_option
@speculate_option(FASTER)
@click.option(
    "--embeddings", metavar="MODEL", help="A model beside MODEL that makes vectors of texts."
)
@click.option("--rerank", metavar="MODEL", help="A model beside MODEL that ranks documents.")
@click.option(
    "--pooling",
    type=click.Choice(["mean", "cls", "last"]),
    help="Make vectors so (default: as the model's file says).",
)
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, writable=True, path_type=Path),
    metavar="DIR",
    callback=lambda _context, _option, path: _made(path),
    help="Where conversations and slots are saved (default: they can't be).",
)
@click.option(
    "--shared-state",
    is_flag=True,
    help="Other servers use the state directory too: each conversation is saved after every turn,"
    " and read anew where another server went on with it.",
)
@click.option(
    "--max-conversations",
    type=WholeNumber(0),
    default=1000,
    show_default=True,
    metavar="N",
    help="Conversations that may be open; further ones are refused (429).",
)
@click.option(
    "--conversation-timeout",
    type=click.FloatRange(0),
    default=0,
    metavar="SECONDS",
    help="Delete conversations that nobody has used for so long (default: never).",
)
@click.option(
    "--step-seconds",
    type=click.FloatRange(0, min_open=True),
    default=0.25,
    show_default=True,
    metavar="SECONDS",
    help="Between two tokens of an answer at most about so long while prompts come in; more lets"
    " these go on faster.",
)
@click.option(
    "--max-waiting",
    type=WholeNumber(0),
    default=512,
    show_default=True,
    metavar="N",
    help="Requests that may wait; further ones are told to come again (429).",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="End a request that takes longer, waiting included; 0: none.",
)
@click.option(
    "--shutdown-timeout",
    type=click.FloatRange(0),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="What answers under way get to end when the server is told to stop.",
)
@click.option(
    "--max-body",
    type=Bytes(),
    default="32M",
    show_default=True,
    metavar="N",
    help="Bytes of a request at most.",
)
@click.option(
    "--cors-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="Let web pages of ORIGIN ask, as in https://chat.example; *: of any. May be repeated.",
)
@click.option(
    "--allowed-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Answer under this name too, as behind a proxy; *: under any. May be repeated.",
)
@click.option(
    "--page/--no-page",
    "--ui/--no-ui",
    "--webui/--no-webui",
    default=True,
    help="Have a page to chat at, at /.",
)
@click.option("--slots/--no-slots", default=True, help="Say at /slots what each sequence does.")
@click.option("--metrics/--no-metrics", default=True, help="Say at /metrics what Prometheus reads.")
@click.option("--verbose", is_flag=True, help="Say in answers to chats what the model read.")
@click.option("--access-log", is_flag=True, help="A line on standard error for each request.")
@sampling_options
@loading_options
def command(
    model: str,
    host: str,
    port: int,
    api_keys: tuple[str, ...],
    api_key_file: Path | None,
    aliases: tuple[str, ...],
    tags: tuple[str, ...],
    max_sequences: int,
    ctx: int | None,
    max_tokens: int | None,
    template_file: Path | None,
    template_options: dict[str, Any] | None,
    self_extend: "SelfExtend | AutoExtend | None",
    ubatch: int,
    kv_type: str,
    kv_bytes: int | None,
    speculate: str,
    embeddings: str | None,
    rerank: str | None,
    pooling: str | None,
    state_dir: Path | None,
    shared_state: bool,
    max_conversations: int,
    conversation_timeout: float,
    step_seconds: float,
    max_waiting: int,
    timeout: float,
    shutdown_timeout: float,
    max_body: int,
    origins: tuple[str, ...],
    hosts: tuple[str, ...],
    page: bool,
    slots: bool,
    metrics: bool,
    verbose: bool,
    access_log: bool,
    sampling: "SamplingFields",
    loading: Loading,
) -> None:
    """Serve the model in MODEL to clients of OpenAI's, Anthropic's and llama-server's APIs.

    Sampling options are what requests get that don't ask for something else. /docs describes all
    endpoints.
    """
    try:
        from motet.server.run import bound, run
    except ImportError as error:
        raise UnsupportedError(
            f"the server's libraries are missing: {error}", hint="pip install 'motet[serve]'"
        ) from error
    from motet.server.service import Served, Service
    from motet.server.settings import ServerSettings

    if shared_state and state_dir is None:
        raise click.UsageError("--shared-state is about --state-dir, which says where")
    if "" in api_keys:
        raise click.UsageError("--api-key: the key is empty")
    settings = ServerSettings(
        host=host,
        port=port,
        api_keys=(*api_keys, *_keys_in(api_key_file)),
        origins=origins,
        hosts=hosts,
        aliases=_named("--alias", aliases),
        tags=_named("--tags", tags),
        state_dir=state_dir,
        shared_state=shared_state,
        conversations=max_conversations,
        conversation_seconds=conversation_timeout or None,
        body_bytes=max_body,
        max_tokens=max_tokens,
        template_options=template_options or {},
        timeout=timeout or None,
        shutdown_seconds=shutdown_timeout,
        page=page,
        slots=slots,
        metrics=metrics,
        verbose=verbose,
        access_log=access_log,
    )
    paths = [existing_model(path) for path in (model, embeddings, rerank) if path is not None]
    template = None if template_file is None else _text_in(template_file)
    listening = bound(settings)
    address = _address(host, listening.getsockname()[1])

    def load() -> "list[Served]":
        from motet.async_llm import AsyncLLM
        from motet.llm import LLM

        found: list[Served] = []
        for place, path in enumerate(paths):
            first = place == 0
            loaded = load_model(path, loading if first else replace(loading, lora=()))
            if first and template is not None and loaded.tokenizer is not None:
                loaded.tokenizer = loaded.tokenizer.with_chat_template(template)
            llm = LLM(
                loaded,
                max_sequences=max_sequences if first else 1,
                max_tokens=ctx or None if first else None,
                ubatch=ubatch,
                kv_type=kv_type,
                kv_bytes=kv_bytes,
                self_extend=self_extend if first else None,
                speculate=speculation(speculate, loading) if first else None,
                max_waiting=max_waiting,
                step_seconds=step_seconds,
            )
            served = AsyncLLM(llm)
            served.sampling = replace(served.sampling, **sampling)
            names, said = (settings.aliases, settings.tags) if first else ((), ())
            name = names[0] if names else llm.model.name
            found.append(Served(name, served, pooling, names, said))
        if found[0].writes:
            _say_without_grammars()
        return found

    def say_ready() -> None:
        chat = " chat with it there," if page and service.first.writes else ""
        click.echo(
            f"{service.first.name} is ready at {address}:{chat} its endpoints are described at"
            f" {address}/docs, OpenAI's clients take {address}/v1",
            err=True,
        )

    if not settings.loopback and not settings.api_keys:
        click.echo(
            f"anybody who reaches {host} may use the server: --api-key lets in those who know it",
            err=True,
        )
    service = Service(settings, load)
    service.on_ready = say_ready
    run(service, listening)


def _named(option: str, given: tuple[str, ...]) -> tuple[str, ...]:
    """Each name once. Raises UsageError for one that is empty."""
    names = [name.strip() for names in given for name in names.split(",")]
    if "" in names:
        raise click.UsageError(f"{option}: a name is empty")
    return tuple(dict.fromkeys(names))


def _say_without_grammars() -> None:
    from motet.grammar.library import require_llguidance

    try:
        require_llguidance()
    except UnsupportedError as error:
        click.echo(f"without calls of tools, schemas and grammars: {error.hint}", err=True)


def _keys_in(file: Path | None) -> list[str]:
    """The API keys in a file. Raises UsageError where it has none: the server would be open."""
    if file is None:
        return []
    keys = [line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()]
    if not keys:
        raise click.UsageError(f"--api-key-file: there is no key in {file}")
    return keys


def _made(directory: Path | None) -> Path | None:
    """A directory that is there from now on; raises UsageError, before anything is said in vain."""
    if directory is not None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.UsageError(
                f"--state-dir: {directory} can't be made: {error.strerror}"
            ) from error
    return directory


def _text_in(file: Path) -> str:
    """Raises UsageError where it is none."""
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"--chat-template-file: {file} is no text in UTF-8") from error


def _address(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
