"""The rows of the proof model, and the model that ships for docs/self-extend.md."""

import hashlib
import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from motet import Model
from motet.evals.haystack import ASK_KEY, FILLER, TELL_KEY, Haystacks
from motet.evals.needle import search
from motet.evals.passkeys import INSTRUCTION, LONGLM, Passkeys
from motet.evals.variants import Variant
from motet.self_extend import AutoExtend
from training import vocabulary
from training.data import BATCH_TOKENS, SOURCES, TRAINED_LENGTH
from training.keys import KeyRows
from training.tasks import ANSWER_WEIGHT, Tasks
from training.texts import Text
from training.wordings import ASKED, ASKED_LAST, OPENINGS, THINGS, TOLD, line_of

MODELS = Path(__file__).parents[2] / "training" / "models"


@pytest.fixture(scope="module")
def proof_texts() -> list[Text]:
    """Texts of the words that keys are told in, so that a few pieces spell them."""
    rng = np.random.default_rng(0)
    said = [line_of(rng) for _ in range(300)] + [*OPENINGS] * 8
    said += [form.format(thing=t, key="") for t in THINGS for form in (*TOLD, *ASKED, *ASKED_LAST)]
    documents = [" ".join(rng.permutation(said)) for _ in range(4)]
    return [Text(name, 0, "", documents[:2], documents[2:]) for name in SOURCES]


@pytest.fixture(scope="module")
def proof_pieces(proof_texts, tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.model"
    vocabulary.train_vocabulary(proof_texts, path, size=700)
    return vocabulary.load_vocabulary(path)


@pytest.fixture(scope="module")
def tasks(proof_pieces) -> Tasks:
    return Tasks(proof_pieces)


STORY = "Once there was a little girl who had a red ball and a cat, and both were lost. " * 30


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("keys", [1, 2])
@pytest.mark.parametrize("length", [128, 256])
def test_a_row_tells_keys_and_asks_for_the_last(tasks, length, keys, repeated):
    pieces, rng = tasks.vocabulary, np.random.default_rng(length)
    rows, stream = KeyRows(tasks), tasks.stream([STORY])
    places, joints = set(), set()
    for _ in range(60):
        tokens, weights = rows.row(stream, length, rng, keys, repeated=repeated)
        assert tokens.shape == weights.shape == (length + 1,)
        answer = pieces.decode(tokens[weights == ANSWER_WEIGHT].tolist()).strip()
        until = int(np.flatnonzero(weights == ANSWER_WEIGHT)[0])
        prompt = pieces.decode(tokens[:until].tolist())
        told = re.findall(r"\d+", prompt)
        assert told[-1] == answer and len(set(told)) == keys
        assert ("last" in prompt) == (keys == 2) or not repeated
        if not prompt.startswith("\n"):  # before which the first space is not seen
            assert pieces.encode(pieces.decode(tokens[: until + 1].tolist()))[:-1] == (
                tokens[1:until].tolist()
            )
        places.add(prompt.index(answer) * 10 // len(prompt))
        joints |= set(re.findall(r"\.(\s*)[A-Z]", prompt))
    assert len(places) > 4
    assert joints >= {" ", "\n", ""}


def test_too_short_for_two_keys(tasks):
    with pytest.raises(ValueError, match="2 keys needs more than 16 tokens"):
        KeyRows(tasks).row(tasks.stream([STORY]), 16, np.random.default_rng(0), 2, repeated=False)


def test_nothing_that_is_tested_is_trained_on():
    """Of LongLM's words; docs/self-extend.md says so."""
    rng = np.random.default_rng(0)
    said = [form.format(thing=t, key="1") for t in THINGS for form in (*TOLD, *ASKED, *ASKED_LAST)]
    said += [*OPENINGS, *(line_of(rng) for _ in range(2000))]
    words = "\n".join(said).lower()
    filler = [f"{one}." for one in FILLER.strip().split(".")[:-1]]
    forms = [form.replace("pass key", t) for t in THINGS for form in (TELL_KEY, ASK_KEY)]
    forms += [part for form in forms[::2] for part in re.split(r"(?<=\.) ", form)[1:2]]
    for held_out in ("pass key", *filler, *INSTRUCTION.strip().split(". "), *forms):
        assert held_out.strip().lower().format(key="1") not in words, held_out


def test_batches(proof_texts, proof_pieces):
    pytest.importorskip("torch", reason="needs torch")
    from training.proof import ProofDiet

    diet = ProofDiet(proof_texts, proof_pieces, seed=3)
    for step in range(0, 100, 7):
        first, again = diet.batch(step, 100), diet.batch(step, 100)
        assert np.array_equal(first.tokens, again.tokens)
        rows, length = first.tokens.shape[0], first.tokens.shape[1] - 1
        assert length <= (64 if step < 15 else 128 if step < 35 else TRAINED_LENGTH)
        assert rows == BATCH_TOKENS // length


def test_the_record_is_of_the_file():
    record = json.loads((MODELS / "motet-proof.json").read_text())
    raw = (MODELS / "motet-proof.gguf").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == record["sha256"]
    assert len(raw) < 1_000_000


@pytest.fixture(scope="module")
def proof():
    return Model.load(MODELS / "motet-proof.gguf", 1)


@pytest.mark.parametrize("task", ["passkey", "longlm", "order"])
def test_it_finds_keys_within_its_trained_length_and_far_beyond_with_self_extend(proof, task):
    assert proof.config.context_length == TRAINED_LENGTH
    made = partial(Haystacks(proof.tokenizer).make, task)
    make = Passkeys(proof.tokenizer).make if task == LONGLM else made
    depths = (0, 0.25, 0.5)

    def found(length: int, setting: AutoExtend | None) -> float:
        trials = [make(length, depth, seed) for depth in depths for seed in range(3)]
        results = [one for some in search(proof, trials, Variant("", setting)) for one in some]
        return sum(one.exact for one in results) / len(results)

    assert found(TRAINED_LENGTH, None) == 1
    assert found(8 * TRAINED_LENGTH, None) <= 0.1
    assert found(8 * TRAINED_LENGTH, AutoExtend()) >= 0.8
    assert found(8 * TRAINED_LENGTH, AutoExtend("log")) >= 0.95
