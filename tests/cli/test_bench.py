import json

import pytest
from click.testing import CliRunner

from motet.cli import main
from motet.cli.demo import shipped_model
from motet.kernels import CPU

TINY = str(shipped_model())
SMALL = ("--lengths", "4,8", "-n", "2", "--parallel", "1,2", "--repeat", "1")


@pytest.fixture(autouse=True)
def known_bandwidth(monkeypatch):
    """Measuring it takes a gigabyte; its own test is with the kernels."""
    monkeypatch.setattr(CPU, "read_bandwidth", lambda self: 20.0)


def invoke(*arguments: str, model: str = TINY):
    return CliRunner().invoke(main, ["bench", model, *arguments])


def test_json():
    result = invoke(*SMALL, "--json")
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert facts["read_bandwidth_gb_per_s"] == 20.0
    assert facts["bytes_per_token"] > 1e6
    rows = facts["results"]
    assert [(row["test"], row["prompt"], row["sequences"]) for row in rows] == [
        ("prefill", 4, 1),
        ("decode", 4, 1),
        ("decode", 4, 2),
        ("prefill", 8, 1),
        ("decode", 8, 1),
        ("decode", 8, 2),
    ]
    for row in rows:
        assert row["tokens_per_second"] == pytest.approx(row["tokens"] / row["seconds"][0])
        if row["test"] == "decode":
            read = 2 * facts["bytes_per_token"] / row["seconds"][0]
            assert row["bandwidth_share"] == pytest.approx(read / 20e9)


def test_a_table():
    result = invoke(*SMALL)
    assert result.exit_code == 0
    assert "decode after 8" in result.stdout
    assert "memory is read at 20.0 GB/s" in result.stdout
    assert "prefill 4: " in result.stderr


def beside(name: str) -> str:
    return str(shipped_model().with_name(f"motet-tiny-{name}.gguf"))


def test_an_encoder_encodes_alone():
    facts = json.loads(invoke(*SMALL, "--json", model=beside("embedding")).stdout)
    assert [(row["test"], row["prompt"]) for row in facts["results"]] == [
        ("encode", 4),
        ("encode", 8),
    ]
    shown = invoke("-n", "500", "--repeat", "1", model=beside("embedding")).stdout
    assert "encode 64" in shown and "a token reads" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lengths", "400"], "prompts of up to 400 tokens, but the model was trained for 256"),
        (["-n", "400"], "answers of up to 400 tokens, but the model was trained for 256"),
    ],
)
def test_what_is_too_long_for_an_encoder_decoder(arguments, message):
    result = invoke(*arguments, model=beside("t5"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr and "Self-Extend" not in result.stderr


def test_prompts_that_fit_are_the_default():
    facts = json.loads(invoke("-n", "2", "--parallel", "1", "--repeat", "1", "--json").stdout)
    assert {row["prompt"] for row in facts["results"]} == {64}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lengths", "64,x"], "'64,x' is not a list of numbers"),
        (["--parallel", "0"], "'0' is not a list of numbers"),
        (["--lengths", "255"], "trained for 256"),
    ],
)
def test_bad_use(arguments, message):
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_answers_with_speculation_and_without():
    result = invoke(*SMALL, "--json", "--speculate", "lookup")
    rows = json.loads(result.stdout)["written"]
    assert [(row["prompt"], row["sequences"], row["speculate"]) for row in rows] == [
        (prompt, sequences, way)
        for prompt in (4, 8)
        for sequences in (1, 2)
        for way in ("none", "lookup")
    ]
    assert all(row["tokens"] == 2 * row["sequences"] for row in rows)
    assert all(row["proposed"] == 0 for row in rows if row["speculate"] == "none")
    result = invoke(*SMALL, "--lengths", "8", "--speculate", TINY)
    assert "a step" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "written after 8, 2 at once, none: " in result.stderr


def test_what_cannot_draft_is_refused_before_anything_is_measured():
    encoder = TINY.replace("motet-tiny", "motet-tiny-embedding")
    result = invoke(*SMALL, "--speculate", encoder)
    assert result.exit_code == 2
    assert "can't draft" in result.stderr
    assert "tokens/s" not in result.stderr


def test_prompts_to_speculate_on_are_a_texts_beginning(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time")
    assert invoke(*SMALL, "--lengths", "4", "--speculate", "auto", "-f", str(text)).exit_code == 0
    result = invoke(*SMALL, "--lengths", "20", "--speculate", "auto", "-f", str(text))
    assert result.exit_code == 2
    assert "prompts of 20 are asked for" in result.stderr
    assert "--file goes with --speculate" in invoke(*SMALL, "-f", str(text)).stderr
