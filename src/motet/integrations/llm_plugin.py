"""Simon Willison's ``llm`` with Motet's models: ``llm -m motet/tiny "Once upon a time"``.

``llm`` finds this by its entry point and imports it whenever it starts, so that Motet itself is
imported when a model is used. See docs/integrations.md.
"""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import click
import llm
from llm.parts import (
    Message,
    ReasoningPart,
    StreamEvent,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from pydantic import Field

if TYPE_CHECKING:
    from motet.async_llm import AsyncLLM
    from motet.engine import Chunk, Completion
    from motet.llm import LLM

PREFIX = "motet/"
_DATA = Path(__file__).parents[1] / "data"
SHIPPED = {"tiny": _DATA / "motet-tiny.gguf", "tiny-jamba": _DATA / "motet-tiny-jamba.gguf"}
SHIPPED_FOR_VECTORS = {"tiny-embedding": _DATA / "motet-tiny-embedding.gguf"}
ADDED = "motet.json"
"""In the directory of ``llm``: what was added, the path or address of each by its name."""


class Loaded:
    """A model that is loaded when it is first used, and stays so."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = Lock()

    @property
    def llm(self) -> "LLM":
        """Raises what ``motet.LLM`` does."""
        with self._lock:
            return self._llm

    @cached_property
    def _llm(self) -> "LLM":
        from motet.llm import LLM

        return LLM(self.path)


class Options(llm.Options):
    """What ``-o`` says of an answer. What is left out is as the model's file recommends."""

    max_tokens: int | None = Field(None, description="At most so many tokens.", ge=1)
    temperature: float | None = Field(None, description="Randomness; 0 is greedy.")
    top_k: int | None = Field(None, description="Keep the K most probable tokens; 0: all.")
    top_p: float | None = Field(None, description="Keep the tokens that hold this probability.")
    min_p: float | None = Field(None, description="Keep tokens this probable beside the best.")
    typical_p: float | None = Field(None, description="Keep locally typical tokens; 1: all.")
    repeat_penalty: float | None = Field(None, description="Above 1: repeat less.")
    repeat_last_n: int | None = Field(None, description="Penalties look so far back.")
    frequency_penalty: float | None = Field(None, description="Per time seen.")
    presence_penalty: float | None = Field(None, description="Once if seen.")
    seed: int | None = Field(None, description="The same seed gives the same text.")
    stop: str | None = Field(None, description="Text that ends an answer.")
    grammar: str | None = Field(None, description="GBNF or Lark that the answer is held to.")
    regex: str | None = Field(None, description="A regular expression that it is held to.")
    thinking: bool | None = Field(None, description="Whether the model thinks, if it can do both.")


class _Motet:
    """What the two kinds of models have in common."""

    can_stream = True
    supports_schema = True
    supports_tools = True

    def __init__(self, name: str, loaded: Loaded) -> None:
        self.model_id = PREFIX + name
        self.loaded = loaded

    def __str__(self) -> str:
        return f"Motet: {self.model_id}"


class MotetModel(_Motet, llm.Model):
    """A model that writes."""

    class Options(Options):
        pass

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
    ) -> Iterator[str | StreamEvent]:
        """Answers a prompt, with all that was said before it."""
        del stream, conversation  # chunks come in any case, and the prompt has all messages
        with _begun(self.loaded.llm, prompt) as chunks:
            for chunk in chunks:
                yield from _events(chunk)
                if chunk.completion:
                    _end(response, chunk.completion)


class AsyncMotetModel(_Motet, llm.AsyncModel):
    """The same, for coroutines."""

    class Options(Options):
        pass

    async def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.AsyncResponse,
        conversation: llm.AsyncConversation | None,
    ) -> AsyncIterator[str | StreamEvent]:
        """See ``MotetModel.execute``."""
        import asyncio

        from motet.async_llm import AsyncLLM

        del stream, conversation
        loaded = AsyncLLM(await asyncio.to_thread(lambda: self.loaded.llm))
        async with _begun(loaded, prompt) as chunks:
            async for chunk in chunks:
                for event in _events(chunk):
                    yield event
                if chunk.completion:
                    _end(response, chunk.completion)


class MotetEmbedding(llm.EmbeddingModel):
    """A model that makes vectors."""

    supports_text = True
    batch_size = 64

    def __init__(self, name: str, loaded: Loaded) -> None:
        self.model_id = PREFIX + name
        self.loaded = loaded

    def embed_batch(self, items: Any) -> Iterator[list[float]]:
        """A vector of length 1 for each text."""
        texts = list(items)
        if texts:
            yield from self.loaded.llm.embed(texts).tolist()


@llm.hookimpl
def register_models(register: Any) -> None:
    """Those that come with Motet, those in the hub's cache, and those that were added."""
    for name, loaded in _models(SHIPPED):
        register(MotetModel(name, loaded), AsyncMotetModel(name, loaded))


@llm.hookimpl
def register_embedding_models(register: Any) -> None:
    """Likewise; of the others nothing says which make vectors before they are opened."""
    for name, loaded in _models(SHIPPED_FOR_VECTORS):
        register(MotetEmbedding(name, loaded))


