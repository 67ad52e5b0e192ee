"""The chat prompt of ``motet run``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from motet.cli.conversation import Conversation
from motet.cli.options import parse_self_extend
from motet.cli.output import (
    Interrupted,
    print_stream,
    statistics,
    without_control_characters,
)
from motet.engine import Completion
from motet.errors import CapacityError, MotetError

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

HELP = """\
%reset, %c  forget the conversation
%save FILE  save the conversation to a file, with its options and its KV cache
%load FILE  go on with a saved conversation
%extend [auto|GROUP:WINDOW|off]  Self-Extend, for more tokens than the model was trained for
%stats      speed and size of the last answer, and tokens in the KV cache
%help       this list
%quit, %q   leave (or Ctrl-D)
Ctrl-C stops an answer and keeps what there is of it. Alt-Enter begins a new line."""


class Chat:
    """A conversation on a terminal, by the model's chat template or as plain continued text."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._last: Completion | None = None

    def run(self) -> None:
        """Read and answer until the user leaves."""
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import FileHistory

        self._greet()
        try:
            history = FileHistory(str(_history_file()))
        except OSError as error:
            history = None
            self._note(f"the input history is not kept: {error}")
        session: PromptSession[str] = PromptSession(history=history, key_bindings=_keys())
        while True:
            try:
                line = session.prompt("> ")
            except KeyboardInterrupt:
                continue
            except EOFError:
                return
            if line.startswith("%"):
                if not self.command(line):
                    return
            elif line.strip():
                self.answer(line)

    def command(self, line: str) -> bool:
        """Run a line that begins with %; False to leave."""
        name, _, rest = line.strip().partition(" ")
        file = rest.strip()
        if name in ("%quit", "%q"):
            return False
        if name in ("%reset", "%c"):
            self._conversation.reset()
            self._note("the conversation is forgotten")
        elif name in ("%save", "%load"):
            self._save_or_load(name, file)
        elif name == "%extend":
            self._extend(rest.strip())
        elif name == "%stats":
            self._note(self._statistics())
        elif name == "%help":
            self._note(HELP)
        else:
            self._note(f"there is no command {name}; %help lists them")
        return True

    def answer(self, text: str) -> None:
        """Answer ``text``; a failure leaves the conversation as it was."""
        try:
            answer = self._print(text)
        except CapacityError as error:
            longer = ", %extend auto goes on" if self._conversation.llm.self_extend is None else ""
            self._note(f"error: {error.message} (%reset begins anew{longer})")
            return
        except MotetError as error:
            self._note(f"error: {error}")
            return
        self._conversation.add(text, answer)

    def _print(self, text: str) -> str:
        try:
            self._last = print_stream(self._conversation.answer(text))
            answer, closing = self._last.text, statistics(self._last, self._context)
        except Interrupted as interrupted:
            answer, closing = interrupted.text, "stopped"
        click.echo()
        click.secho(closing, err=True, dim=True)
        return answer

    def _save_or_load(self, name: str, file: str) -> None:
        """``%save`` or ``%load``; a failure changes nothing."""
        if not file:
            self._note(f"{name} needs the name of a file: {name} FILE")
            return
        try:
            path = Path(file).expanduser()
            if name == "%save":
                self._conversation.save(path)
                self._note(f"saved to {path}")
            else:
                self._conversation.load(path)
                self._last = None
                self._note(self._summary())
        except (MotetError, RuntimeError) as error:  # the latter for the home of an unknown user
            self._note(f"error: {error}")
        except KeyboardInterrupt:
            self._note("interrupted")

    def _extend(self, choice: str) -> None:
        """``%extend``: set Self-Extend, or show its setting. A failure changes nothing."""
        llm = self._conversation.llm
        try:
            if choice:
                llm.self_extend = parse_self_extend(choice)
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

    def _statistics(self) -> str:
        if self._last is None:
            return f"no answer yet · {self._cached()}"
        used = self._last.usage.prompt_tokens + self._last.usage.completion_tokens
        context = f"context {used} of {self._context} tokens"
        return f"{statistics(self._last, self._context)} · {context} · {self._cached()}"

    def _cached(self) -> str:
        held = self._conversation.llm.held()
        return f"KV cache: {sum(held)} tokens of {len(held)} conversations"

    @property
    def _context(self) -> int:
        return self._conversation.llm.max_tokens

    def _greet(self) -> None:
        if self._conversation.options.templated:
            self._note("%help lists the commands; the model file's own chat template is in use")
        else:
            self._note("%help lists the commands; without a chat template, text is continued as is")

    def _note(self, text: str) -> None:
        click.secho(text, err=True, dim=True)


def _history_file() -> Path:
    """In the XDG state directory, readable by its owner only; OSError where it cannot be made."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    folder = base / "motet"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / "history"
    file.touch(mode=0o600)
    return file


def _keys() -> "KeyBindings":
    """Enter sends, Alt-Enter begins a new line; a paste of several lines stays together."""
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: "KeyPressEvent") -> None:
        event.current_buffer.insert_text("\n")

    return keys
