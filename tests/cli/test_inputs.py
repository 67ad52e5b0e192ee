"""Where a prompt or a text comes from, and what of it counts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from motet.cli import inputs, main
from motet.cli.demo import shipped_model
from motet.llm import LLM

TINY = str(shipped_model())


def invoke(*arguments: str, text: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=text)


@pytest.fixture
def prompts(monkeypatch):
    """What the engine is asked."""
    seen: list[str] = []
    generate = LLM.generate

    def spy(self, prompt, *positional, **options):
        seen.append(prompt)
        return generate(self, prompt, *positional, **options)

    monkeypatch.setattr(LLM, "generate", spy)
    return seen


@pytest.mark.parametrize(
    ("arguments", "text", "prompt"),
    [
        ([TINY, "Hello"], None, "Hello"),
        ([TINY, "-p", "Hello"], None, "Hello"),
        (["-m", TINY, "Hello"], None, "Hello"),
        (["Hello", "-m", TINY], None, "Hello"),
        (["--model", TINY, "-p", "Hello"], None, "Hello"),
        (["-m", TINY], "Hello\n", "Hello"),
        ([TINY, "Summarise."], "A text.\n", "A text.\n\nSummarise."),
        ([TINY, "-p", "Summarise."], "A text.\n\n", "A text.\n\n\nSummarise."),
        ([TINY, "-f", "{file}"], None, "From a file."),
        ([TINY, "-f", "{file}", "Go on."], None, "From a file.\n\nGo on."),
        ([TINY, "-f", "{file}", "-p", "c"], "a", "a\n\nFrom a file.\n\nc"),
        ([TINY, "-f", "-", "Go on."], "a\n", "a\n\nGo on."),
        ([TINY, "Hello"], "", "Hello"),
        ([TINY], "\ufeffHello", "Hello"),
    ],
)
def test_nothing_that_is_given_is_ignored(arguments, text, prompt, prompts, tmp_path):
    file = tmp_path / "file.txt"
    file.write_text("From a file.\n", encoding="utf-8-sig")
    given = [part.format(file=file) for part in arguments]
    result = invoke("run", *given, "-n", "1", text=text)
    assert result.exit_code == 0, result.stderr
    assert prompts == [prompt]


@pytest.mark.parametrize("name", ["run", "tokenize", "perplexity", "hellaswag"])
def test_what_is_not_utf_8(name, tmp_path):
    file = tmp_path / "text.txt"
    file.write_bytes("Hello".encode("utf-16"))
    text = file.read_bytes() if name == "tokenize" else None
    arguments = () if name == "tokenize" else ("-f", str(file))
    result = invoke(name, TINY, *arguments, text=text)
    assert result.exit_code == 2
    assert "is not UTF-8 at byte 0; it may be UTF-16: iconv -f utf-16" in result.stderr


def test_a_byte_order_mark_is_no_token(tmp_path):
    plain, marked = tmp_path / "plain.txt", tmp_path / "marked.txt"
    story = "Once upon a time there was a little dog. " * 20
    plain.write_text(story)
    marked.write_text(story, encoding="utf-8-sig")
    tokens = [invoke("tokenize", TINY, text=file.read_bytes()).stdout for file in (plain, marked)]
    assert tokens[0] == tokens[1]
    values = [
        invoke("perplexity", TINY, "-c", "32", "-f", str(file)).stdout for file in (plain, marked)
    ]
    assert values[0] == values[1]


@pytest.mark.parametrize("name", ["run", "perplexity", "hellaswag", "needle"])
def test_files_that_cannot_be_read(name, tmp_path):
    result = invoke(name, TINY, "-f", str(tmp_path))
    assert result.exit_code == 2
    assert f"'{tmp_path}': Is a directory" in result.stderr


def started(*arguments: str, stdin: int) -> "subprocess.Popen[bytes]":
    path = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(
        [sys.executable, "-m", "motet.cli", "run", TINY, "-n", "3", *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_nothing_is_read_where_nothing_is_piped_in():
    with Path(os.devnull).open() as null:
        out, _ = started("Hello", stdin=null.fileno()).communicate(timeout=60)
    assert out


def test_waiting_for_a_pipe_that_nobody_closes_is_said():
    process = started("Hello", stdin=subprocess.PIPE)
    assert process.stderr is not None
    assert process.stderr.readline() == b"reading standard input; </dev/null gives it an end\n"
    out, _ = process.communicate(b"A dog. ", timeout=60)
    assert process.returncode == 0 and out


def test_a_closed_standard_input():
    script = f"exec {sys.executable} -m motet.cli run {TINY} <&-"
    path = os.pathsep.join(filter(None, sys.path))
    result = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: standard input: Bad file descriptor")


def test_the_note_about_waiting_comes_after_a_while_only(monkeypatch):
    monkeypatch.setattr(inputs, "PATIENCE", 3600.0)
    assert "reading" not in invoke("run", TINY, "-n", "1", text="Hello").stderr
