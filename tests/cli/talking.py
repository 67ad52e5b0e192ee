"""Typing to the chat prompt through a pipe."""

from pathlib import Path

from motet.cli.chat import Chat
from motet.cli.conversation import ChatOptions, Conversation
from motet.llm import LLM
from tests.scripted import ScriptedModel


def talk(
    typed: str, model: ScriptedModel, templated: bool = True, system: str | None = None
) -> Conversation:
    """The conversation after everything ``typed`` (one line an input) was answered."""
    with LLM(model, max_sequences=1) as llm:  # type: ignore[arg-type]
        conversation = Conversation(llm, ChatOptions(templated, max_tokens=40), system)
        talk_with(conversation, typed)
        return conversation


def talk_with(conversation: Conversation, typed: str, session: Path | None = None) -> None:
    """Go on with a conversation, kept in ``session``."""
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text(typed)
        Chat(conversation, session).run()
