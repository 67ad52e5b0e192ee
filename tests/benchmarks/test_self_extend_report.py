import json
import re
from pathlib import Path

import pytest

from benchmarks import self_extend_measure as measure
from benchmarks import self_extend_report as report
from benchmarks import self_extend_tables as tables
from motet.errors import OptionError
from motet.evals.haystack import Haystacks
from motet.evals.needle import Found, search
from motet.evals.variants import Variant
from motet.self_extend import AutoExtend, SelfExtend, check_reach, log_factors
from tests.evals.models import loaded

TRAINED = 256


def results(share: dict[str, float]) -> list[Found]:
    """Of each variant, so many of every ten; those at the end of a text are found by all."""
    return [
        Found(
            variant, "passkey", n, depth, seed, depth == 1 or seed < 10 * share[variant], True, 0.0
        )
        for variant in tables.NAMES
        for n in measure.SEEDS
        for depth in (0.0, 0.5, 1.0)
        for seed in range(10)
    ]


def nats(**more: float) -> dict[str, dict[int, float]]:
    names = dict(zip(("plain", "plain_log", "extended", "extended_log"), tables.NAMES, strict=True))
    return {
        variant: {n: 3.0 + (more.get(name, 0.0) if n > TRAINED else 0.0) for n in measure.SEEDS}
        for name, variant in names.items()
    }


def test_criteria_are_judged_as_measured():
    good = dict(zip(tables.NAMES, (0.1, 0.1, 0.8, 1.0), strict=True))
    text = tables.criteria({"filler": results(good)}, {"prose": nats(extended=0.09)}, TRAINED)
    rows = [line.split(" | ") for line in text.split("\n")[2:]]
    assert [row[-1] for row in rows] == ["yes |"] * 5
    assert [row[2] for row in rows] == [
        *("0.40 (0.10)", "0.87 (0.80)", "1.00 (1.00)"),
        *("+0.090", "+0.000"),
    ]
    bad = dict(zip(tables.NAMES, (0.2, 0.1, 0.6, 0.9), strict=True))
    text = tables.criteria(
        {"filler": results(bad)}, {"prose": nats(extended=0.2, extended_log=-0.2)}, TRAINED
    )
    rows = [line.split(" | ") for line in text.split("\n")[2:]]
    assert [row[-1] for row in rows] == ["no |"] * 5
    assert rows[4][2] == "-0.200"


def test_a_table_tells_all_needles_from_far_ones():
    share = dict(zip(tables.NAMES, (0.0, 0.0, 1.0, 1.0), strict=True))
    lines = tables.found_table(results(share), TRAINED).split("\n")
    assert lines[0] == "| tokens | plain | plain, log | Self-Extend | Self-Extend, log |"
    assert lines[2].startswith("| 256 (1x) | 0.33 | 0.33 |")
    assert lines[4].startswith("| 1024 (4x) | 0.33 (0.00) | 0.33 (0.00) | 1.00 (1.00) |")


def test_files_are_counted_by_length():
    found = [
        Found(variant, "passkey", length, 0.5, seed, seed < 2 and variant != "plain", True, 0.0)
        for variant in tables.NAMES
        for length, seeds in ((7418, 3), (5222, 1))
        for seed in range(seeds)
    ]
    lines = tables.files_table(found, TRAINED).split("\n")
    assert lines[2] == "| 5222 (20x) | 0 of 1 | 1 of 1 | 1 of 1 | 1 of 1 |"
    assert lines[3] == "| 7418 (29x) | 0 of 3 | 2 of 3 | 2 of 3 | 2 of 3 |"


def test_published_prompts_are_taken_once(tmp_path):
    line = {"input": "The pass key is 48213. Grass is green.", "target": "48213"}
    other = line | {"input": "Grass. " + line["input"]}
    for name, lines in (("a.jsonl", [line]), ("b.jsonl", [other, line])):
        (tmp_path / name).write_text("\n".join(map(json.dumps, lines)))
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    trials = measure.published(loaded("motet-tiny"), paths)
    assert [trial.seed for trial in trials] == [1, 1]
    assert len({trial.prompt for trial in trials}) == 2


