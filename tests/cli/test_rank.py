import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import motet
from motet.cli import main
from tests.models import readers

QUERY, DOCUMENTS = "the hello", ["abc.", "hello", "zzz zzz", "the un able"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(readers.bert(tmp_path_factory.mktemp("models"), labels=1))


@pytest.fixture(scope="module")
def scores(path: str) -> Iterator[np.ndarray]:
    with motet.LLM(path) as llm:
        yield llm.rank(QUERY, DOCUMENTS)


def invoke(*arguments: str, **options: object) -> Result:
    return CliRunner().invoke(main, ["rank", *arguments], **options)  # type: ignore[arg-type]


def test_json_has_the_bits_of_the_library(path: str, scores: np.ndarray):
    facts = json.loads(invoke(path, "-q", QUERY, *DOCUMENTS, "--json").stdout)
    order = np.argsort(-scores)
    assert facts["query"] == QUERY
    assert [each["index"] for each in facts["results"]] == order.tolist()
    found = np.array([each["score"] for each in facts["results"]], np.float32)
    assert np.array_equal(found, scores[order])
    assert [each["document"] for each in facts["results"]] == [DOCUMENTS[i] for i in order]


def test_the_best_comes_first(path: str, scores: np.ndarray, tmp_path: Path):
    result = invoke(path, "-q", QUERY, *DOCUMENTS)
    assert result.exit_code == 0
    assert [line.split(maxsplit=2) for line in result.stdout.splitlines()] == [
        [f"{scores[i]:.4f}", str(i + 1), DOCUMENTS[i]] for i in np.argsort(-scores)
    ]
    file = tmp_path / "documents.txt"
    file.write_text("\n".join(DOCUMENTS))
    for other in (
        invoke("-m", path, *DOCUMENTS, "-q", QUERY),
        invoke(path, "-f", str(file), "-q", QUERY),
        invoke(path, "-q", QUERY, input=file.read_text()),
    ):
        assert other.stdout == result.stdout


def test_the_best_alone(path: str, scores: np.ndarray):
    every = invoke(path, "-q", QUERY, *DOCUMENTS).stdout.splitlines()
    assert invoke(path, "-q", QUERY, *DOCUMENTS, "--top", "2").stdout.splitlines() == every[:2]
    facts = json.loads(invoke(path, "-q", QUERY, *DOCUMENTS, "--top", "9", "--json").stdout)
    assert len(facts["results"]) == len(DOCUMENTS)


def test_what_is_too_long(path: str):
    result = invoke(path, "-q", QUERY, "abc", "hello " * 40)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "document 2, 'hello hello" in result.stderr and "--truncate" in result.stderr
    assert invoke(path, "-q", QUERY, "abc", "hello " * 40, "--truncate").exit_code == 0


def test_what_is_no_reranker(tmp_path: Path):
    result = invoke(str(readers.bert(tmp_path)), "-q", QUERY, *DOCUMENTS)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is no reranker" in result.stderr


def test_bad_use(path: str):
    for arguments, message in (
        ([*DOCUMENTS], "--query"),
        (["-q", QUERY], "there are no documents"),
        (["-q", QUERY, "a", "-f", "b"], "not both"),
    ):
        result = invoke(path, *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert message in result.stderr
