"""The chat prompt of ``motet run``."""

import os
from pathlib import Path

import click

from motet.cli.answers import Interrupted, harmless, show, statistics
from motet.cli.conversation import Conversation
from motet.cli.extending import typed_self_extend
from motet.engine import Completion
from motet.errors import CapacityError, MotetError

HELP = """\
%reset, %c  forget the conversation
%save FILE  write the conversation to a file, with its memory and options
%load FILE  go on with one that was written so
%extend [auto|GROUP:WINDOW|off]  go beyond the length the model was trained for, or no longer
%stats      speed and size of the last answer, and what is held in memory
%help       this
%quit, %q   leave (or Ctrl-D)
Ctrl-C stops an answer and keeps what it said. Alt-Enter begins a new line."""


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
            self._note(f"what you type is not kept: {error}")
        session = PromptSession(history=history, key_bindings=_keys())
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
                self.say(line)

    def command(self, line: str) -> bool:
        """Do what a line beginning with % says; False to leave."""
        name, _, rest = line.strip().partition(" ")
        file = rest.strip()
        if name in ("%quit", "%q"):
            return False
        if name in ("%reset", "%c"):
            self._conversation.forget()
            self._note("the conversation is forgotten")
        elif name in ("%save", "%load"):
            self._keep(name, file)
        elif name == "%extend":
            self._extend(rest.strip())
        elif name == "%stats":
            self._note(self._statistics())
        elif name == "%help":
            self._note(HELP)
        else:
            self._note(f"there is no command {name}; %help lists them")
        return True

    def say(self, text: str) -> None:
        """Answer ``text``; a failure leaves the conversation as it was."""
        try:
            said = self._show(text)
        except CapacityError as error:
            longer = ", %extend auto goes on" if self._conversation.llm.self_extend is None else ""
            self._note(f"error: {error.message} (%reset begins anew{longer})")
            return
        except MotetError as error:
            self._note(f"error: {error}")
            return
        self._conversation.add(text, said)

    def _show(self, text: str) -> str:
        try:
            self._last = show(self._conversation.answer(text))
            said, closing = self._last.text, statistics(self._last, self._context)
        except Interrupted as interrupted:
            said, closing = interrupted.text, "stopped"
        click.echo()
        click.secho(closing, err=True, dim=True)
        return said

    def _keep(self, name: str, file: str) -> None:
        """``%save`` or ``%load``; a failure changes nothing."""
        if not file:
            self._note(f"{name} what? Give the name of a file: {name} FILE")
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
            self._note("stopped waiting for it")

    def _extend(self, choice: str) -> None:
        """``%extend``: another setting, or what it is. A failure changes nothing."""
        llm = self._conversation.llm
        try:
            if choice:
                llm.self_extend = typed_self_extend(choice)
        except MotetError as error:
            self._note(f"error: {error}")
            return
        self._note(
            f"Self-Extend: {llm.self_extend or 'off'}; the context is {self._context} tokens"
        )

    def _summary(self) -> str:
        """What was loaded: how many turns, and the last one."""
        conversation = self._conversation
        turns = sum(message["role"] == "user" for message in conversation.messages)
        if not turns:
            return "a conversation that has not begun"
        *_, asked, said = conversation.messages
        last = harmless(f"> {asked['content']}\n{said['content']}")
        return f"a conversation of {turns} turns; the last one:\n{last}"

    def _statistics(self) -> str:
        if self._last is None:
            return f"nothing has been answered yet · {self._held()}"
        used = self._last.usage.prompt_tokens + self._last.usage.completion_tokens
        context = f"context {used} of {self._context} tokens"
        return f"{statistics(self._last, self._context)} · {context} · {self._held()}"

    def _held(self) -> str:
        held = self._conversation.llm.held()
        return f"{sum(held)} tokens of {len(held)} conversations held in memory"

    @property
    def _context(self) -> int:
        return self._conversation.llm.max_tokens

    def _greet(self) -> None:
        if self._conversation.asking.templated:
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


def _keys():
    """Enter sends, Alt-Enter begins a new line; a paste of several lines stays together."""
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event) -> None:
        event.current_buffer.insert_text("\n")

    return keys
