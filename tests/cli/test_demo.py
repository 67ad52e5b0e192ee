import pytest
from click.testing import CliRunner

from motet.cli import demo, main

SHORT = ("demo", "--tokens", "4")


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
    monkeypatch.setattr(demo, "same", lambda first, i, second, j: i != 5)
    result = CliRunner().invoke(main, list(SHORT))
    assert result.exit_code == 1
    assert "7 of 8 answers" in result.stdout
    assert "differs from the same answer alone" in result.stderr


@pytest.mark.parametrize("option", [["--model", "/nowhere.gguf"]])
def test_another_model(option):
    result = CliRunner().invoke(main, [*SHORT, *option])
    assert result.exit_code == 1
    assert "/nowhere.gguf" in result.stderr