def test_parts_are_put_in_their_places(tmp_path, monkeypatch):
    path = tmp_path / "document.md"
    path.write_text("a\n<!-- one -->\nold\n<!-- /one -->\nb\n<!-- two -->\n<!-- /two -->\n")
    monkeypatch.setattr(report, "DOCUMENT", path)
    report.fill({"one": "new \\1", "two": "x"})
    assert path.read_text() == (
        "a\n<!-- one -->\nnew \\1\n<!-- /one -->\nb\n<!-- two -->\nx\n<!-- /two -->\n"
    )
    with pytest.raises(SystemExit, match="0 places for three"):
        report.fill({"three": "x"})


def test_every_part_has_its_place_in_the_document():
    text = report.DOCUMENT.read_text("utf-8")
    source = Path(report.__file__).read_text("utf-8")
    parts = re.findall(r'^        "([a-z, ]+)": \w+_?\w*\(', source, re.MULTILINE)
    assert {"criteria", "order, likelihood", "tiny, prose"} <= set(parts)
    for name in (*parts, "cost"):
        assert text.count(f"<!-- {name} -->") == text.count(f"<!-- /{name} -->") == 1
    figures = {Path(part.split(")")[0]).name for part in text.split("](figures/")[1:]}
    made = {path.name for path in report.FIGURES.iterdir()}
    assert figures == {name for name in made if not name.startswith("page-")}


def test_costs_are_of_the_benchmarks_file(tmp_path):
    path = tmp_path / "cost.json"
    assert tables.cost_table(path) is None
    one = {"model": "m", "work": "decode", "plain": 10.0, "extended": 9.5, "more time": 0.052}
    path.write_text(json.dumps([one]))
    table = tables.cost_table(path)
    assert table is not None and table.split("\n")[2] == "| m | decode | 10.0 | 9.5 | +5.2% |"


def test_the_scale_alone_goes_anywhere_and_groups_nothing():
    alone = measure.ScaleAlone(1, 1, "log")
    check_reach(alone, TRAINED, 8192)
    with pytest.raises(OptionError):
        check_reach(SelfExtend(1, 1, "log"), TRAINED, 8192)
    trial = Haystacks(loaded("motet-tiny").tokenizer).make("passkey", 400, 0.0, 0)

    def nll(setting) -> float:
        ((found,),) = search(loaded("motet-tiny"), [trial], Variant("", setting))
        return found.nll

    assert nll(measure.ScaleAlone(1, 1)) == nll(None) != nll(alone)
    assert log_factors(measure.np.array([400]), TRAINED)[0] > 1


def test_tried_settings_include_autos_own():
    import numpy as np

    positions = np.arange(9000, dtype=np.int32)
    own, same = AutoExtend(), measure.Auto(None, 64, 2 / 3)
    assert own.window_of(TRAINED) == same.window_of(TRAINED)
    assert np.array_equal(own.groups_at(positions, TRAINED), same.groups_at(positions, TRAINED))
    for window, reach in measure.TRIED:
        groups = measure.Auto(None, window, reach).groups_at(positions, TRAINED)
        far = positions // groups + window - window // groups
        assert far[TRAINED:].max() <= TRAINED * reach + 1


def test_measurements_are_made_once(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"value": 3.5}

    for _ in range(2):
        kept = measure.Kept(tmp_path / "measured.json")
        assert kept.get("a", make) == kept.get("a", make) == {"value": 3.5}
    assert len(made) == 1


def test_likelihood_is_of_the_same_tokens_at_every_length():
    model = loaded("motet-tiny")
    ids = measure.np.array(model.tokenizer.encode("The grass is green. The sky is blue. " * 40))
    plain = Variant("plain", None)
    texts = [ids[-300:], ids[-310:-10]]
    whole = measure.likelihood(model, plain, texts)
    apart = [measure.likelihood(model, plain, [text]) for text in texts]
    assert whole == pytest.approx(sum(apart) / 2, rel=1e-12)
