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
