import re
from dataclasses import replace

import pytest
from click.testing import CliRunner

from motet.cli import demo, main
from motet.cli.demo import LONGEST, can_extend, shipped_model
from tests.evals.models import loaded

SHORT = ("demo", "-n", "4")


def test_a_story_and_eight_answers_that_are_the_same_alone():
    result = CliRunner().invoke(main, [*SHORT, "--seed", "3"])
    assert result.exit_code == 0
    assert "Once upon a time" in result.stdout
    assert "8 of 8 answers equal the same answer alone, bit for bit" in result.stdout
    assert all(prompt in result.stdout for prompt in demo.PROMPTS)
    assert "\x1b" not in result.stdout  # sober where it is no terminal


def test_the_seed_makes_the_story():
    stories = [
        CliRunner().invoke(main, [*SHORT, "--seed", seed]).stdout.split("prompt ")[0]
        for seed in ("3", "3", "4")
    ]
    assert stories[0] == stories[1] != stories[2]


def test_a_difference_is_a_failure(monkeypatch):
    monkeypatch.setattr("motet.evals.solo.same", lambda first, i, second, j: i != 5)
    result = CliRunner().invoke(main, list(SHORT))
    assert result.exit_code == 1
    assert "7 of 8 answers" in result.stdout
    assert "differs from the same answer alone" in result.stderr


@pytest.mark.parametrize("option", [["--model", "/nowhere.gguf"]])
def test_another_model(option):
    result = CliRunner().invoke(main, [*SHORT, *option])
    assert result.exit_code == 1
    assert "/nowhere.gguf" in result.stderr


@pytest.mark.parametrize(("name", "what"), [("t5", "encoder-decoder"), ("embedding", "encoder")])
def test_models_that_do_not_go_on(name, what):
    model = str(shipped_model().with_name(f"motet-tiny-{name}.gguf"))
    result = CliRunner().invoke(main, [*SHORT, "--model", model])
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"is an {what}:" in result.stderr


def test_it_ends_with_a_key_beyond_the_trained_length():
    shown = CliRunner().invoke(main, list(SHORT)).stdout.partition("A key in 1024 tokens")[2]
    assert "trained for 256" in shown
    told = re.search(r"The pass key is (\d{5})\. Remember it\. (\d{5}) is the pass key", shown)
    assert told is not None and told[1] == told[2]
    answers = dict(re.findall(r"^[!=] ([\w-]+): +(.*)$", shown, re.MULTILINE))
    assert answers["Self-Extend"] == told[1] != answers["plain"]
    assert f"= Self-Extend: {told[1]}" in shown and "! plain:" in shown
    plain, extended = [], []
    for line in re.findall(r"^ +\d+% .*$", shown, re.MULTILINE):
        shares = [float(share) for share in re.findall(r"\d\.\d\d", line)]
        plain.append(shares[:3])
        extended.append(shares[3:])
    assert len(plain) == 5 and sum(map(sum, extended)) > sum(map(sum, plain))


def test_only_where_it_means_something_and_takes_a_moment(monkeypatch):
    tiny = loaded("motet-tiny")
    assert can_extend(tiny)
    assert not can_extend(loaded("mamba"))
    monkeypatch.setattr(tiny, "config", replace(tiny.config, context_length=LONGEST + 1))
    assert not can_extend(tiny)
