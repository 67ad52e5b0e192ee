"""``docs/mistakes.md`` is true: each line is typed, and what comes is what stands there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from motet.cli import main
from motet.cli.conversation import ChatOptions, Conversation
from motet.cli.demo import shipped_model
from motet.llm import LLM
from tests.cli.talking import talk_with
from tests.models import readers

PAGE = (Path(__file__).parents[2] / "docs" / "mistakes.md").read_text()
STORY = "Once upon a time there was a little dog. He went to the park and saw a red ball.\n"


def transcript(kind: str, prompt: str) -> list[tuple[str, str]]:
    """(what is typed, what is answered) of all fenced blocks of a kind."""
    blocks = re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    entries = [entry for block in blocks for entry in re.split(rf"^{prompt} ", block, flags=re.M)]
    parts = [entry.partition("\n") for entry in entries if entry]
    return [(typed, answer) for typed, _, answer in parts]


COMMANDS = transcript("console", r"\$")
CHAT = transcript("chat", ">")


def test_there_are_forty():
    assert len(COMMANDS) + len(CHAT) >= 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the page says that there is."""
    folder = tmp_path_factory.mktemp("mistakes")
    tiny = shipped_model().read_bytes()
    (folder / "model.gguf").write_bytes(tiny)
    (folder / "half.gguf").write_bytes(tiny[:5000])
    mamba = shipped_model().with_name("motet-tiny-mamba.gguf")
    (folder / "mamba.gguf").write_bytes(mamba.read_bytes())
    readers.bert(folder).rename(folder / "bert.gguf")
    (folder / "text.txt").write_text(STORY * 40)
    (folder / "short.txt").write_text(STORY)
    with LLM(shipped_model(), max_sequences=1) as llm:
        Conversation(llm, ChatOptions(False)).save(folder / "talk.motet")
    (folder / "bin").mkdir()
    (folder / "bin" / "motet").write_text(f'#!/bin/sh\nexec {sys.executable} -m motet.cli "$@"\n')
    (folder / "bin" / "motet").chmod(0o755)
    return folder


def answer_of(line: str, folder: Path) -> str:
    """Run here, or by a shell where it takes one."""
    words = shlex.split(line)
    if words[0] == "motet" and not set(line) & set("|<>"):
        return CliRunner().invoke(main, words[1:], prog_name="motet").output
    path = os.pathsep.join(filter(None, [str(Path.cwd()), *sys.path]))
    search = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", line],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "PATH": search},
    ).stdout


def is_as_written(answer: str, written: str) -> bool:
    pattern = ".*".join(map(re.escape, written.split("…")))
    return re.fullmatch(pattern, answer) is not None


@pytest.mark.parametrize(("line", "written"), COMMANDS, ids=[line for line, _ in COMMANDS])
def test_a_line(line, written, folder, monkeypatch):
    monkeypatch.chdir(folder)
    answer = answer_of(line, folder)
    assert is_as_written(answer, written), answer


def test_the_chat(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    with LLM(shipped_model(), max_sequences=1) as llm:
        for line, written in CHAT:
            talk_with(Conversation(llm, ChatOptions(False)), f"{line}\r/bye\r")
            greeting, _, answer = capsys.readouterr().err.partition("\n")
            assert greeting.startswith("/help lists the commands")
            assert is_as_written(answer, written), answer
