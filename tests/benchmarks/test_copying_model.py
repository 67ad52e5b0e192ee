import random
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.copying_model import SHAPES, build
from benchmarks.copying_texts import Texts
from benchmarks.shapes import Attention, Mamba
from motet import LLM, Model

TINY = SHAPES["tiny"]
JAMBA = SHAPES["jamba-0.8b"]
assert isinstance(TINY, Attention) and isinstance(JAMBA, Mamba)
SMALL = [
    replace(TINY, vocabulary=12_000),
    replace(JAMBA, layers=8, period=4, feed_forward=512, vocabulary=12_000),
]


@pytest.mark.parametrize("shape", SMALL, ids=lambda shape: shape.architecture)
def test_copies_edits_and_tells(tmp_path: Path, shape: Attention | Mamba) -> None:
    """By the model's own logits, greedily, in a type of few bits."""
    numbers, path, text = random.Random(1), tmp_path / "model.gguf", tmp_path / "text.txt"
    # Of words a few are common and most are seldom, as in real texts.
    words = [f"w{int(1000 * numbers.random() ** 3)}" for _ in range(2000)]
    text.write_text(" ".join(words))
    build(shape, "Q4_0", path)
    texts = Texts(text, shape.vocabulary)
    with LLM(Model.load(path), max_sequences=1, max_tokens=512, speculate="lookup") as llm:
        for case in (texts.copy(150), texts.edit(150, every=20)):
            answer = llm.generate(case.prompt, temperature=0, max_tokens=150)
            right = sum(a == b for a, b in zip(answer.tokens, case.wanted, strict=True))
            assert right > 140, case.name
            assert answer.usage.accepted_tokens > 100
        case = texts.story(150)
        answer = llm.generate(case.prompt, temperature=0, max_tokens=60)
        assert len({*answer.tokens}) > 50
