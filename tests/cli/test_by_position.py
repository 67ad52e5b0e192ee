import json
import re

import pytest
from click.testing import CliRunner

from motet.cli import main
from motet.cli.demo import shipped_model
from motet.cli.perplexity import draw_by_position
from motet.evals.long_perplexity import Bucket, by_position, passages_of
from motet.evals.variants import Variant
from motet.self_extend import AutoExtend, SelfExtend
from tests.evals.models import loaded

TINY = str(shipped_model())
STORY = "Once upon a time there was a little dog. He went to the park and saw a red ball. " * 40
SMALL = ("--by-position", "-c", "400", "--chunks", "2")


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(STORY)
    return str(path)


def invoke(*arguments: str):
    return CliRunner().invoke(main, ["perplexity", TINY, *arguments])


def test_json_is_what_the_library_gives(text):
    result = invoke("-f", text, *SMALL, "--json")
    assert result.exit_code == 0, result.stderr
    given = json.loads(result.stdout)
    model = loaded("motet-tiny")
    tokens = model.tokenizer.encode(STORY)
    variants = [Variant("plain", None), Variant("Self-Extend auto", AutoExtend())]
    *_, expected = by_position(model, passages_of(tokens, 400, 2, model.tokenizer.bos), variants)
    assert (given["trained"], given["length"], given["passages"]) == (256, 400, 2)
    assert [
        (one["first"], one["last"], tuple(one["nll"].values())) for one in given["buckets"]
    ] == [(one.first, one.last, one.nll) for one in expected.means()]
    assert list(given["buckets"][0]["nll"]) == [variant.name for variant in variants]


def test_a_table_for_people(text):
    result = invoke("-f", text, *SMALL)
    assert result.exit_code == 0
    rows = re.findall(r"^ +(\d+) to (\d+) +([\d.]+) +([\d.]+)(.*)$", result.stdout, re.MULTILINE)
    assert rows[0][0] == "16" and rows[-1][1] == "399"
    for first, _, plain, extended, note in rows:
        beyond = int(first) >= 256
        assert note.strip() == ("beyond the trained length" if beyond else "")
        assert (plain == extended) or beyond
    assert rows[-1][2] != rows[-1][3]
    assert "2 of 2: nats a token: plain " in result.stderr


def test_the_setting_that_was_asked_for(text):
    result = invoke("-f", text, *SMALL, "--self-extend", "4:64", "--json")
    names = list(json.loads(result.stdout)["buckets"][0]["nll"])
    assert names == ["plain", f"Self-Extend {SelfExtend(4, 64)}"]


def test_a_picture(text, tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'motet[plots]'")
    path = tmp_path / "curves.svg"
    assert invoke("-f", text, *SMALL, "--plot", str(path)).exit_code == 0
    assert "trained length, 256" in path.read_text()


def test_the_default_length_is_beyond_the_trained_one(text):
    result = invoke("-f", text, "--by-position", "--chunks", "1", "--json")
    assert result.exit_code == 2
    assert "a passage takes 2048" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot", "a.svg"], "--plot draws what --by-position measures"),
        (["--by-position", "--plot", "a.jpg"], "not a picture"),
        (["--by-position", "--parallel", "2"], "--parallel has no meaning"),
        (["--by-position", "-b", "64"], "--batch has no meaning"),
        (["--by-position", "--split", "equal"], "--split has no meaning"),
        (["--by-position", "-c", "900", "--self-extend", "2:64"], "beyond what Self-Extend"),
        (["--by-position", "-c", "90000"], "a passage takes 90000"),
    ],
)
def test_bad_use(text, arguments, message):
    result = invoke("-f", text, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_the_first_tokens_do_not_flatten_the_curves(tmp_path, monkeypatch):
    drawn = {}
    draw = lambda curves, *_, **__: drawn.update(curves)  # noqa: E731
    monkeypatch.setattr("motet.cli.pictures.save_curves", draw)
    buckets = [Bucket(1, 1, (99.0,)), Bucket(8, 15, (9.0,)), Bucket(16, 22, (3.0,))]
    draw_by_position(["plain"], buckets, 64, tmp_path / "a.svg")
    assert list(drawn["plain"][1]) == [3.0]
