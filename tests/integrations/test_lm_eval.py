"""lm-evaluation-harness gets from Motet what Motet's own measures get."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness")

from lm_eval import evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager

from motet import Batch, CapacityError, Model, OptionError
from motet.cli.demo import shipped_model
from motet.evals.hellaswag import hellaswag
from motet.evals.tasks import read_tasks
from motet.integrations import lm_eval as integration
from motet.integrations.lm_eval import MotetLM
from motet.sampling import token_logprobs
from tests.evals.models import FILES
from tests.evals.test_hellaswag import TASKS as MADE
from tests.shared import SHARED, needs_shared

TASKS = Path(integration.__file__).parent / "tasks"
HELLASWAG = SHARED / "eval" / "hellaswag_val_2000.txt"


@pytest.fixture(scope="module")
def tiny() -> MotetLM:
    return MotetLM(str(shipped_model()), threads=1)


def asked(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, each, number) for number, each in enumerate(arguments)]


def evaluated(lm: MotetLM, path: Path, task: str, file: Path) -> dict[str, Any]:
    metadata = {"file": str(file), "path": str(path)}
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata)
    return measured(lm, manager, [task])


def measured(lm: MotetLM, manager: TaskManager, tasks: list[Any]) -> dict[str, Any]:
    found = evaluate(lm, manager.load(tasks), bootstrap_iters=0, log_samples=True)
    assert found is not None
    return found


def test_it_is_known_by_its_name():
    assert get_model("motet") is MotetLM


@needs_shared
@pytest.mark.parametrize("name", FILES)
def test_hellaswag_to_the_digit_for_every_batch_size(name, tmp_path):
    """Endings of the 25th task begin alike, and for one of the vocabularies those of the 165th
    differ after a space."""
    path = FILES[name]
    if not path.exists():
        pytest.skip(f"needs {path}")
    lines = HELLASWAG.read_text("utf-8").splitlines(keepends=True)
    file = tmp_path / "tasks.txt"
    file.write_text("".join([*lines[6 * 16 : 6 * 28], *lines[6 * 164 : 6 * 165]]), "utf-8")
    tasks = read_tasks(file.read_text("utf-8"), "tasks")
    *_, ours = hellaswag(Model.load(path), tasks)
    samples = []
    for size in (1, 3, "auto"):
        lm = MotetLM(str(path), batch_size=size)
        found = evaluated(lm, path, "motet_hellaswag", file)
        assert found["results"]["motet_hellaswag"]["acc,none"] == ours.accuracy
        samples.append([one["filtered_resps"] for one in found["samples"]["motet_hellaswag"]])
    assert samples[0] == samples[1] == samples[2]
    scores = [sum_ for sum_, _ in samples[0][0]]
    lengths = found["samples"]["motet_hellaswag"][0]["doc"]["lengths"]
    assert tuple(np.divide(scores, lengths)) == ours.answers[0].scores
    assert (len(samples[0][-1]) == 5) == (name == "stories260K")


def test_a_task_of_local_files(tiny, tmp_path):
    """Written as anybody writes one: likelihoods and rolling likelihoods of lines of JSON."""
    lines = [{"context": task.context, "ending": f" {task.endings[0]}"} for task in MADE[:8]]
    file = tmp_path / "lines.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": str(tmp_path)},
        "test_split": "test",
    }
    scored = {
        "task": "endings",
        "output_type": "loglikelihood",
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{ending}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    }
    rolling = {
        "task": "texts",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{context}}{{ending}}",
        "metric_list": [{"metric": "byte_perplexity"}],
    }
    tasks = [common | scored, common | rolling]
    found = measured(tiny, TaskManager(include_defaults=False), tasks)
    texts = [line["context"] + line["ending"] for line in lines]
    samples = found["samples"]["endings"]
    assert [one["filtered_resps"][0] for one in samples] == [
        score(tiny, *split(tiny, line["context"], line["ending"])) for line in lines
    ]
    results = found["results"]
    bits = sum(
        tiny.loglikelihood_rolling(asked("loglikelihood_rolling", *((t,) for t in texts)), True)
    )
    size = sum(len(text.encode()) for text in texts)
    assert results["texts"]["byte_perplexity,none"] == pytest.approx(
        np.exp(-bits / size), abs=1e-12
    )


def split(lm: MotetLM, context: str, ending: str) -> tuple[list[int], list[int]]:
    whole, count = lm.tok_encode(context + ending), len(lm.tok_encode(context))
    return whole[:count], whole[count:]


def score(lm: MotetLM, context: list[int], following: list[int]) -> tuple[float, bool]:
    """In a context of its own."""
    batch = Batch()
    batch.extend([*context, *following][:-1], 0, logits="all")
    logits = lm.model.context().decode(batch).logits[len(context) - 1 :]
    greedy = np.array_equal(logits.argmax(axis=1), following)
    return float(token_logprobs(logits, np.array(following)).sum()), greedy


def test_likelihoods_are_those_of_each_alone(tiny):
    pairs = [(task.context, f" {task.endings[0]}") for task in MADE[:6]]
    found = tiny.loglikelihood(asked("loglikelihood", *pairs, ("", "Once upon")), True)
    begun = tiny.tok_encode("Once upon", add_special_tokens=False)
    assert found == [
        *(score(tiny, *split(tiny, *pair)) for pair in pairs),
        score(tiny, [tiny.tokenizer.bos], begun),
    ]


def test_long_texts_go_in_windows_and_contexts_are_cut(tiny):
    text = " ".join(f"{task.context} {task.endings[1]}" for task in MADE)
    ids = tiny.tok_encode(text)
    assert len(ids) > tiny.max_length
    (sum_,) = tiny.loglikelihood_rolling(asked("loglikelihood_rolling", (text,)), True)
    assert np.isfinite(sum_)
    pair = text, " The end."
    (cut,) = tiny.loglikelihood(asked("loglikelihood", pair), True)
    context, ending = split(tiny, *pair)
    room = tiny.max_length + 1 - len(ending)
    assert cut == score(tiny, context[-room:], ending)


def test_answers_are_those_of_an_llm(tiny):
    prompts = [task.context for task in MADE[:5]]
    options = {"until": ["\n", "."], "max_gen_toks": 12}
    wanted = [
        tiny._llm.generate(prompt, temperature=0, max_tokens=12, stop=["\n", "."]).text
        for prompt in prompts
    ]
    requests = asked("generate_until", *((prompt, options) for prompt in prompts))
    assert tiny.generate_until(requests, True) == wanted
    sampled = {"do_sample": True, "temperature": 1.0, "top_k": 5, "max_gen_toks": 8}
    requests = asked("generate_until", *((prompts[0], sampled) for _ in range(4)))
    once, again = (tiny.generate_until(requests, True) for _ in range(2))
    assert once == again  # each by its own seed
    assert len(set(once)) > 1


def test_what_is_not_known_is_refused_by_name(tiny):
    with pytest.raises(OptionError, match="asks for num_beams"):
        tiny.generate_until(asked("generate_until", ("A", {"num_beams": 2})), True)
    with pytest.raises(CapacityError, match="answer of 256 tokens leaves no room"):
        tiny.generate_until(asked("generate_until", ("A", {})), True)
    with pytest.raises(TypeError, match="dtype"):
        MotetLM(str(shipped_model()), dtype="float32")
    for name, value in (
        ("batch_size", "many"),
        ("batch_size", None),
        ("max_batch_size", "many"),
        ("max_batch_size", 0),
        ("max_gen_toks", "x"),
        ("max_gen_toks", 0),
        ("seed", "x"),
        ("seed", -1),
    ):
        with pytest.raises(OptionError, match=f"{name} is {value!r}"):
            MotetLM(str(shipped_model()), **{name: value})
