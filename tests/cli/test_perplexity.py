import json

import pytest
from click.testing import CliRunner

from motet.cli import main
from motet.cli.demo import shipped_model
from motet.evals.perplexity import perplexity
from motet.model import Model

TINY = str(shipped_model())
STORY = "Once upon a time there was a little dog. He went to the park and saw a red ball. " * 12


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(STORY)
    return str(path)


def invoke(*arguments: str):
    return CliRunner().invoke(main, ["perplexity", *arguments])


def test_json_is_what_the_library_gives(text):
    result = invoke(TINY, "-f", text, "--ctx", "64", "--parallel", "2", "--json")
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    model = Model.load(TINY)
    *_, expected = perplexity(model, model.tokenizer.encode(STORY), ctx=64)
    assert facts["perplexity"] == expected.perplexity
    assert facts["nll"] == expected.nll
    assert facts["tokens"] == expected.tokens
    assert tuple(facts["chunks"]) == expected.chunks
    count = len(expected.chunks)
    assert f"{count} of {count}: {expected.perplexity:.4f}" in result.stderr


@pytest.mark.parametrize(
    ("options", "groups"),
    [
        ("-b 64 -ub 64", 1),  # 1 chunk per batch
        ("-b 256 -ub 256", 4),  # 4 chunks per batch
        ("-b 16", 1),  # 4 batches per chunk
        ("-b 64 -ub 16", 1),  # 4 ubatches per batch
        ("-b 256 -ub 64 --split equal", 4),
        ("--batch 30 --parallel 3 --ubatch 7 --split sequence", 3),
    ],
)
def test_no_way_to_batch_changes_a_digit(text, options, groups):
    plain = json.loads(invoke(TINY, "-f", text, "-c", "64", "--json").stdout)
    result = invoke(TINY, "-f", text, "-c", "64", *options.split(), "--json")
    assert json.loads(result.stdout) == plain
    assert result.stderr.startswith(f"{groups} of ")  # chunks after the first batch


def test_a_line_for_people(text):
    result = invoke(TINY, "-f", text, "--ctx", "64", "--chunks", "1")
    assert result.stdout.startswith("perplexity ")
    assert "±" in result.stdout
    assert "1 of 1: " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ctx", "250"], "one chunk takes 250"),
        (["--ctx", "2"], "ctx"),
        (["--ctx", "257"], "trained for 256"),
        (["--chunks", "0"], "chunks"),
        (["-b", "0"], "--batch"),
        (["--split", "even"], "--split"),
        (["-f", "/nowhere"], "No such file"),
    ],
)
def test_bad_use(tmp_path, arguments, message):
    path = tmp_path / "text.txt"
    path.write_text("Too short a text.")
    result = invoke(TINY, "-f", str(path), *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_a_text_that_is_no_text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"ab\xfe")
    result = invoke(TINY, "-f", str(path))
    assert result.exit_code == 2
    assert "not UTF-8 at byte 2" in result.stderr


def test_chunks_fit_the_trained_length_by_default(text):
    result = invoke(TINY, "-f", text, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["ctx"] == 256
    longer = invoke(TINY, "-f", text, "--self-extend", "8:64")
    assert longer.exit_code == 2 and "one chunk takes 512" in longer.stderr
