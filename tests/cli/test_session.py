"""``motet run --session``, and ``%save`` and ``%load`` in the chat prompt."""

import json
import re

import pytest
from click.testing import CliRunner, Result

from motet.cli import main
from motet.cli.conversation import ChatOptions, Conversation
from motet.cli.demo import shipped_model
from motet.cli.output import Interrupted
from motet.llm import LLM
from motet.sampling import Sampling
from tests.cli.talking import talk, talk_with
from tests.scripted import ScriptedModel

TINY = str(shipped_model())
TURNS = "Once upon a time", " The end. Another day", " Then"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["run", TINY, "--max-tokens", "15", *arguments])


@pytest.fixture(scope="module")
def expected():
    """What the turns are answered with in one process."""
    with LLM(TINY, max_sequences=1) as llm:
        conversation = Conversation(llm, ChatOptions(False, Sampling(seed=5), max_tokens=15))
        texts = []
        for turn in TURNS:
            completion = next(c.completion for c in conversation.answer(turn) if c.completion)
            conversation.add(turn, completion.text)
            texts.append(completion.text + "\n")
    return texts


@pytest.fixture
def file(tmp_path):
    return tmp_path / "talk.motet"


def test_a_session_goes_on_in_another_process(file, expected):
    results = [run("--session", str(file), "-p", TURNS[0], "--seed", "5")]
    results += [run("--session", str(file), "-p", turn) for turn in TURNS[1:]]
    assert [result.exit_code for result in results] == [0, 0, 0]
    assert [result.stdout for result in results] == expected
    assert "reused" not in results[0].stderr
    assert " reused, " in results[1].stderr


def test_an_encoder_decoder_has_no_conversation(tmp_path):
    t5, file = str(shipped_model().with_name("motet-tiny-t5.gguf")), tmp_path / "talk"
    result = CliRunner().invoke(main, ["run", t5, "Hello", "--session", str(file)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "an encoder-decoder, and answers each prompt by itself" in result.stderr
    assert not file.exists()


def test_json_says_what_was_reused(file, expected):
    run("--session", str(file), "-p", TURNS[0], "--seed", "5")
    facts = json.loads(run("--session", str(file), "-p", TURNS[1], "--json").stdout)
    assert facts["text"] + "\n" == expected[1]
    assert facts["usage"]["cached_tokens"] > 10
    assert facts["seed"] == 6


def test_given_options_hold_and_others_are_as_they_were(file):
    run("--session", str(file), "-p", TURNS[0], "--seed", "5", "--top-k", "7", "--stop", "x")
    run("--session", str(file), "-p", TURNS[1], "--temperature", "0", "--typical", "0.9")
    with LLM(TINY, max_sequences=1) as llm:
        conversation = Conversation(llm, ChatOptions(False))
        conversation.load(file)
        sampling = Sampling(top_k=7, temperature=0, typical_p=0.9, seed=5)
        assert conversation.options == ChatOptions(False, sampling, 15, ("x",))
        assert len(conversation.messages) == 4


def test_a_failure_leaves_the_file_as_it_was(file):
    run("--session", str(file), "-p", TURNS[0])
    before = file.read_bytes()
    result = run("--session", str(file), "-p", "word " * 300)
    assert result.exit_code == 1
    assert "the context holds 256" in result.stderr
    assert file.read_bytes() == before


def test_ctrl_c_leaves_the_file_as_it_was(file, monkeypatch):
    def interrupted(stream):
        stream.close()
        raise Interrupted("half an")

    run("--session", str(file), "-p", TURNS[0])
    before = file.read_bytes()
    monkeypatch.setattr("motet.cli.run.print_stream", interrupted)
    assert run("--session", str(file), "-p", TURNS[1]).exit_code != 0
    assert file.read_bytes() == before


def test_another_file_is_not_written_over(file):
    file.write_text("precious")
    result = run("--session", str(file), "-p", TURNS[0])
    assert (result.exit_code, result.stdout) == (1, "")
    assert str(file) in result.stderr
    assert file.read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--chat"], "begun with --raw"),
        (["--session", "/nowhere/at/all"], "there is no directory '/nowhere/at'"),
        (["--session", "/tmp"], "is a directory"),
    ],
)
def test_bad_use(file, arguments, message):
    run("--session", str(file), "-p", TURNS[0])
    result = run("--session", str(file), *arguments, "-p", TURNS[1])
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_save_and_load_in_the_chat_prompt(file, capsys):
    with LLM(TINY, max_sequences=1) as llm:
        first = Conversation(llm, ChatOptions(False, max_tokens=15))
        talk_with(first, f"{TURNS[0]}\r%save {file}\r{TURNS[1]}\r%q\r")
    assert f"saved to {file}" in capsys.readouterr().err
    with LLM(TINY, max_sequences=1) as llm:
        second = Conversation(llm, ChatOptions(False))
        talk_with(second, f"Some other words\r%load {file}\r%stats\r{TURNS[1]}\r%stats\r%q\r")
    assert second.messages == first.messages
    shown = capsys.readouterr().err
    assert f"a conversation of 1 turns; the last one:\n> {TURNS[0]}\n" in shown
    assert re.search(r"KV cache: \d+ tokens of 1 conversations", shown)
    assert " reused, " in shown


def test_a_forgotten_conversation_is_not_saved(file):
    with LLM(TINY, max_sequences=1) as llm:
        talk_with(
            Conversation(llm, ChatOptions(False, max_tokens=9)), f"Once\r%c\r%save {file}\r%q\r"
        )
    with LLM(TINY, max_sequences=1) as llm:
        conversation = Conversation(llm, ChatOptions(False))
        conversation.load(file)
        assert (conversation.messages, llm.held()) == ([], [])


def test_files_that_cannot_be(file, capsys):
    file.write_text("precious")
    missing = file.with_name("missing")
    typed = f"Hi\r%save {file}\r%load {file}\r%load {missing}\r%save\r%load\r%q\r"
    chat = talk(typed, ScriptedModel(), templated=False)
    shown = capsys.readouterr().err
    assert file.read_text() == "precious"
    assert shown.count("error: ") == 3
    assert "/save needs the name of a file: /save FILE" in shown
    assert "/load needs the name of a file: /load FILE" in shown
    assert len(chat.messages) == 2


def test_a_home_that_nobody_has(capsys):
    talk("%save ~nobody-has-this-name/x\r%q\r", ScriptedModel())
    assert "error: " in capsys.readouterr().err