@llm.hookimpl
def register_commands(cli: click.Group) -> None:
    """``llm motet``: other models by names of one's own."""

    @cli.group("motet")
    def group() -> None:
        """Models of Motet's by path or hf:// address."""

    @group.command("add")
    @click.argument("model")
    @click.option("-n", "--name", help="What to call it (default: the name of its file).")
    def add(model: str, name: str | None) -> None:
        """Let MODEL, a path or hf:// address, be known as motet/NAME."""
        from motet.errors import MotetError
        from motet.hub import is_address
        from motet.opening import open_model

        path = model if is_address(model) else str(Path(model).expanduser().absolute())
        try:
            open_model(path).close()
        except MotetError as error:
            raise click.ClickException(str(error)) from error
        chosen = (name or Path(model).stem).removeprefix(PREFIX)
        _write({**_added(), chosen: path})
        click.echo(f"llm -m {PREFIX}{chosen}")

    @group.command("list")
    def show() -> None:
        """What was added."""
        for name, path in sorted(_added().items()):
            click.echo(f"{PREFIX}{name}  {path}")

    @group.command("remove")
    @click.argument("name")
    def remove(name: str) -> None:
        """Forget a name; its file stays."""
        added = _added()
        if added.pop(name.removeprefix(PREFIX), None) is None:
            raise click.ClickException(f"{name} was not added: llm motet list shows what was")
        _write(added)


def _models(shipped: Mapping[str, Path]) -> Iterator[tuple[str, Loaded]]:
    from motet.errors import HubError
    from motet.hub.cache import cached_models
    from motet.hub.library import Hub

    found = {name: str(path) for name, path in shipped.items()}
    try:
        cached = cached_models(Hub.of_environment())
    except HubError:  # its cache can't be read: motet list says why
        cached = []
    found |= {str(model.address).removeprefix("hf://"): model.path for model in cached}
    for name, path in {**found, **_added()}.items():
        yield name, Loaded(path)


def _added() -> dict[str, str]:
    """Raises ClickException where the file says anything else."""
    file = llm.user_dir() / ADDED
    try:
        found = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise click.ClickException(f"{file} can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise click.ClickException(f"{file} is no JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(path, str) for path in found.values()):
        raise click.ClickException(f"{file} has no paths by their names: mend it, or delete it")
    return found


def _write(added: Mapping[str, str]) -> None:
    file = llm.user_dir() / ADDED
    file.write_text(json.dumps(added, indent=1), "utf-8")


def _begun(model: "LLM | AsyncLLM", prompt: llm.Prompt) -> Any:
    """The stream of an answer. A model without a chat template goes on with what was said."""
    options = {name: value for name, value in prompt.options if value is not None}
    thinking = options.pop("thinking", None)
    if prompt.schema:
        options["json_schema"] = prompt.schema
    tools = [_tool(tool) for tool in prompt.tools]
    messages = [each for message in prompt.messages for each in _messages(message)]
    if model.tokenizer is not None and model.tokenizer.chat_template is None and not tools:
        if thinking is not None:
            raise llm.ModelError("thinking is for models that chat")
        said = "\n".join(message["content"] for message in messages)
        return model.generate(said, stream=True, parse_special=False, **options)
    if thinking is not None:
        options["template_options"] = {"enable_thinking": thinking}
    return model.chat(messages, stream=True, tools=tools or None, **options)


def _tool(tool: llm.Tool) -> dict[str, Any]:
    described = {"name": tool.name, "description": tool.description or ""}
    return {"type": "function", "function": {**described, "parameters": tool.input_schema}}


def _messages(message: Message) -> Iterator[dict[str, Any]]:
    """As chat templates have them; each result of a tool is one of its own."""
    told: dict[str, Any] = {"role": message.role, "content": ""}
    calls: list[dict[str, Any]] = []
    for part in message.parts:
        if isinstance(part, TextPart):
            told["content"] += part.text
        elif isinstance(part, ReasoningPart):
            told["reasoning_content"] = told.get("reasoning_content", "") + part.text
        elif isinstance(part, ToolCallPart):
            called = {"name": part.name, "arguments": json.dumps(part.arguments)}
            calls.append({"id": part.tool_call_id, "type": "function", "function": called})
        elif isinstance(part, ToolResultPart):
            result = {"role": "tool", "name": part.name, "content": part.output}
            yield {**result, "tool_call_id": part.tool_call_id}
        else:
            raise llm.ModelError("Motet's models read text alone, and no attachments")
    if calls:
        told["tool_calls"] = calls
    if told["content"] or len(told) > 2:
        yield told


def _events(chunk: "Chunk") -> Iterator[str | StreamEvent]:
    if chunk.reasoning:
        yield StreamEvent(type="reasoning", chunk=chunk.reasoning)
    if chunk.text:
        yield StreamEvent(type="text", chunk=chunk.text)
    for delta in chunk.tool_calls:
        if delta.name:
            yield StreamEvent(type="tool_call_name", chunk=delta.name, tool_call_id=delta.id)
        if delta.arguments:
            yield StreamEvent(type="tool_call_args", chunk=delta.arguments, tool_call_id=delta.id)


def _end(response: Any, completion: "Completion") -> None:
    for call in completion.tool_calls:
        try:
            arguments = json.loads(call.arguments)
        except ValueError as error:
            raise llm.ModelError(
                f"the call of {call.name} was cut short: more max_tokens let it end"
            ) from error
        response.add_tool_call(
            llm.ToolCall(tool_call_id=call.id, name=call.name, arguments=arguments)
        )
    usage = completion.usage
    details = {
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "finish_reason": completion.finish_reason,
    }
    response.set_usage(input=usage.prompt_tokens, output=usage.completion_tokens, details=details)
    response.response_json = {"seed": completion.seed, **details}
