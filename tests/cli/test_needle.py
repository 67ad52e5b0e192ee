import json
import re

import pytest
from click.testing import CliRunner

from motet.cli import main
from motet.cli.demo import shipped_model
from motet.evals.haystack import Haystacks
from motet.evals.needle import search
from motet.evals.passkeys import Passkeys
from motet.evals.variants import PLAIN, Variant
from motet.self_extend import AutoExtend, SelfExtend
from tests.evals.models import loaded
from tests.models import tiny

TINY = str(shipped_model())
SMALL = ("--lengths", "130,300", "--depths", "2", "--seeds", "2")


def invoke(*arguments: str, model: str = TINY):
    return CliRunner().invoke(main, ["needle", model, *arguments])


def facts(*arguments: str) -> dict:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_json_is_what_the_library_finds():
    given = facts(*SMALL)
    maker = Haystacks(loaded("motet-tiny").tokenizer)
    trials = [
        maker.make("passkey", n, d, s) for n in (130, 300) for d in (0.0, 1.0) for s in (0, 1)
    ]
    variants = [Variant("plain", None), Variant("Self-Extend auto", AutoExtend())]
    expected = [
        vars(one)
        for variant in variants
        for some in search(loaded("motet-tiny"), trials, variant)
        for one in some
    ]
    assert given["results"] == expected
    assert given["trained"] == 256
    cell = given["cells"][0]
    assert (cell["task"], cell["variant"]) == ("passkey", "plain")
    assert (cell["length"], cell["depth"]) == (130, 0.0)
    assert cell["found"] == sum(one["exact"] for one in expected[:2]) / 2


def test_maps_for_people():
    result = invoke(*SMALL, "--task", "passkey", "--task", "order")
    assert result.exit_code == 0
    for title in ("passkey, plain", "passkey, Self-Extend auto", "order, plain"):
        assert title in result.stdout
    assert len(re.findall(r"\d\.\d\d", result.stdout)) == 2 * 2 * 2 * 2
    assert "trained for 256 tokens" in result.stdout
    assert re.search(r"32 of 32: Self-Extend auto: \d+ of 16 found", result.stderr)
    assert "\x1b" not in result.stdout


def test_the_setting_that_was_asked_for():
    given = facts(*SMALL, "--self-extend", "4:64", "--self-extend-scale", "log")
    variants = {one["variant"] for one in given["results"]}
    assert variants == {"plain", f"Self-Extend {SelfExtend(4, 64, 'log')}"}


def test_prompts_in_longlms_own_form():
    given = facts("--task", "longlm", "--lengths", "256,400", "--depths", "2", "--seeds", "1")
    maker = Passkeys(loaded("motet-tiny").tokenizer)
    trials = [maker.make(n, d, 0) for n in (256, 400) for d in (0.0, 1.0)]
    assert [(one["task"], one["length"], one["depth"]) for one in given["results"][:4]] == [
        ("longlm", trial.length, trial.depth) for trial in trials
    ]
    nats = [one.nll for some in search(loaded("motet-tiny"), trials, PLAIN) for one in some]
    assert [one["nll"] for one in given["results"][:4]] == nats


def test_a_score_by_likelihood():
    given = facts(*SMALL, "--task", "order", "--score", "likelihood")
    first = [one["preferred"] for one in given["results"][:2]]
    assert given["cells"][0]["found"] == sum(first) / 2


def test_default_lengths_are_times_the_trained_one():
    given = facts("--depths", "1", "--seeds", "1")
    assert [one["length"] for one in given["results"][:4]] == [128, 256, 512, 1024]
    assert {one["depth"] for one in given["results"]} == {0.5}


