"""The chat prompt of ``motet run``."""

import os
from collections.abc import Callable
from pathlib import Path

import click

from motet.cli.answers import Interrupted, show, statistics
from motet.engine import Completion
from motet.engine.stream import Stream
from motet.errors import CapacityError, MotetError
from motet.llm import LLM

HELP = """\
%reset, %c  forget the conversation
%stats      speed and size of the last answer
%help       this
%quit, %q   leave (or Ctrl-D)
Ctrl-C stops an answer and keeps what it said. Alt-Enter begins a new line."""


class Chat:
    """A conversation on a terminal, by the model's chat template or as plain continued text."""

    def __init__(
        self, llm: LLM, answer: Callable[..., Stream], templated: bool, system: str | None
    ) -> None:
        """``answer`` starts an answer to a prompt, text or ids."""
        self._llm = llm
        self._answer = answer
        self._templated = templated
        self._opening = [] if system is None else [{"role": "system", "content": system}]
        self._messages = list(self._opening)
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
        name = line.strip()
        if name in ("%quit", "%q"):
            return False
        if name in ("%reset", "%c"):
            self._messages = list(self._opening)
            self._note("the conversation is forgotten")
        elif name == "%stats":
            self._note(self._statistics())
        elif name == "%help":
            self._note(HELP)
        else:
            self._note(f"there is no command {name.split()[0]}; %help lists them")
        return True

    def say(self, text: str) -> None:
        """Answer ``text``; a failure leaves the conversation as it was."""
        messages = [*self._messages, {"role": "user", "content": text}]
        try:
            said = self._show(messages)
        except CapacityError as error:
            self._note(f"error: {error.message} (%reset begins anew)")
            return
        except MotetError as error:
            self._note(f"error: {error}")
            return
        self._messages = [*messages, {"role": "assistant", "content": said}]

    def _show(self, messages: list[dict[str, str]]) -> str:
        if self._templated:
            prompt = self._llm.chat_prompt(messages)
        else:
            prompt = "".join(message["content"] for message in messages)
        try:
            self._last = show(self._answer(prompt))
            said, closing = self._last.text, statistics(self._last, self._llm.max_tokens)
        except Interrupted as interrupted:
            said, closing = interrupted.text, "stopped"
        click.echo()
        click.secho(closing, err=True, dim=True)
        return said

    def _statistics(self) -> str:
        if self._last is None:
            return "nothing has been answered yet"
        used = self._last.usage.prompt_tokens + self._last.usage.completion_tokens
        held = f"context {used} of {self._llm.max_tokens} tokens"
        return f"{statistics(self._last, self._llm.max_tokens)} · {held}"

    def _greet(self) -> None:
        if self._templated:
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
