"""The chat prompt: its commands and turns, typed through a pipe, and once on a real terminal."""

import re

import pytest

from motet.cli.conversation import ChatOptions, Conversation
from motet.cli.demo import shipped_model
from motet.engine.stream import Stream
from motet.llm import LLM
from tests.cli.talking import talk, talk_with
from tests.cli.terminal import READS, TAKES, Terminal
from tests.scripted import ByteTokenizer, ScriptedConfig, ScriptedModel, noise, saying

TINY = str(shipped_model())
TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}?"


def turns(chat: Conversation) -> list[str]:
    return [f"{message['role']}: {message['content']}" for message in chat.messages]


def test_a_conversation(capsys):
    chat = talk("Hi\rAnd now\r/q\r", ScriptedModel(saying("Yes."), ByteTokenizer(TEMPLATE)))
    assert turns(chat) == ["user: Hi", "assistant: Yes.", "user: And now", "assistant: Yes."]
    shown = capsys.readouterr()
    assert shown.out == "Yes.\nYes.\n"
    assert "the model file's own chat template" in shown.err
    assert shown.err.count("tokens/s") == 4


def test_the_model_sees_the_whole_conversation():
    tokenizer = ByteTokenizer(TEMPLATE)
    seen = []

    def rule(history):
        seen.append(list(history))
        return saying("Yes.")(history)

    talk("Hi\rAnd\r/q\r", ScriptedModel(rule, tokenizer), system="Be brief.")
    said = "[system]Be brief.[user]Hi[assistant]Yes.[user]And?Yes."
    assert "<s>" + said in map(tokenizer.decode, seen)


def test_without_a_template_text_goes_on(capsys):
    model = ScriptedModel(saying("Yes. "))
    chat = talk("Well?\rReally?\r/q\r", model, templated=False)
    assert "".join(message["content"] for message in chat.messages) == "Well?Yes. Really?Yes. "
    assert "without a chat template" in capsys.readouterr().err


def test_commands(capsys):
    chat = talk(
        "/stats\rHi\r/stats\r/clear\r/help\r/nonsense\r/rest\r%reset\r/quit\r",
        ScriptedModel(saying("Yes."), ByteTokenizer(TEMPLATE)),
    )
    shown = capsys.readouterr().err
    assert "no answer yet" in shown
    assert re.search(r"context \d+ of 128 tokens", shown)
    assert shown.count("the conversation is forgotten") == 2
    assert "/bye  " in shown
    assert "there is no command /nonsense (/help lists them)" in shown
    assert "there is no command /rest; did you mean /reset? (/help lists them)" in shown
    assert turns(chat) == []


def test_reset_keeps_the_system_message():
    model = ScriptedModel(saying("Yes."), ByteTokenizer(TEMPLATE))
    assert turns(talk("Hi\r/c\r/q\r", model, system="Be brief.")) == ["system: Be brief."]


def test_ctrl_d_leaves_and_ctrl_c_at_the_prompt_drops_the_line():
    model = ScriptedModel(saying("Yes."), ByteTokenizer(TEMPLATE))
    chat = talk("dropped\x03Hi\r\x04", model)
    assert turns(chat) == ["user: Hi", "assistant: Yes."]


def test_a_paste_of_several_lines_and_alt_enter_are_one_turn():
    model = ScriptedModel(saying("Yes."), ByteTokenizer(TEMPLATE))
    chat = talk("\x1b[200~one\ntwo\x1b[201~ more\x1b\rthree\r/q\r", model)
    assert turns(chat)[0] == "user: one\ntwo more\nthree"


def test_a_conversation_that_fills_the_context_can_be_begun_anew(capsys):
    model = ScriptedModel(saying("Yes."), ByteTokenizer(TEMPLATE), ScriptedConfig(60))
    chat = talk(f"Hi\r{'x' * 60}\rAnd\r/q\r", model)
    shown = capsys.readouterr().err
    assert "the context holds 60" in shown
    assert "/reset begins anew" in shown
    assert turns(chat) == ["user: Hi", "assistant: Yes.", "user: And", "assistant: Yes."]


def test_a_failure_leaves_the_conversation_as_it_was(capsys):
    def rule(history):
        if ord("!") in history:
            raise ZeroDivisionError("broken")
        return saying("Yes.")(history)

    chat = talk("Hi\rno!\r/q\r", ScriptedModel(rule, ByteTokenizer(TEMPLATE)))
    assert "broken" in capsys.readouterr().err
    assert turns(chat) == ["user: Hi", "assistant: Yes."]


def test_history_is_kept_where_only_the_user_reads(state):
    talk("Hi there\r/q\r", ScriptedModel(saying("Yes."), ByteTokenizer(TEMPLATE)))
    assert "+Hi there" in (state / "history").read_text()
    assert state.stat().st_mode & 0o077 == 0
    assert (state / "history").stat().st_mode & 0o077 == 0


def test_without_a_place_for_history_it_goes_on(state, capsys):
    state.parent.write_text("a file where the directory would be")
    chat = talk("Hi\r/q\r", ScriptedModel(saying("Yes."), ByteTokenizer(TEMPLATE)))
    assert turns(chat) == ["user: Hi", "assistant: Yes."]
    assert "the input history is not kept" in capsys.readouterr().err