def test_results_are_gone_on_from(tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    whole = facts(*SMALL, "--results", str(path))
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 16
    path.write_bytes(b"".join(lines[:10]) + lines[10][:20])  # ended in the middle of a line
    searched = []
    monkeypatch.setattr(
        "motet.evals.needle.search",
        lambda model, trials, variant, **rest: (
            searched.extend(trials) or search(model, trials, variant, **rest)
        ),
    )
    again = facts(*SMALL, "--results", str(path))
    assert len(searched) == 16 - 9

    def by_key(given):
        return sorted(given["results"], key=str)

    assert by_key(again) == by_key(whole)
    more = facts(*SMALL[:-1], "3", "--results", str(path))
    assert len(searched) == 7 + 8 and len(more["results"]) == 24


def test_results_of_another_model_or_text_are_refused(tmp_path):
    path = str(tmp_path / "results.jsonl")
    facts(*SMALL, "--results", path)
    other = tmp_path / "text.txt"
    other.write_text("A dog ran by the sea. " * 99)
    for arguments, message in (
        (("-f", str(other)), "of another text"),
        (("--digits", "4"), "of another digits: 5, not 4"),
        (("--kv-type", "q8_0"), "of another kv type"),
    ):
        result = invoke(*SMALL, *arguments, "--results", path)
        assert (result.exit_code, result.stdout) == (2, "")
        assert message in result.stderr


def test_a_picture(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'motet[plots]'")
    path = tmp_path / "maps.svg"
    assert invoke(*SMALL, "--plot", str(path)).exit_code == 0
    assert "passkey, Self-Extend auto" in path.read_text()


@pytest.fixture
def examples(tmp_path):
    """LongLM's, of about 250, 520 and 1,000 tokens."""
    path = tmp_path / "passkey_examples.jsonl"
    grass = "The grass is green. The sky is blue. The sun is yellow. "
    lines = [
        {
            "input": grass * 5 + f"The pass key is {key}. Remember it. " + grass * count,
            "target": key,
            "passkey_position": len(grass) * 5,
        }
        for key, count in (("48213", 4), ("90817", 16), ("55162", 40))
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return str(path)


def test_longlms_examples(examples):
    given = facts("-f", examples, "--max-length", "600")
    assert [one["seed"] for one in given["results"]] == [1, 2, 1, 2]
    assert all(one["exact"] for one in given["results"] if one["variant"] != "plain")


def test_what_is_left_out_is_said(examples):
    result = invoke("-f", examples, "--max-length", "600")
    assert re.search(r"left out: line 3 \(\d{4} tokens\)", result.stderr)
    result = invoke("-f", examples, "--max-length", "99")
    assert result.exit_code == 2
    assert re.search(r"every example is longer .*the shortest, line 1, has \d+", result.stderr)


def test_an_example_beyond_the_reach_is_named(examples):
    result = invoke("-f", examples, "--self-extend", "2:64")
    assert (result.exit_code, result.stdout) == (2, "")
    pattern = r"line 2 takes \d+ tokens, and Self-Extend group 2, window 64 reaches 448"
    assert re.search(pattern, result.stderr) and "--max-length 448" in result.stderr


def test_a_model_without_positions_runs_plain(tmp_path, monkeypatch):
    model = tiny.load(tmp_path, "mamba")
    model.tokenizer = loaded("mamba").tokenizer
    model.tokenizer.piece = lambda token: b" x"
    monkeypatch.setattr("motet.cli.needle.load_text_model", lambda path, threads: model)
    result = invoke("--lengths", "90", "--depths", "1", "--seeds", "1", "--json")
    assert result.exit_code == 0, result.stderr
    assert "plain alone: " in result.stderr and "is recurrent" in result.stderr
    assert {one["variant"] for one in json.loads(result.stdout)["results"]} == {"plain"}
    result = invoke("--self-extend", "auto", "--json")
    assert result.exit_code == 1 and "is recurrent" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lengths", "256,x"], "not a list of lengths"),
        (["--lengths", "0"], "not a list of lengths"),
        (["--lengths", ""], "not a list of lengths"),
        (["--lengths", "40"], "haystack of 40 tokens has no room"),
        (["--depths", "0"], "--depths"),
        (["--task", "hay"], "--task"),
        (["--task", "longlm", "-f", "text.txt"], "--task longlm has a text of its own"),
        (["--plot", "map.jpg"], "not a picture"),
        (["--max-length", "9"], "--max-length is for a .jsonl file"),
        (["--self-extend", "4:64", "--lengths", "900"], "beyond what Self-Extend with group 4"),
        (["-f", "/nowhere"], "No such file"),
    ],
)
def test_bad_use(arguments, message):
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.parametrize("option", ["--task=order", "--lengths=9", "--depths=2", "--digits=4"])
def test_examples_are_whole(examples, option):
    result = invoke("-f", examples, option)
    assert result.exit_code == 2
    assert "makes haystacks, and" in result.stderr


def test_a_file_of_no_examples(tmp_path):
    path = tmp_path / "some.jsonl"
    path.write_text("{}\n")
    result = invoke("-f", str(path))
    assert result.exit_code == 2
    assert "line 1 is not a pass-key example" in result.stderr
