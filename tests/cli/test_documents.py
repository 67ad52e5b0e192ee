"""What README and docs type is what the command takes."""

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from motet.cli import COMMANDS, LazyGroup, main
from motet.cli.demo import shipped_model
from motet.kernels import CPU

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STORY = "Once upon a time there was a little dog. He went to the park and saw a red ball.\n"
TASK = "The dog saw a ball and\n0\nran.\nwas a small green house.\nslept.\nate it.\n"


def lines(page: Path) -> list[str]:
    """Those that call the command, in blocks of code."""
    text = page.read_text()
    return re.findall(r"^(?: {4}|\$ )?(motet [a-z].*?)(?: {2,}#.*)?$", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_is_typed_is_there(page):
    assert isinstance(main, LazyGroup)
    for line in lines(page) if page.name != "mistakes.md" else []:
        name = line.split()[1]
        if name not in COMMANDS:
            continue
        command = main.get_command(click.Context(main), name)
        assert command is not None
        known = {each for param in command.params for each in (*param.opts, *param.secondary_opts)}
        for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", line):
            assert option in known, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_pages_point_to_is_there(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


README = [line for line in lines(PAGES[0]) if " model.gguf" in line]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With the files that the README names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(CPU, "read_bandwidth", lambda self: 20.0)
    (tmp_path / "model.gguf").write_bytes(shipped_model().read_bytes())
    (tmp_path / "draft.gguf").write_bytes(shipped_model().read_bytes())
    (tmp_path / "text.txt").write_text(STORY * 3)
    (tmp_path / "long.txt").write_text(STORY * 30)
    (tmp_path / "hellaswag_val_full.txt").write_text(TASK)
    return tmp_path


def serve(words):
    """Until it says that it is ready."""
    pytest.importorskip("fastapi")
    command = [sys.executable, "-m", "motet.cli", *words, "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert "is ready" in said, said
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("line", README)
def test_every_command_of_the_readme(line, folder):
    command, _, file = line.partition(" < ")
    text = (folder / file).read_text() if file else "Hello"
    words = shlex.split(command)[1:]
    if words[0] == "perplexity":  # of more than the tiny model sees
        words = ["long.txt" if word == "text.txt" else word for word in words]
    if words[0] in ("needle", "bench"):  # a small share of the work
        words += {"needle": ["--seeds", "1", "--depths", "1"], "bench": ["--repeat", "1"]}[words[0]]
    if words[0] == "quantize":  # what ships is quantised
        words.append("--allow-requantize")
    if words[0] == "serve":
        serve(words)
        return
    result = CliRunner().invoke(main, words, input=text)
    assert result.exit_code == 0, result.output


def test_the_readme_has_commands():
    assert len(README) >= 7
