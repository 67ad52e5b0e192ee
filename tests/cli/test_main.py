import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import motet
from motet.cli import COMMANDS, LazyGroup, main
from motet.cli.demo import shipped_model
from motet.errors import ModelFileError, MotetError, OptionError
from tests.cli.terminal import Terminal
from tests.weights.gguf_bytes import small_file


def run(*arguments: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess:
    """``python`` with these arguments, in a process of its own, finding what this one finds."""
    return subprocess.run(
        [sys.executable, *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(small_file().data)
    return path


@pytest.mark.parametrize("module", ["motet", "motet.cli"])
def test_version(module: str) -> None:
    result = run("-m", module, "--version")
    assert (result.returncode, result.stdout, result.stderr) == (
        0,
        f"motet {motet.__version__}\n",
        "",
    )


def test_version_imports_no_heavy_module() -> None:
    result = run("-X", "importtime", "-m", "motet.cli", "--version")
    imported = {
        line.rsplit("|", 1)[1].strip() for line in result.stderr.splitlines() if "|" in line
    }
    assert "click" in imported
    assert not imported & {
        "numpy",
        "rich",
        "gguf",
        "tokenizers",
        "prompt_toolkit",
        "motet.cli.show",
    }


def test_every_command_is_there_and_explains_itself() -> None:
    for name in COMMANDS:
        result = CliRunner().invoke(main, [name, "--help"])
        assert result.exit_code == 0
        assert f"Usage: main {name}" in result.output
        assert "--debug" in result.output


def test_an_error_is_one_line_on_stderr_and_status_1(tmp_path: Path) -> None:
    result = run("-m", "motet.cli", "show", str(tmp_path / "missing.gguf"))
    assert result.returncode == 1
    assert result.stdout == ""
    problem = f"{tmp_path}/missing.gguf: there is no such file"
    assert (
        result.stderr
        == f"error: {problem} (MODEL is the path of a GGUF file or a Hugging Face directory, or hf://org/name)\n"
    )


@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_shows_the_traceback(tmp_path: Path, place: int) -> None:
    arguments = ["show", str(tmp_path)]
    arguments.insert(place, "--debug")
    result = run("-m", "motet.cli", *arguments)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "is a directory" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["play"], "there is no command play"),
        (["show"], "Missing argument 'MODEL'"),
        (["show", "x", "--colour"], "main show has no option --colour"),
        (["show", "x", "--ctx", "0"], "Invalid value for '--ctx'"),
        (["show", "x", "--kv-type", "q3"], "Invalid value for '--kv-type'"),
        ([], "Usage: "),
    ],
)
def test_bad_use_is_status_2(arguments: list[str], problem: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert problem in result.stderr
    assert result.stdout == ""


def group_that_raises(error: BaseException) -> LazyGroup:
    class Raises(LazyGroup):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
            @click.command(cmd_name)
            def command() -> None:
                raise error

            return command

    return Raises("motet")


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (OptionError("MOTET_ISA is 'mmx'", hint="use avx2"), 2, "MOTET_ISA is 'mmx' (use avx2)"),
        (ModelFileError("two\nlines"), 1, "two lines"),
    ],
)
def test_what_an_error_becomes(error: Exception, status: int, message: str) -> None:
    result = CliRunner().invoke(group_that_raises(error), ["go"])
    assert (result.exit_code, result.stderr) == (status, f"error: {message}\n")


def test_messages_name_options() -> None:
    error = MotetError("/kv_bytes/a: no, and kv_bytes allows 1", hint="give pooling='last'")
    result = CliRunner().invoke(group_that_raises(error), ["broken"])
    assert (
        result.stderr == "error: /kv_bytes/a: no, and --kv-bytes allows 1 (give --pooling last)\n"
    )


def test_ctrl_c_is_quiet() -> None:
    result = CliRunner().invoke(group_that_raises(KeyboardInterrupt()), ["go"])
    assert (result.exit_code, result.output) == (130, "")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_closed_pipe_is_quiet(model: Path, options: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = run("-m", "motet.cli", "show", str(model), *options, stdout=writer)
    finally:
        os.close(writer)
    assert result.returncode == 1
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colours_on_a_terminal_that_wants_them(environment: dict[str, str], coloured: bool) -> None:
    needle = ("needle", str(shipped_model()), "--lengths", "130", "--depths", "1", "--seeds", "1")
    terminal = Terminal("-m", "motet.cli", *needle, **environment)
    assert terminal.status() == 0
    assert ("\x1b[1m" in terminal.shown) == coloured
    assert ("\u2588" in terminal.shown) != coloured  # shades where there are no colours
    assert ("\x1b" in terminal.shown) == (environment.get("TERM") != "dumb")
