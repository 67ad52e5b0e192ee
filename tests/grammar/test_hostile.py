"""What is made to take long, much memory or the stack: a quick error, or it works."""

import subprocess
import sys
from pathlib import Path

import pytest

from motet.errors import MotetError
from tests.grammar.bytewise import compiler


def test_none_ends_the_process_or_takes_for_ever() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.grammar.hostile"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and done.stdout.endswith("done\n"), done.stdout + done.stderr


def test_an_answer_that_becomes_too_complex_fails_alone() -> None:
    rules = "".join(f"a{i} ::= a{i + 1} root?\n" for i in range(4500))
    matcher = compiler().gbnf_or_lark(f'root ::= a0\n{rules}a4500 ::= "x"').matcher()
    with pytest.raises(MotetError, match="can't be followed any further"):
        for _ in range(3):
            matcher.mask()
            matcher.take(ord("x"))


LONG = 900_000


@pytest.mark.parametrize(
    "text",
    [
        "x" * LONG,
        "\n" * 1000 + " " * LONG,
        "a[\n" * 4000 + "x" * LONG,
        "a\n" * 4000 + "\r" * LONG,
        'start: "a"' + " " * LONG + "b",
        'start: "a"' + "\t" * LONG + "%",
        'start: "' + "x" * LONG,
        'start: "a"{' + "1" * LONG + "}",
        'root ::= "a"{1,' + " " * LONG,
        'root ::= "a"{1' + " " * LONG,
        'root ::= "a"' + "\v" * LONG + "%",
    ],
    ids=lambda text: ascii(text[:12]),
)
def test_nothing_of_a_grammar_takes_its_length_squared(text: str) -> None:
    with pytest.raises(MotetError):
        compiler().gbnf_or_lark(text)


@pytest.mark.parametrize("blank", " \n")
def test_nor_does_a_message_that_says_what_is_wrong(blank: str) -> None:
    with pytest.raises(MotetError):
        compiler().json_schema({"type": blank * LONG})
    with pytest.raises(MotetError):
        compiler().regex("(" + blank * 90_000)


@pytest.mark.parametrize(
    "rules",
    [
        'start: a\na[stop="x"]: "y"',
        'start: a\n ?a [lazy, stop = "x"]: "y"',
        'start[temperature=0.5]: "y"',
        'start: /[x]/ a\na[stop="]"]: "y"',
    ],
)
def test_attributes_that_would_be_ignored(rules: str) -> None:
    with pytest.raises(MotetError, match="not supported"):
        compiler().lark(rules)


def test_what_only_looks_like_attributes() -> None:
    compiler().lark('start: "[" "stop=" "]" /[a]stop=/')