def test_ctrl_c_stops_an_answer_and_keeps_what_it_said(monkeypatch, capsys):
    """The KeyboardInterrupt comes while the caller waits for the fourth chunk."""
    count = 0
    following = Stream.__next__

    def interrupted(self):
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return following(self)

    monkeypatch.setattr(Stream, "__next__", interrupted)
    chat = talk("Hi\rAgain\r/q\r", ScriptedModel(noise, ByteTokenizer(TEMPLATE)))
    user, assistant, again, answer = chat.messages
    assert (user["content"], again["content"]) == ("Hi", "Again")
    assert len(assistant["content"].encode(errors="replace")) >= 1
    assert len(answer["content"]) > len(assistant["content"])
    assert "stopped" in capsys.readouterr().err


def test_a_real_terminal(state):
    terminal = Terminal("-m", "motet.cli", "run", TINY, PROMPT_TOOLKIT_NO_CPR="1")
    start = terminal.wait_for(READS)
    terminal.type("Once upon a time\r")
    start = terminal.wait_for(TAKES, start)
    start = terminal.wait_for("[a-z]+ [a-z]+", start)
    terminal.type("\x03")  # stops the answer, if it is not complete yet
    start = terminal.wait_for("stopped|tokens/s", start)
    start = terminal.wait_for(READS, start)
    terminal.type("/stats\r")
    start = terminal.wait_for(TAKES, start)
    start = terminal.wait_for("the last answer was stopped|of 256 tokens", start)
    terminal.wait_for(READS, start)
    terminal.type("\x04")
    assert terminal.status() == 0
    assert (state / "history").is_file()


def test_an_encoder_refuses_at_once():
    model = str(shipped_model().with_name("motet-tiny-embedding.gguf"))
    terminal = Terminal("-m", "motet.cli", "run", model)
    terminal.wait_for("is an encoder: it does not predict what comes next")
    assert terminal.status() == 1


def test_an_encoder_decoder_remembers_nothing(capsys):
    with LLM(shipped_model().with_name("motet-tiny-t5.gguf"), max_sequences=1) as llm:
        conversation = Conversation(llm, ChatOptions(False, max_tokens=4))
        talk_with(conversation, "Hello\r/stats\r/bye\r")
    said = capsys.readouterr().err
    assert "each message is answered by itself" in said and "as is" not in said
    assert "keeps no KV cache between answers" in said


@pytest.mark.parametrize("word", ["exit", "quit", "bye", "Exit", " quit ", "/bye", "%quit"])
def test_every_way_to_leave(word):
    model = ScriptedModel(saying("Yes."), ByteTokenizer(TEMPLATE))
    assert turns(talk(f"Hi\r{word}\rNever\r", model)) == ["user: Hi", "assistant: Yes."]


@pytest.mark.parametrize("text", ["/usr/bin is", "%50 of it", "/ or not", "quit smoking", "/Path"])
def test_what_only_looks_like_a_command_is_text(text):
    chat = talk(f"{text}\r/q\r", ScriptedModel(saying("Yes."), ByteTokenizer(TEMPLATE)))
    assert turns(chat) == [f"user: {text}", "assistant: Yes."]


def test_quotes_around_a_file_are_not_part_of_its_name(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with LLM(TINY, max_sequences=1) as llm:
        talk_with(
            Conversation(llm, ChatOptions(False, max_tokens=3)),
            "/save 'my file'\r/save \"a b\"\r/save two words\r/save don't\r/load 'my file'\r/q\r",
        )
    names = {path.name for path in tmp_path.iterdir()} - {"state"}
    assert names == {"my file", "a b", "two words", "don't"}
    assert "an empty conversation" in capsys.readouterr().err


def test_statistics_of_an_answer_that_was_stopped(monkeypatch, capsys):
    following, count = Stream.__next__, 0

    def interrupted(self):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return following(self)

    monkeypatch.setattr(Stream, "__next__", interrupted)
    talk("Hi\r/stats\rAgain\r/stats\r/q\r", ScriptedModel(noise, ByteTokenizer(TEMPLATE)))
    shown = capsys.readouterr().err
    assert "no answer yet" not in shown
    assert shown.count("the last answer was stopped") == 1
    assert len(re.findall(r"context \d+ of 128 tokens", shown)) == 1


def test_a_history_that_turns_out_not_to_be_writable(state, capsys, monkeypatch):
    def full(self, string):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("prompt_toolkit.history.FileHistory.store_string", full)
    chat = talk("Hi\rAnd\r/q\r", ScriptedModel(saying("Yes."), ByteTokenizer(TEMPLATE)))
    assert len(turns(chat)) == 4
    assert capsys.readouterr().err.count("the input history is not kept: ") == 1


def test_a_user_without_a_home(capsys, monkeypatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr("pathlib.Path.home", nobody)
    talk("Hi\r/q\r", ScriptedModel(saying("Yes."), ByteTokenizer(TEMPLATE)))
    assert "the input history is not kept: Could not determine home" in capsys.readouterr().err


def test_ctrl_c_while_a_turn_is_kept(monkeypatch, capsys, tmp_path):
    def interrupted(self, *positional, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Conversation, "save", interrupted)
    with LLM(ScriptedModel(saying("Yes?")), max_sequences=1) as llm:  # type: ignore[arg-type]
        chat = Conversation(llm, ChatOptions(False, max_tokens=4))
        talk_with(chat, "Hi?\rAnd?\r/q\r", tmp_path / "talk.motet")
    assert len(chat.messages) == 4
    assert capsys.readouterr().err.count("interrupted") == 2
