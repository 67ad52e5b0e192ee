import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from rich.cells import cell_len

import motet
from motet.cli import main
from motet.cli.demo import shipped_model
from tests.models import readers

TEXTS = ["hello the hello", "abc.", "zzz"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(readers.bert(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def llm(path: str) -> Iterator[motet.LLM]:
    with motet.LLM(path) as llm:
        yield llm


def invoke(*arguments: str, **options: object) -> Result:
    return CliRunner().invoke(main, ["embed", *arguments], **options)  # type: ignore[arg-type]


def vectors(result: Result) -> np.ndarray:
    assert result.exit_code == 0, result.output
    return np.array(json.loads(result.stdout)["embeddings"], np.float32)


def test_json_has_the_bits_of_the_library(path: str, llm: motet.LLM):
    result = invoke(path, *TEXTS, "--json")
    facts = json.loads(result.stdout)
    assert {key: facts[key] for key in ("model", "pooling", "normalized")} == {
        "model": "bert-0.gguf",
        "pooling": "cls",
        "normalized": True,
    }
    assert np.array_equal(vectors(result), llm.embed(TEXTS))
    other = invoke(path, *TEXTS, "--json", "--pooling", "mean", "--no-normalize")
    assert np.array_equal(vectors(other), llm.embed(TEXTS, "mean", normalize=False))


def test_texts_from_everywhere(path: str, llm: motet.LLM, tmp_path: Path):
    expected, file = llm.embed(TEXTS), tmp_path / "texts.txt"
    file.write_text("\n".join(TEXTS) + "\n")
    crlf = "\r\n".join(TEXTS).encode()
    for result in (
        invoke("-m", path, *TEXTS, "--json"),
        invoke(path, *(f"-p{text}" for text in TEXTS), "--json"),
        invoke(path, "-f", str(file), "--json"),
        invoke(path, "--json", input=file.read_text()),
        invoke(path, "-f", "-", "--json", input=crlf),
    ):
        assert np.array_equal(vectors(result), expected)
    lines = invoke(path, "--json", input="abc.\n\nzzz")
    assert np.array_equal(vectors(lines), llm.embed(["abc.", "", "zzz"]))


def test_npy(path: str, llm: motet.LLM, tmp_path: Path):
    file = tmp_path / "vectors"
    result = invoke(path, *TEXTS, "--npy", str(file))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"3 vectors of 16 numbers are in {file}\n"
    assert np.array_equal(np.load(file), llm.embed(TEXTS))


def test_npy_goes_nowhere_else(path: str, tmp_path: Path):
    texts = tmp_path / "texts.txt"
    texts.write_text("abc.\n")
    read_only = tmp_path / "read-only"
    read_only.mkdir(0o500)
    wrong = ["-", str(tmp_path), str(tmp_path / "no" / "file"), str(texts)]
    for file in wrong if os.geteuid() == 0 else [*wrong, str(read_only / "file")]:
        result = invoke(path, "-f", str(texts), "--npy", file)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--npy" in result.stderr
    assert texts.read_text() == "abc.\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["read-only", "texts.txt"]
    full = invoke(path, "abc", "--npy", "/dev/full")
    assert (full.exit_code, full.stdout) == (1, "")
    assert full.stderr == "error: /dev/full: cannot be written: No space left on device\n"
    one = invoke(path, "abc", "--npy", str(tmp_path / "one.npy"))
    assert one.stderr == f"1 vector of 16 numbers is in {tmp_path / 'one.npy'}\n"


def test_columns_of_wide_characters(path: str):
    lines = invoke(path, "中文", "é", *["abc"] * 8).stdout.splitlines()[:10]
    assert [line[:2] for line in lines] == [f"{n:2}" for n in range(1, 11)]
    assert len({cell_len(line) for line in lines}) == 1


def test_what_is_taken_as_text(path: str, tmp_path: Path):
    file = tmp_path / "texts.txt"
    file.write_text("abc.\n")
    with file.open() as read:
        command = [sys.executable, "-m", "motet.cli", "embed", path, str(file), "--truncate"]
        result = subprocess.run(command, stdin=read, capture_output=True, text=True, check=True)
    assert result.stderr.splitlines() == [
        f"{file} is taken as a text; -f {file} reads the file",
        "standard input is not read, since texts are given",
    ]
    assert invoke(path, "abc").stderr == ""


def test_a_model_that_is_not_there():
    for arguments in (["embed", "x"], ["rank", "x", "-q", "y"]):
        result = CliRunner().invoke(main, arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("error: x: there is no such file")


def test_for_people(path: str, llm: motet.LLM):
    result = invoke(path, *TEXTS)
    units = llm.embed(TEXTS)
    cosines = units @ units.T
    lines = result.stdout.splitlines()
    assert lines[0].startswith("1  hello the hello")
    assert f"{units[0, 0]:.5f}" in lines[0] and lines[0].endswith("… 16 numbers")
    assert lines[3:5] == ["", "cosines      1      2      3"]
    shown = [[float(each) for each in line.split()[1:]] for line in lines[5:]]
    np.testing.assert_allclose(shown, cosines, atol=6e-4)
    assert len(invoke(path, "abc").stdout.splitlines()) == 1
    assert len(invoke(path, *["abc"] * 20).stdout.splitlines()) == 20
    assert "\x1b" not in invoke(path, "\x1b[31mred").stdout


def test_what_is_too_long(path: str, llm: motet.LLM):
    result = invoke(path, "abc", "hello " * 40)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "text 2, 'hello hello" in result.stderr and "42 tokens" in result.stderr
    cut = invoke(path, "hello " * 40, "--truncate", "--json")
    assert np.array_equal(vectors(cut), llm.embed("hello " * 40, truncate=True))


def test_a_model_whose_file_says_nothing(tmp_path: Path):
    path = str(readers.decoder(tmp_path))
    result = invoke(path, "hello")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "give --pooling last or --pooling mean" in result.stderr
    assert invoke(path, "hello", "--pooling", "last").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "input", "message"),
    [
        (["abc", "--npy", "x", "--json"], None, "exclude each other"),
        (["abc", "--pooling", "rank"], None, "--pooling"),
        (["abc", "-f", os.devnull], None, "not both"),
        (["-f", "/nowhere"], None, "No such file"),
        (["-f", os.devnull], None, "there are no texts"),
        ([], b"a\xff", "not UTF-8"),
        ([], "", "there are no texts"),
    ],
)
def test_bad_use(path: str, arguments: list[str], input: object, message: str):
    result = invoke(path, *arguments, input=input)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "hello"],
        ["perplexity", "-f", __file__],
        ["needle"],
    ],
)
def test_other_commands_say_what_an_encoder_is(path: str, arguments: list[str]):
    command, *rest = arguments
    result = CliRunner().invoke(main, [command, path, *rest])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is an encoder" in result.stderr and "embed" in result.stderr


def test_show_an_encoder_decoder():
    t5 = str(shipped_model().with_name("motet-tiny-t5.gguf"))
    shown = " ".join(CliRunner().invoke(main, ["show", t5]).stdout.split())
    assert "t5, an encoder-decoder" in shown and "that are encoded" in shown
    facts = json.loads(CliRunner().invoke(main, ["show", t5, "--json"]).stdout)
    assert facts["encoder"] is False


def test_show(path: str, tmp_path: Path):
    shown = " ".join(CliRunner().invoke(main, ["show", path]).stdout.split())
    assert "bert, an encoder" in shown and "pooling cls" in shown
    assert "context memory none: an encoder" in shown
    named = str(readers.yes_or_no(tmp_path))
    shown = " ".join(CliRunner().invoke(main, ["show", named]).stdout.split())
    assert "pooling rank: yes, no" in shown and "encoder" not in shown
    facts = json.loads(CliRunner().invoke(main, ["show", named, "--json"]).stdout)
    assert (facts["encoder"], facts["pooling"], facts["labels"]) == (False, "rank", ["yes", "no"])
