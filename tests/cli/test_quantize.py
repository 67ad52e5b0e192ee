"""motet quantize, convert and imatrix, as they are typed."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import motet
from motet.cli import main
from motet.cli.demo import shipped_model
from motet.conversion.importance import ImportanceMatrix
from motet.conversion.mixes import MIXES
from motet.weights.gguf import GGUFFile
from tests.models import tiny

TINY = str(shipped_model())
STORY = "Once upon a time there was a little dog. He went to the park and saw a red ball. " * 12


def invoke(*arguments: object):
    return CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.fixture
def model(tmp_path):
    keys = tiny.metadata("llama", embedding_length=32, feed_forward_length=64)
    return tiny.write(tmp_path / "model.gguf", keys)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.gguf"


def test_quantize(model, out):
    result = invoke("quantize", model, out, "q8_0", "--embedding-type", "f16", "-t", "1")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == f"wrote {out}\n"
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["tensor", "shape", "from", "to", "before", "size"]
    assert "token_embd.weight" in lines[1] and "F16" in lines[1]
    assert "bits a weight (Q8_0)" in lines[-1]
    with GGUFFile.open(out) as file:
        assert file.metadata["general.file_type"] == 7
        assert len(lines) == len(file.tensors) + 2


def test_json_is_what_the_library_gives(model, out, tmp_path):
    result = invoke("quantize", "--json", model, out, "Q4_0", "--tensor-type", "ffn_up=q8_0")
    facts = json.loads(result.stdout)
    made = motet.quantize(model, tmp_path / "other.gguf", "Q4_0", tensor_types={"ffn_up": "q8_0"})
    assert facts["files"] == [str(out)]
    assert facts["type"] == "Q4_0"
    assert facts["bytes"] == made.nbytes and facts["bits_per_weight"] == made.bits_per_weight
    for each, found in zip(made.tensors, facts["tensors"], strict=True):
        assert (found["name"], found["to"]) == (each.name, each.after.name)
        assert (found["bytes"], found["shape"]) == (each.nbytes, list(each.shape))
    assert out.read_bytes() == (tmp_path / "other.gguf").read_bytes()


def test_a_dry_run_writes_nothing(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("quantize", model, "Q4_K_M", "--dry-run")
    assert result.exit_code == 0
    assert [each.name for each in tmp_path.iterdir()] == ["model.gguf"]
    assert (
        json.loads(invoke("quantize", model, "Q4_0", "--dry-run", "--json").stdout)["files"] == []
    )


def test_out_may_be_left_out(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert invoke("quantize", model, "Q5_1").exit_code == 0
    assert Path("model-Q5_1.gguf").is_file()


def test_help_lists_the_types():
    text = invoke("quantize", "--help").stdout
    assert all(mix in text for mix in MIXES)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["{model}"], 2, "give a model, a file to write and a type"),
        (["{model}", "{out}", "Q4_0", "more"], 2, "give a model, a file to write and a type"),
        (["{model}", "{out}", "Q9"], 2, "'Q9', which Motet does not quantise to (use one of F32"),
        (["{out}", "{out}", "Q4_0"], 1, "there is no such file"),
        (["{model}", "{model}", "Q4_0", "--force"], 2, "is the model that is read"),
        (["{model}", "{folder}", "Q4_0"], 2, "is a directory"),
        (["{model}", "{out}", "Q4_0", "--tensor-type", "a"], 2, "'a' is not REGEX=TYPE"),
        (["{model}", "{out}", "Q4_0", "--tensor-type", "a=b"], 2, "--tensor-type: 'b' is not a"),
        (["{model}", "{out}", "Q4_0", "--output-type", "b"], 2, "--output-type: 'b' is not a"),
        (["{model}", "{out}", "Q4_0", "--imatrix", "{model}"], 1, "no importance matrix"),
        (["{model}", "{out}", "Q4_0", "--imatrix", "/no"], 1, "/no: there is no such file"),
        ([TINY, "{out}", "Q4_0"], 2, "give --allow-requantize"),
    ],
)
def test_bad_use(model, out, tmp_path, arguments, status, message):
    places = {"model": model, "out": out, "folder": tmp_path}
    result = invoke("quantize", *(each.format(**places) for each in arguments))
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert not out.exists()


def test_a_file_that_is_there(model, out):
    assert invoke("quantize", model, out, "Q8_0").exit_code == 0
    before = out.read_bytes()
    result = invoke("quantize", model, out, "Q4_0")
    assert result.exit_code == 2
    assert "is there already (give another name, or --force)" in result.stderr
    assert out.read_bytes() == before
    assert invoke("quantize", model, out, "Q4_0", "--force").exit_code == 0
    assert out.read_bytes() != before


def test_convert(model, out, tmp_path):
    result = invoke("convert", model, "-o", out, "--type", "bf16", "--split-size", "8K")
    assert result.exit_code == 0, result.stderr
    files = sorted(tmp_path.glob("out-*-of-*.gguf"))
    assert result.stderr.splitlines() == [f"wrote {file}" for file in files]
    assert len(files) > 1 and "bits a weight (BF16)" in result.stdout
    assert invoke("convert", model, "--outtype", "q4_0").exit_code == 2
    assert invoke("convert", tmp_path / "nothing").exit_code == 1
    assert "-o names the file to write" in invoke("convert", model, out).stderr


def test_imatrix_and_what_is_made_with_it(tmp_path, out):
    text = tmp_path / "text.txt"
    text.write_text(STORY)
    matrix = tmp_path / "imatrix.gguf"
    options = ["-f", text, "-o", matrix, "-c", "32", "--chunks", "2"]
    result = invoke("imatrix", TINY, *options)
    assert result.exit_code == 0, result.stderr
    assert "2 of 2: chunks" in result.stderr and f"wrote {matrix}" in result.stderr
    found = ImportanceMatrix.read(matrix)
    assert (found.datasets, found.chunks, found.chunk_size) == ((str(text),), 2, 32)
    again = invoke("imatrix", TINY, *options)
    assert again.exit_code == 2 and "is there already" in again.stderr
    facts = json.loads(invoke("imatrix", TINY, *options, "--force", "--json").stdout)
    assert facts == {
        "file": str(matrix),
        "tensors": len(found.entries),
        "chunks": 2,
        "chunk_size": 32,
    }
    made = invoke("quantize", TINY, out, "Q8_0", "--imatrix", matrix, "--allow-requantize")
    assert made.exit_code == 0, made.stderr
    with GGUFFile.open(out) as file:
        assert file.metadata["quantize.imatrix.entries_count"] == len(found.entries)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "give a text with -f"),
        (["-f", "/nowhere"], 2, "No such file"),
        (["-f", "{text}"], 2, "one chunk takes 256"),
        (["-f", "{text}", "-o", "{text}", "--force"], 2, "is not a GGUF file"),
        (["-f", "{text}", "-o", TINY, "--force"], 2, "is the model that is read"),
        (["-f", "{text}", "-o", "/nowhere/a.gguf"], 2, "there is no directory"),
    ],
)
def test_bad_use_of_imatrix(tmp_path, monkeypatch, arguments, status, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("Short.")
    places = {"text": str(tmp_path / "text.txt")}
    result = invoke("imatrix", TINY, *(each.format(**places) for each in arguments))
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in result.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["text.txt"]
