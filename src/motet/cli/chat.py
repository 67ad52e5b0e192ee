"""The chat prompt of ``motet run``."""

import os
import re
import shlex
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from motet.cli.capacity import longer_context
from motet.cli.conversation import Conversation
from motet.cli.options import parse_self_extend
from motet.cli.output import (
    Interrupted,
    print_stream,
    statistics,
    without_control_characters,
)
from motet.cli.sessions import Terminated, locked
from motet.engine import Completion
from motet.errors import CapacityError, MotetError

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    from motet.engine.stream import Stream

_COMMAND = re.compile(r"[/%]([a-z]+|\?)(\s.*)?", re.DOTALL)
"""With a slash or a per cent sign; a path or a percentage is no command."""
_WORDS = ("exit", "quit", "bye")
"""What leaves without a slash too."""


class _Command(NamedTuple):
    """``names``: the first one is shown. ``run`` is given what follows the name."""

    names: tuple[str, ...]
    argument: str
    help: str
    run: "Callable[[Chat, str], None]"


class _Leave(Exception):
    """The user leaves."""


class Chat:
    """A conversation on a terminal, by the model's chat template or as plain continued text."""

    def __init__(self, conversation: Conversation, session: Path | None = None) -> None:
        """``session``: where it is kept after every change, without the KV cache."""
        self._conversation = conversation
        self._session = session
        self._last: Completion | None = None
        self._stopped = False
        """Whether the last answer was stopped; then ``_last`` is not of it."""

    def run(self) -> None:
        """Read and answer until the user leaves."""
        from prompt_toolkit import PromptSession

        from motet.cli.history import kept_history

        self._greet()
        session: PromptSession[str] = PromptSession(
            history=kept_history(self._note), key_bindings=_keys()
        )
        while True:
            try:
                line = session.prompt("> ")
            except KeyboardInterrupt:
                continue
            except EOFError:
                return
            try:
                self._take(line)
            except _Leave:
                return
            except KeyboardInterrupt:
                self._note("interrupted")

    def _take(self, line: str) -> None:
        """Run a command, or answer. Raises _Leave when it says so."""
        text = line.strip()
        if text.lower() in _WORDS:
            raise _Leave
        match = _COMMAND.fullmatch(text)
        if match:
            self._run_command(match[1], (match[2] or "").strip())
        elif text:
            self.answer(line)

    def _run_command(self, name: str, rest: str) -> None:
        found = [command for command in _COMMANDS if name in command.names]
        if found:
            found[0].run(self, rest)
            return
        near = get_close_matches(name, [name for command in _COMMANDS for name in command.names], 1)
        meant = f"; did you mean /{near[0]}?" if near else ""
        self._note(f"there is no command /{name}{meant} (/help lists them)")

    def answer(self, text: str) -> None:
        """Answer ``text``; a failure leaves the conversation as it was.

        Raises Terminated, once what there is of the answer is kept, where a signal says so.
        """
        try:
            completion = print_stream(self._begin(text))
        except Interrupted as interrupted:
            self._stopped = True
            self._add(text, interrupted.text)
            if isinstance(interrupted.__cause__, Terminated):
                raise interrupted.__cause__ from None
            closing = "stopped"
        except MotetError as error:
            self._note(f"error: {error}")
            return
        else:
            self._last, self._stopped = completion, False
            self._add(text, completion.text)
            closing = statistics(completion, self._context)
        click.echo()
        self._note(closing)

    def _begin(self, text: str) -> "Stream":
        try:
            return self._conversation.answer(text)
        except CapacityError as error:
            longer = longer_context(self._conversation.llm, "/extend auto")
            hint = f"/reset begins anew{longer and f', {longer}'}"
            raise CapacityError(error.message, hint=hint) from error

    def _add(self, text: str, answer: str) -> None:
        self._conversation.add(text, answer)
        self._keep()

    def _keep(self) -> None:
        """What a signal, or a cut of the power, shall not lose."""
        if self._session is None:
            return
        try:
            self._conversation.save(self._session, notes_only=True)
        except MotetError as error:
            self._note(f"error: {error}; the conversation is not kept")

    def _leave(self, _: str) -> None:
        raise _Leave

    def _help(self, _: str) -> None:
        width = max(len(_usage(command)) for command in _COMMANDS)
        lines = [f"{_usage(command):{width}}  {command.help}" for command in _COMMANDS]
        self._note("\n".join([*lines, *_KEYS]))

    def _reset(self, _: str) -> None:
        self._conversation.reset()
        self._last, self._stopped = None, False
        self._keep()
        self._note("the conversation is forgotten")

    def _save(self, argument: str) -> None:
        """``/save``; a failure changes nothing."""
        if not argument:
            self._note("/save needs the name of a file: /save FILE")
            return
        try:
            path = _path(argument)
            if self._session is not None and _same(path, self._session):
                self._conversation.save(path)
            else:
                with locked(path):
                    self._conversation.save(path)
            self._note(f"saved to {path}")
        except (MotetError, RuntimeError) as error:  # the latter for the home of an unknown user
            self._note(f"error: {error}")

    def _load(self, argument: str) -> None:
        """``/load``; a failure changes nothing."""
        if not argument:
            self._note("/load needs the name of a file: /load FILE")
            return
        try:
            self._conversation.load(_path(argument))
            self._last, self._stopped = None, False
            self._keep()
            self._note(self._summary())
        except (MotetError, RuntimeError) as error:
            self._note(f"error: {error}")

    def _extend(self, choice: str) -> None:
        """``/extend``: set Self-Extend, or show its setting. A failure changes nothing."""
        llm = self._conversation.llm
        try:
            if choice:
                llm.self_extend = parse_self_extend(choice)
                self._keep()
        except MotetError as error:
            self._note(f"error: {error}")
            return
        self._note(
            f"Self-Extend: {llm.self_extend or 'off'}; the context is {self._context} tokens"
        )

    def _summary(self) -> str:
        """What was loaded: the number of turns, and the last one."""
        conversation = self._conversation
        turns = sum(message["role"] == "user" for message in conversation.messages)
        if not turns:
            return "an empty conversation"
        *_, question, answer = conversation.messages
        last = without_control_characters(f"> {question['content']}\n{answer['content']}")
        return f"a conversation of {turns} turns; the last one:\n{last}"

    def _statistics(self, _: str) -> None:
        if self._stopped:
            said = "the last answer was stopped"
        elif self._last is None:
            said = "no answer yet"
        else:
            used = self._last.usage.prompt_tokens + self._last.usage.completion_tokens
            speeds = statistics(self._last, self._context)
            said = f"{speeds} · context {used} of {self._context} tokens"
        held = self._conversation.llm.held()
        kept = f"KV cache: {sum(held)} tokens of {len(held)} conversations"
        if self._conversation.llm.model.config.decoder_start is not None:
            kept = "an encoder-decoder keeps no KV cache between answers"
        self._note(f"{said} · {kept}")

    @property
    def _context(self) -> int:
        return self._conversation.llm.max_tokens

    def _greet(self) -> None:
        if self._conversation.options.templated:
            self._note("/help lists the commands; the model file's own chat template is in use")
        elif not self._conversation.remembers:
            self._note(
                "/help lists the commands; the model is an encoder-decoder: each message is"
                " answered by itself, and none is remembered"
            )
        else:
            self._note("/help lists the commands; without a chat template, text is continued as is")

    def _note(self, text: str) -> None:
        click.secho(text, err=True, dim=True)


