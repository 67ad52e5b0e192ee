"""A file of results is gone on from, or refused; never mixed up."""

import json
from pathlib import Path

import pytest

from motet.errors import MotetError, OptionError
from motet.evals.needle import Found
from motet.evals.needle_results import Results

SETTINGS = {"model": "abcd", "kv type": "f16", "text": None, "digits": 5}
ONE = Found("plain", "passkey", 64, 0.5, 0, True, True, 0.25)
TWO = Found("auto", "passkey", 64, 1.0, 1, False, True, 1.0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.jsonl"


def test_what_was_added_is_known_again(path):
    results = Results(path, SETTINGS)
    assert results.known == {}
    results.add([ONE])
    results.add([TWO])
    assert results.known == {ONE.key: ONE, TWO.key: TWO}
    assert Results(path, SETTINGS).known == results.known
    assert len(path.read_text().splitlines()) == 3


def test_any_place_where_a_kill_cut_the_file(path):
    Results(path, SETTINGS).add([ONE, TWO])
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        results = Results(path, SETTINGS)
        count = sum(end <= size for end in ends) - 1
        assert list(results.known.values()) == [ONE, TWO][: max(count, 0)]
        results.add([one for one in (ONE, TWO) if one.key not in results.known])
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model", "f" * 32, "results are of another model: abcd, not fffff"),
        ("kv type", "f32", "another kv type: f16, not f32"),
        ("text", "1234", "another text: None, not 1234"),
        ("digits", 6, "another digits: 5, not 6"),
    ],
)
def test_results_of_other_settings_are_refused(path, name, value, message):
    Results(path, SETTINGS).add([ONE])
    before = path.read_bytes()
    with pytest.raises(OptionError, match=message):
        Results(path, SETTINGS | {name: value})
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", ["hello\n", "hello", "[1]\n", '{"kind": "other"}\n', "\x00" * 99, "[" * 99_999]
)
def test_other_files_are_refused_and_left_alone(path, content):
    path.write_text(content)
    with pytest.raises(OptionError, match="not a results file of this version of motet needle"):
        Results(path, SETTINGS)
    assert path.read_text() == content


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "3",
        "{}",
        json.dumps({"variant": 3}),
        json.dumps(vars(ONE) | {"length": "64"}),
        json.dumps(vars(ONE) | {"more": 1}),
    ],
)
def test_lines_that_are_not_results(path, line):
    Results(path, SETTINGS).add([ONE])
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(OptionError, match="line 3 is not a result"):
        Results(path, SETTINGS)


def test_a_folder_and_a_place_that_is_not_there(tmp_path):
    for path in (tmp_path, tmp_path / "missing" / "file"):
        with pytest.raises(MotetError, match="the results file"):
            Results(path, SETTINGS)


def test_devices_are_refused():
    """Reading one may never end."""
    with pytest.raises(OptionError, match="it is not a regular file"):
        Results(Path("/dev/full"), SETTINGS)
