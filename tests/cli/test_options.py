"""Options by the field's names, the same on every command, and what is mistyped."""

import json
import re

import click
import pytest
from click.testing import CliRunner, Result

from motet.cli import COMMANDS, LazyGroup, main
from motet.cli.demo import shipped_model

TINY = str(shipped_model())
NAMES = {
    "-n": {"-n", "--max-tokens", "--n-predict"},
    "-c": {"-c", "--ctx", "--ctx-size"},
    "-t": {"-t", "--threads"},
    "-s": {"-s", "--system"},
    "-m": {"-m", "--model"},
    "-f": {"-f", "--file"},
    "-p": {"-p", "--prompt"},
    "-b": {"-b", "--batch", "--batch-size"},
    "-ub": {"-ub", "--ubatch", "--ubatch-size"},
    "--temp": {"--temp", "--temperature"},
}


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="motet")


def options(name: str) -> list[click.Option]:
    assert isinstance(main, LazyGroup)
    command = main.get_command(click.Context(main), name)
    assert command is not None
    return [param for param in command.params if isinstance(param, click.Option)]


@pytest.mark.parametrize("name", COMMANDS)
def test_one_name_for_one_thing(name):
    for option in options(name):
        for short, every in NAMES.items():
            assert not set(option.opts) & every or set(option.opts) == every, short


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is(name):
    for option in options(name):
        assert option.help and option.help.endswith((".", "ms.")), option.opts


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("-n 3 -c 40 -t 1 --temp 0", "--max-tokens 3 --ctx 40 --threads 1 --temperature 0"),
        ("--n-predict 3 --ctx-size 40 --temp 0", "-n 3 -c 40 --temp 0"),
    ],
)
def test_short_and_long_are_the_same(short, long):
    answers = [
        json.loads(invoke("run", TINY, "Once", "--json", *given.split()).stdout)["tokens"]
        for given in (short, long)
    ]
    assert answers[0] == answers[1] and len(answers[0]) == 3


@pytest.mark.parametrize("name", ["show", "tokenize", "perplexity", "bench", "needle", "run"])
def test_the_model_by_option_or_by_place(name):
    missing = invoke(name, *(("-f", TINY) if name == "perplexity" else ()))
    assert missing.exit_code == 2
    assert (
        "Missing argument 'MODEL': a GGUF file, a directory or hf://org/name; motet demo needs none"
        in missing.stderr
    )
    elsewhere = "/no/such.gguf"
    for given in ((elsewhere,), ("-m", elsewhere), ("--model", elsewhere)):
        text = ("Hi",) if name in ("run", "tokenize") else ()
        more = ("-f", __file__) if name == "perplexity" else ()
        result = invoke(name, *given, *text, *more)
        assert "/no/such.gguf: there is no such file" in result.stderr


def test_the_text_of_tokenize_after_the_option():
    assert invoke("tokenize", "-m", TINY, "Hi").stdout == invoke("tokenize", TINY, "Hi").stdout


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["rnu"], "there is no command rnu; did you mean run?"),
        (["perplexty"], "there is no command perplexty; did you mean perplexity?"),
        (["chat", "m"], "there is no command chat; did you mean run?"),
        (["ls"], "there is no command ls; did you mean list?"),
        (["info"], "there is no command info; did you mean show?"),
        (["m.gguf"], "there is no command m.gguf; to run the model: motet run m.gguf"),
        (["xyz"], "there is no command xyz (motet --help)"),
        (["run", "m", "--max-token", "3"], "motet run has no option --max-token; did you mean"),
        (["run", "m", "--ctx", "0"], "Invalid value for '--ctx': 0 is not in the range x>=1"),
        (["rank", "m", "--top-n", "3"], "no option --top-n; did you mean --top?"),
        (["embed", "m", "-o", "x"], "no option -o; did you mean --npy?"),
        (["embed", "m", "--max-length", "9"], "did you mean --truncate?"),
        (["rank", "m", "--documents", "x"], "did you mean --file?"),
        (["serve", "m", "--served-model-name", "x"], "did you mean --alias?"),
        (["serve", "m", "--max-model-len", "512"], "did you mean --ctx?"),
        (["serve", "m", "--jinja"], "chat templates always work; leave out --jinja"),
        (["serve", "m", "-fa", "on"], "leave out -fa, --flash-attn"),
        (["serve", "m", "-fa"], "leave out -fa, --flash-attn"),
        (["serve", "m", "-cb"], "leave out -cb"),
        (["serve", "m", "--reasoning-format", "auto"], "leave out --reasoning-format"),
        (["serve", "m", "--no-mmap", "--mlock"], "leave out --"),
        (["serve", "m", "-ngl", "99"], "leave out -ngl"),
        (["serve", "m", "--state-dir", "/proc/none"], "--state-dir: /proc/none can't be made: "),
        (["run", "m", "--jinja"], "no option --jinja"),
        (["--colour"], "motet has no option --colour"),
    ],
)
def test_what_is_mistyped(typed, answer):
    result = invoke(*typed)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(r"error: [^\n]+\n", result.stderr)
    assert answer in result.stderr


def test_summaries_are_whole_and_import_nothing():
    text = invoke("--help").stdout
    for name, summary in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", text, re.MULTILINE)
        assert len(summary) < 65


def test_completion():
    def complete(words: str, place: int) -> str:
        given = {"COMP_WORDS": words, "COMP_CWORD": str(place), "_MOTET_COMPLETE": "bash_complete"}
        return CliRunner(env=given).invoke(main, [], prog_name="motet").stdout

    assert complete("motet per", 1) == "plain,perplexity\n"
    assert "plain,--max-tokens" in complete("motet run --max", 2)
    assert "file," in complete("motet show ", 2)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_source_of_completion(shell):
    runner = CliRunner(env={"_MOTET_COMPLETE": f"{shell}_source"})
    assert "_MOTET_COMPLETE" in runner.invoke(main, [], prog_name="motet").stdout
