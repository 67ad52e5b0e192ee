"""What ``summaries.yaml`` asks for: texts of a local file, and ROUGE by Google's rouge-score."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from rouge_score.rouge_scorer import RougeScorer

from motet.errors import OptionError

KINDS = ("rouge1", "rougeL")


def documents(file: str = "", **_: object) -> dict[str, Dataset]:
    """Those of ``file``; the harness gives further arguments. Raises OptionError without one, and
    for a line of another form."""
    if not file:
        raise OptionError(
            "motet_summaries needs a file of texts and their summaries",
            hint='--metadata \'{"file": "summaries.jsonl"}\'',
        )
    found: list[dict[str, str]] = []
    for number, line in enumerate(Path(file).read_text("utf-8").splitlines(), 1):
        try:
            document = json.loads(line)
            found.append({name: document[name].strip("\n") for name in ("text", "summary")})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise OptionError(
                f"{file}: line {number} is no text with its summary",
                hint='a line is a JSON object with "text" and "summary"',
            ) from error
    return {"test": Dataset.from_list(found)}


def results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """F1 of the words, and of the longest sequence of words, that answer and summary share."""
    scores = RougeScorer(list(KINDS), use_stemmer=True).score(doc["summary"], results[0].strip())
    return {kind: scores[kind].fmeasure for kind in KINDS}
