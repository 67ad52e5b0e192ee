"""``motet run`` under a schema, a regular expression or a grammar."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from motet.cli import main
from motet.cli.demo import shipped_model

pytest.importorskip("llguidance", reason="needs llguidance: pip install 'motet[grammar]'")


def run(*arguments: str) -> Result:
    command = ["run", str(shipped_model()), "Once", "--seed", "1", *arguments]
    return CliRunner().invoke(main, command)


def test_the_answer_alone_is_on_standard_output(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3}')
    answer = run("--json-schema", str(schema))
    assert answer.exit_code == 0 and set(json.loads(answer.stdout)) <= {"a", "b"}
    grammar = tmp_path / "grammar.gbnf"
    grammar.write_text('root ::= "yes" | "no"\n')
    assert run("--grammar", str(grammar)).stdout in ("yes\n", "no\n")
    assert run("--regex", "[0-9]{4}").stdout.strip().isdigit()
    assert json.loads(run("--regex", "a{3}", "--json").stdout)["text"] == "aaa"


def test_what_can_not_be_is_one_line(tmp_path: Path) -> None:
    both = run("--regex", "a", "--grammar", str(tmp_path / "no"))
    assert both.exit_code == 2 and "held to one of them" in both.stderr
    missing = run("--json-schema", str(tmp_path / "no.json"))
    assert missing.exit_code == 2 and "no.json" in missing.stderr
    refused = run("--regex", "(")
    assert refused.exit_code == 2 and refused.stderr.strip().count("\n") == 0
