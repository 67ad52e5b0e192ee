import json

import pytest
from click.testing import CliRunner

from motet.cli import main
from motet.cli.demo import shipped_model
from motet.evals.hellaswag import hellaswag
from motet.evals.tasks import read_tasks, shuffled
from motet.model import Model

TINY = str(shipped_model())
FILE = "".join(
    f"The {who} went to the {where}. {who} {n}\n{n % 4}\nwas happy.\nran home with a {who}.\n"
    f"sat in the sun and ate some soup.\nis {n}.\n"
    for n, (who, where) in enumerate(
        [("dog", "park"), ("cat", "house"), ("girl", "tree"), ("boy", "school"), ("bird", "sky")]
    )
)


@pytest.fixture
def tasks(tmp_path):
    path = tmp_path / "tasks.txt"
    path.write_text(FILE)
    return str(path)


def invoke(*arguments: str):
    return CliRunner().invoke(main, ["hellaswag", *arguments])


def test_json_is_what_the_library_gives(tasks):
    result = invoke(TINY, "-f", tasks, "--parallel", "2", "--json")
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    *_, expected = hellaswag(Model.load(TINY), shuffled(read_tasks(FILE, ""), 5))
    assert facts == {
        "accuracy": expected.accuracy,
        "interval": list(expected.interval),
        "tasks": 5,
        "correct": expected.correct,
        "tokens": expected.tokens,
        "answers": [vars(answer) | {"scores": list(answer.scores)} for answer in expected.answers],
    }
    assert [line.split(": ")[0] for line in result.stderr.splitlines()] == [
        "2 of 5",
        "4 of 5",
        "5 of 5",
    ]


def answers(*arguments: str) -> list:
    return json.loads(invoke(TINY, *arguments, "--json").stdout)["answers"]


def test_no_way_to_batch_changes_a_score(tasks):
    alone = answers("-f", tasks, "--parallel", "1")
    for options in ("--parallel 16", "-b 9 -ub 4 --split equal", "-ub 1 --split sequence"):
        assert answers("-f", tasks, *options.split()) == alone


def test_which_tasks(tasks):
    def numbers(*options: str) -> list[int]:
        return [answer["task"] for answer in answers("-f", tasks, *options)]

    assert numbers("--tasks", "3", "--in-order") == [1, 2, 3]
    drawn = numbers()
    assert sorted(drawn) == [1, 2, 3, 4, 5]
    assert numbers("--tasks", "2") == numbers("--seed", "1", "--tasks", "2") == drawn[:2]
    assert {tuple(numbers("--seed", str(seed), "--tasks", "2")) for seed in range(5)} != {
        tuple(drawn[:2])
    }
    assert numbers("--tasks", "99") == drawn


def test_a_line_for_people(tasks):
    result = invoke(TINY, "-f", tasks)
    assert result.exit_code == 0
    assert result.stdout.startswith("accuracy ")
    assert "% (95 % interval by Wilson: " in result.stdout
    assert result.stdout.endswith(" %), 5 tasks\n")


def test_without_a_file_it_says_where_to_get_one():
    result = invoke(TINY)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "hellaswag_val_full.txt" in result.stderr


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        (FILE.replace("\n2\n", "\n7\n").encode(), 2, "line 14 is '7'"),
        (FILE.encode()[:-9], 2, "line 29 is the last"),
        (b"a\xff", 2, "not UTF-8 at byte 1"),
        (("so " * 400 + FILE).encode(), 1, "task 1, line 1, takes"),
    ],
)
def test_bad_files(tmp_path, text, status, message):
    path = tmp_path / "tasks.txt"
    path.write_bytes(text)
    result = invoke(TINY, "-f", str(path))
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "0"], "--tasks"),
        (["--seed", str(1 << 32)], "--seed"),
        (["--parallel", "0"], "--parallel"),
        (["-f", "/nowhere"], "No such file"),
    ],
)
def test_bad_use(tasks, arguments, message):
    result = invoke(TINY, "-f", tasks, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