_COMMANDS = (
    _Command(("help", "?", "h"), "", "this list", Chat._help),
    _Command(("reset", "clear", "c"), "", "forget the conversation", Chat._reset),
    _Command(("save",), "FILE", "save it to a file, with its options and its KV cache", Chat._save),
    _Command(("load",), "FILE", "go on with a saved conversation", Chat._load),
    _Command(
        ("extend",),
        "[auto|GROUP:WINDOW|off]",
        "Self-Extend, for more tokens than the model was trained for",
        Chat._extend,
    ),
    _Command(
        ("stats",),
        "",
        "speed and size of the last answer, and tokens in the KV cache",
        Chat._statistics,
    ),
    _Command(("bye", "exit", "quit", "q"), "", "leave (or Ctrl-D)", Chat._leave),
)
_KEYS = (
    "Ctrl-C stops an answer and keeps what there is of it. Alt-Enter begins a new line.",
    "/bye, /exit and /quit are one, with and without the slash.",
)


def _usage(command: _Command) -> str:
    return f"/{command.names[0]} {command.argument}".rstrip()


def _path(argument: str) -> Path:
    """A file's name as it is typed: in quotes, or with ``~``, where there are any. Raises
    RuntimeError for the home of an unknown user."""
    try:
        words = shlex.split(argument)
    except ValueError:  # a quote that is part of the name
        words = []
    return Path(words[0] if len(words) == 1 else argument).expanduser()


def _same(a: Path, b: Path) -> bool:
    return os.path.realpath(a) == os.path.realpath(b)


def _keys() -> "KeyBindings":
    """Enter sends, Alt-Enter begins a new line; a paste of several lines stays together."""
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: "KeyPressEvent") -> None:
        event.current_buffer.insert_text("\n")

    return keys
