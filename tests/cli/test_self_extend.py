"""``--self-extend`` and its companions on every command that has them, and ``%extend``."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from motet.cli import main
from motet.cli.conversation import ChatOptions, Conversation
from motet.cli.demo import shipped_model
from motet.cli.options import parse_self_extend
from motet.errors import OptionError
from motet.kernels import CPU
from motet.llm import LLM
from motet.sampling import Sampling
from motet.self_extend import AutoExtend, SelfExtend
from tests.cli.talking import talk_with
from tests.models import tiny

TINY = str(shipped_model())
STORY = "Once upon a time there was a little dog. He went to the park and saw a red ball. " * 30
LONG = STORY[:1000]
"""More tokens than the model was trained for, which is 256."""


@pytest.fixture(autouse=True)
def known_bandwidth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not measured, which takes a gigabyte."""
    monkeypatch.setattr(CPU, "read_bandwidth", lambda self: 20.0)


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text(STORY)
    return str(path)


@pytest.fixture
def tasks(tmp_path: Path) -> str:
    path = tmp_path / "tasks.txt"
    endings = "ran home.\nwas a small green house.\nwent to bed.\nate it.\n"
    path.write_text(f"{LONG}\n0\n{endings}")
    return str(path)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def run(*arguments: str) -> Result:
    return invoke("run", TINY, "--max-tokens", "12", "--seed", "3", *arguments)


def commands(text: str, tasks: str) -> dict[str, list[str]]:
    """Each beyond the trained length."""
    return {
        "run": ["run", TINY, "--max-tokens", "9", "--temperature", "0", "-p", LONG],
        "perplexity": ["perplexity", TINY, "-f", text, "-c", "400"],
        "hellaswag": ["hellaswag", TINY, "-f", tasks],
        "bench": ["bench", TINY, "--lengths", "300", "-n", "2", "--parallel", "1"],
    }


COMMANDS = ("run", "perplexity", "hellaswag", "bench")


