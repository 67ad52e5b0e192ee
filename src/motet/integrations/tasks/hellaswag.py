"""What ``hellaswag.yaml`` asks for: tasks in llama.cpp's six-line form, and its score.

A score there is the mean log probability of an ending's tokens, which are those from where the four
texts first differ. The harness asks for texts, so each is cut there: ``path`` is the model whose
tokens these are. It gives spaces where texts are cut to the endings; then these alone are asked for
too, and taken off.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from motet.errors import OptionError
from motet.evals.hellaswag import in_tokens
from motet.evals.tasks import ENDINGS, Task, read_tasks
from motet.opening import open_model
from motet.tokenizer import Tokenizer, from_gguf


def documents(file: str = "", path: str = "", **_: object) -> dict[str, Dataset]:
    """The tasks of ``file`` for the model at ``path``; the harness gives further arguments.

    Raises OptionError where one is missing, and for a task whose texts differ within a character.
    """
    if not file or not path:
        raise OptionError(
            "motet_hellaswag needs a file of tasks and the model whose tokens they are",
            hint='--metadata \'{"file": "hellaswag_val_full.txt", "path": "model.gguf"}\'',
        )
    with open_model(path) as source:
        tokenizer = from_gguf(source.metadata)
    if tokenizer is None:
        raise OptionError(f"{path} has no vocabulary")
    tasks = read_tasks(Path(file).read_text("utf-8"), file)
    return {"test": Dataset.from_list([_document(tokenizer, task) for task in tasks])}


def results(doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """Whether the ending of the best score is the right one."""
    values = [likelihood for likelihood, _ in results]
    spaces = values[ENDINGS] if len(values) > ENDINGS else 0.0
    pairs = zip(values, doc["lengths"], strict=False)
    scores = [(value - spaces) / length for value, length in pairs]
    return {"acc": float(int(np.argmax(scores)) == doc["gold"])}


def _document(tokenizer: Tokenizer, task: Task) -> dict[str, Any]:
    count, texts = in_tokens(tokenizer, task)
    begins = texts[0][:count].tolist()
    shared = tokenizer.decode(begins[len(tokenizer.prefix) :])
    begin = shared.rstrip()
    whole = [f"{task.context} {ending}" for ending in task.endings]
    ids = tokenizer.encode(begin)
    if (
        tokenizer.encode(shared) != begins
        or ids != begins[: len(ids)]
        or not all(text.startswith(shared) for text in whole)
    ):
        raise OptionError(
            f"task {task.number}, line {task.line}: its texts differ within a character or word,"
            " and the harness asks for whole ones",
            hint="leave it out of the file; motet hellaswag takes it",
        )
    spaces = [shared[len(begin) :]] if shared != begin else []
    return {
        "shared": begin,
        "choices": [*(text[len(begin) :] for text in whole), *spaces],
        "lengths": [len(text) - count for text in texts],
        "gold": task.gold,
    }
