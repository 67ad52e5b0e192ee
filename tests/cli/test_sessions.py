"""Session files: who has them, what ends a chat, and messages that say what is wrong."""

import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from motet.cli import main
from motet.cli.conversation import ChatOptions, Conversation
from motet.cli.demo import shipped_model
from motet.cli.sessions import Terminated, ended_by_signals, locked
from motet.errors import MotetError
from motet.llm import LLM
from tests.cli.talking import talk_with
from tests.cli.terminal import READS, Terminal
from tests.models import tiny

TINY = str(shipped_model())
MAMBA = str(shipped_model().with_name("motet-tiny-mamba.gguf"))
LONG = "Once upon a time there was a little dog. He went to the park and saw a red ball. " * 13


def run(file: Path, *arguments: str, model: str = TINY) -> Result:
    return CliRunner().invoke(main, ["run", model, "--session", str(file), "-n", "5", *arguments])


def messages(file: Path) -> int:
    with LLM(TINY, max_sequences=1) as llm:
        conversation = Conversation(llm, ChatOptions(False))
        conversation.load(file)
        return len(conversation.messages)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "talk.motet"


def in_another_process(file: Path) -> Terminal:
    """A chat that has the session."""
    command = "-m", "motet.cli", "run", TINY, "--session", str(file), "-n", "5"
    chat = Terminal(*command, PROMPT_TOOLKIT_NO_CPR="1")
    chat.wait_for(READS)
    return chat


def test_a_session_that_another_process_has(file):
    chat = in_another_process(file)
    result = run(file, "Hi")
    assert result.exit_code == 1
    assert f"{file} is in use by process {chat.process} on " in result.stderr
    with LLM(TINY, max_sequences=1) as llm:
        conversation = Conversation(llm, ChatOptions(False))
        with pytest.raises(MotetError, match="in use"), locked(file):
            pass
        talk_with(conversation, f"/save {file}\r/q\r")
    assert not file.exists()
    chat.type("\x04")
    assert chat.status() == 0
    assert run(file, "Hi").exit_code == 0
    assert [path.name for path in file.parent.glob(".*")] == []


def test_the_lock_of_a_process_that_is_gone_is_taken_over(file):
    chat = in_another_process(file)
    os.kill(chat.process, signal.SIGKILL)
    chat.status()
    assert file.with_name(".talk.motet.lock").exists()
    assert run(file, "Hi").exit_code == 0
    assert not file.with_name(".talk.motet.lock").exists()


def test_a_lock_is_no_way_to_another_file(file):
    precious = file.with_name("precious")
    precious.write_text("kept")
    file.with_name(".talk.motet.lock").symlink_to(precious)
    result = run(file, "Hi")
    assert result.exit_code == 1 and "cannot be made" in result.stderr
    assert precious.read_text() == "kept"


def test_a_full_disk_leaves_no_lock(file, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("motet.cli.sessions.os.write", full)
    with locked(file), pytest.raises(MotetError, match="in use by another process"), locked(file):
        pass
    assert list(file.parent.iterdir()) == []


def test_one_file_under_two_names_is_one(file):
    run(file, "Hi")
    link = file.with_name("link")
    link.symlink_to(file)
    with locked(link):
        assert "is in use" in run(file, "Hi").stderr
    assert run(link, "Hi").exit_code == 0
    assert link.is_symlink() and messages(file) == 4


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)]
)
def test_a_signal_loses_no_turn(file, number, status):
    chat = in_another_process(file)
    start = len(chat.shown)
    chat.type("Once upon a time\r")
    chat.wait_for(READS, start)
    os.kill(chat.process, number)
    assert chat.status() == status
    assert "Traceback" not in chat.shown
    assert messages(file) == 2
    result = run(file, "Then")
    assert ("reused" in result.stderr) == (number != signal.SIGKILL)


def test_the_answer_that_a_signal_stops_is_kept(file, monkeypatch):
    from motet.engine.stream import Stream

    following, count = Stream.__next__, 0

    def ended(self):
        nonlocal count
        count += 1
        if count == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return following(self)

    monkeypatch.setattr(Stream, "__next__", ended)
    with LLM(TINY, max_sequences=1) as llm, ended_by_signals(), pytest.raises(Terminated) as caught:
        talk_with(Conversation(llm, ChatOptions(False)), "Once\r/q\r", file)
    assert caught.value.code == 143
    assert messages(file) == 2


def test_further_signals_do_not_end_the_ending():
    with pytest.raises(Terminated), ended_by_signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGHUP)
            reached = True
    assert reached
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_turn_is_kept_without_the_cache_and_leaving_adds_it(file):
    with LLM(TINY, max_sequences=1) as llm:
        conversation = Conversation(llm, ChatOptions(False, max_tokens=5))
        talk_with(conversation, "Once upon a time\r/q\r", file)
        kept = file.stat().st_size
        conversation.save(file)
        assert file.stat().st_size > 2 * kept


def test_a_turn_that_cannot_be_kept_is_said(file, capsys, monkeypatch):
    with LLM(TINY, max_sequences=1) as llm:
        conversation = Conversation(llm, ChatOptions(False, max_tokens=5))
        talk_with(conversation, "Once\rupon\r/q\r", file.parent / "missing" / "talk")
        assert len(conversation.messages) == 4
    assert capsys.readouterr().err.count("the conversation is not kept") == 2


def test_the_session_of_another_model_is_blamed_on_that(file):
    assert run(file, "Hi", "--self-extend", "auto").exit_code == 0
    before = file.read_bytes()
    result = run(file, "Hi", model=MAMBA)
    assert result.exit_code == 1
    assert "was saved with other weights" in result.stderr
    assert "Self-Extend" not in result.stderr
    assert file.read_bytes() == before


def test_the_type_of_the_cache_is_taken_over(file):
    assert run(file, "Hi", "--kv-type", "q8_0").exit_code == 0
    assert "reused" in run(file, "Hi").stderr
    result = run(file, "Hi", "--kv-type", "f32")
    assert result.exit_code == 2
    assert f"{file} was begun with --kv-type q8_0, not f32" in result.stderr


def test_a_context_beyond_the_trained_length(file, tmp_path):
    result = run(file, "Hi", "--ctx", "100000")
    assert result.exit_code == 2
    message = "--ctx is 100000, and the model was trained for 256; --self-extend auto goes beyond"
    assert message in result.stderr
    keys = tiny.metadata("llama", attention__sliding_window=8)
    window = tiny.write(tmp_path / "window.gguf", keys)
    result = run(file, "Hi", "--ctx", "100000", model=str(window))
    assert "--ctx is 100000, and the model was trained for 256 (" in result.stderr


def test_a_full_session_is_offered_a_longer_context(file):
    first = run(file, LONG)
    assert first.exit_code == 1 and "(--self-extend auto goes on)" in first.stderr
    shorter = run(file, LONG[:400], "-c", "50")
    assert shorter.exit_code == 1 and "(a longer --ctx makes room)" in shorter.stderr
    grouped = run(file, LONG * 2, "--self-extend", "2:64")
    assert grouped.exit_code == 1 and "(a larger group reaches farther)" in grouped.stderr
    assert run(file, LONG, "--self-extend", "auto").exit_code == 0


def test_a_short_text_is_no_session(file):
    file.write_text("Hello\n")
    result = run(file, "Hi")
    assert result.exit_code == 1
    assert f"{file}: is not a state file: it has 6 bytes" in result.stderr