@pytest.mark.parametrize("name", COMMANDS)
def test_beyond_the_trained_length_with_self_extend_alone(name: str, text: str, tasks: str) -> None:
    command = commands(text, tasks)[name]
    plain = invoke(*command)
    assert plain.exit_code in (1, 2) and plain.stdout == ""
    assert "256" in plain.stderr
    if name != "run":
        assert "--self-extend auto" in plain.stderr
    facts = {}
    for options in (
        "--self-extend auto",
        "--self-extend 8:64",
        "--grp-attn-n 8 --grp-attn-w 64",
        "-gan 8 -gaw 64",
        "--self-extend 8:64 --self-extend-scale log",
    ):
        result = invoke(*command, *options.split(), "--json")
        assert result.exit_code == 0, result.stderr
        facts[options] = json.loads(result.stdout)
    auto, given, long_name, short_name, log = facts.values()
    if name in ("perplexity", "hellaswag"):
        assert given == long_name == short_name
        assert len({json.dumps(each) for each in (auto, given, log)}) == 3
    if name == "run":
        assert given["text"] == long_name["text"] == short_name["text"]
        assert auto["usage"]["prompt_tokens"] > 256


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--self-extend 8", "is neither auto nor GROUP:WINDOW, as in 8:512"),
        ("--self-extend 0:64", "group is 0"),
        ("--self-extend 8:0", "window is 0"),
        ("--self-extend 8:64 -gan 8 -gaw 64", "not both"),
        ("--grp-attn-n 8", "belong together"),
        ("--self-extend-scale log", "goes with --self-extend"),
        ("--self-extend auto --self-extend-scale sqrt", "'sqrt' is not 'log'"),
    ],
)
def test_bad_use_is_found_before_the_model_is_loaded(
    name: str, options: str, message: str, text: str, tasks: str
) -> None:
    command = commands(text, tasks)[name]
    result = invoke(*(part.replace(TINY, "/no/model") for part in command), *options.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_what_the_model_cannot_do(name: str, text: str, tasks: str, tmp_path: Path) -> None:
    command = commands(text, tasks)[name]
    result = invoke(*command, "--self-extend", "8:256")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "window is 256, and the model was trained for 256 tokens" in result.stderr
    too_short = invoke(*command, "--self-extend", "1:64")
    assert too_short.exit_code in (1, 2) and "256" in too_short.stderr
    if name == "bench":  # random models have no vocabulary
        model = str(tiny.write(tmp_path / "mamba.gguf", tiny.metadata("mamba")))
        result = invoke("bench", model, "--lengths", "9", "--self-extend", "auto")
        assert result.exit_code == 1 and "is recurrent: it has no positions" in result.stderr


def test_a_context_beyond_the_reach() -> None:
    result = run("-p", "x", "--ctx", "1025", "--self-extend", "5:64")
    assert result.exit_code == 2
    assert "1025 tokens is beyond what Self-Extend with group 5, window 64 reaches: 1020" in (
        result.stderr
    )
    assert run("-p", "x", "--ctx", "1020", "--self-extend", "5:64").exit_code == 0
    assert "--self-extend auto" in run("-p", "x", "--ctx", "257").stderr


def test_a_session_is_extended_when_it_grows_too_long(tmp_path: Path) -> None:
    """Begun plain, taken up with a setting, and then without saying so."""
    file = str(tmp_path / "talk.motet")
    turns = [LONG[:700], LONG[:300], " The end."]
    assert run("--session", file, "-p", turns[0]).exit_code == 0
    plain = run("--session", file, "-p", turns[1])
    assert plain.exit_code == 1 and "the context holds 256" in plain.stderr
    first = run("--session", file, "-p", turns[1], "--self-extend", "8:64", "--json")
    facts = [json.loads(first.stdout)]
    assert facts[0]["usage"]["prompt_tokens"] > 256
    assert facts[0]["usage"]["cached_tokens"] == 0
    second = run("--session", file, "-p", turns[2], "--json")
    facts.append(json.loads(second.stdout))
    assert facts[1]["usage"]["cached_tokens"] > 256
    with LLM(TINY, max_sequences=1) as llm:
        conversation = Conversation(llm, ChatOptions(False, Sampling(seed=3), max_tokens=12))
        said = []
        for i, turn in enumerate(turns):
            if i == 1:
                llm.self_extend = SelfExtend(8, 64)
            completion = next(c.completion for c in conversation.answer(turn) if c.completion)
            conversation.add(turn, completion.text)
            said.append(completion.text)
    assert [each["text"] for each in facts] == said[1:]


def test_another_kv_type_is_refused_with_a_setting_too(tmp_path: Path) -> None:
    file = tmp_path / "talk.motet"
    assert run("--session", str(file), "-p", "Hi").exit_code == 0
    data = file.read_bytes()
    other = invoke("run", TINY, "--session", str(file), "-p", "x", "--kv-type", "q8_0")
    extended = invoke(
        *("run", TINY, "--session", str(file), "-p", "x"),
        *("--kv-type", "q8_0", "--self-extend", "auto"),
    )
    for result in (other, extended):
        assert result.exit_code != 0 and "was begun with --kv-type f16, not q8_0" in result.stderr
    assert file.read_bytes() == data


def test_the_chat_prompt(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "talk.motet"
    with LLM(TINY, max_sequences=1) as llm:
        conversation = Conversation(llm, ChatOptions(False, Sampling(seed=3), max_tokens=5))
        talk_with(
            conversation,
            f"%extend\r{LONG[:600]}\r{LONG[:600]}\r%extend auto\r{LONG[:600]}\r%save {file}\r"
            "%extend off\r%extend 8:64 log\r%extend 8:256\r%extend 1 2\r%extend\r"
            f"%load {file}\r%extend\r%stats\r%q\r",
        )
        assert llm.self_extend == AutoExtend()
        assert len(conversation.messages) == 4
    shown = capsys.readouterr().err.splitlines()
    said = [line for line in shown if line.startswith(("Self-Extend", "error"))]
    assert said[:1] == ["Self-Extend: off; the context is 256 tokens"]
    assert "(/reset begins anew, /extend auto goes on)" in said[1]
    assert said[2:] == [
        "Self-Extend: auto; the context is 4096 tokens",
        "Self-Extend: off; the context is 256 tokens",
        "Self-Extend: group 8, window 64, log scale; the context is 1600 tokens",
        "error: Self-Extend's window is 256, and the model was trained for 256 tokens"
        " (use a window below 256: a quarter of it serves well)",
        "error: '1 2' is not a setting of Self-Extend (auto, GROUP:WINDOW as in 8:512, or off)",
        "Self-Extend: group 8, window 64, log scale; the context is 1600 tokens",
        "Self-Extend: auto; the context is 4096 tokens",
    ]


def test_what_is_typed() -> None:
    assert parse_self_extend("off") is None
    assert parse_self_extend("auto") == AutoExtend()
    assert parse_self_extend("auto log") == AutoExtend("log")
    assert parse_self_extend("8:512") == SelfExtend(8, 512)
    assert parse_self_extend("8:512  log") == SelfExtend(8, 512, "log")
    for text in ("on", "8:", ":8", "8:512 sqrt", "8:512:2", "auto log log", "-8:4"):
        with pytest.raises(OptionError, match="is not a setting of Self-Extend"):
            parse_self_extend(text)
