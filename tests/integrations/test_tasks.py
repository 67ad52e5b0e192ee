"""The task files: what they refuse, and scores by hand."""

import json

import pytest

pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness")
pytest.importorskip("rouge_score", reason="needs rouge-score")

from lm_eval.tasks import TaskManager

from motet import OptionError
from motet.integrations.lm_eval import MotetLM
from motet.integrations.tasks import hellaswag, summaries
from tests.integrations.test_lm_eval import TASKS, measured, shipped_model


def test_summaries_are_scored_plain_and_extended(tmp_path):
    file = tmp_path / "summaries.jsonl"
    text = "Once upon a time there was a little girl. " * 40
    lines = [{"text": f"{text}\n\nIn short:", "summary": summary} for summary in ("a girl", "b")]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    manager = TaskManager(
        include_path=str(TASKS), include_defaults=False, metadata={"file": str(file)}
    )
    answers = []
    for extended in (None, "auto"):
        lm = MotetLM(str(shipped_model()), threads=1, self_extend=extended)
        found = measured(lm, manager, ["motet_summaries"])
        samples = found["samples"]["motet_summaries"]
        answers.append(samples[0]["resps"][0][0])
        wanted = [summaries.results(one["doc"], one["resps"][0]) for one in samples]
        for kind in summaries.KINDS:
            mean = sum(scores[kind] for scores in wanted) / 2
            assert found["results"]["motet_summaries"][f"{kind},none"] == mean
    assert answers[0] != answers[1]  # the first of them reads the end alone


def test_words_in_common():
    doc = {"summary": "a small dog runs"}
    assert summaries.results(doc, ["a small dog runs"]) == {"rouge1": 1.0, "rougeL": 1.0}
    assert summaries.results(doc, ["runs dog"]) == {
        "rouge1": pytest.approx(2 / 3),
        "rougeL": pytest.approx(1 / 3),
    }


def test_what_is_missing_or_malformed_is_said(tmp_path):
    file = tmp_path / "file"
    with pytest.raises(OptionError, match="needs a file"):
        summaries.documents()
    with pytest.raises(OptionError, match="needs a file of tasks and the model"):
        hellaswag.documents(file="tasks.txt")
    for line in ("no json", "[]", '{"text": 1, "summary": ""}', '{"text": ""}'):
        file.write_text(f'{{"text": "", "summary": ""}}\n{line}\n')
        with pytest.raises(OptionError, match="line 2 is no text"):
            summaries.documents(file=str(file))
