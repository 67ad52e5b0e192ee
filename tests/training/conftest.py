"""A vocabulary and a diet small enough to make in a moment."""

import numpy as np
import pytest

from training import vocabulary
from training.data import SOURCES, Diet
from training.texts import Text

WORDS = ["cat", "red", "sun", "mill", "sat", "ran", "on", "a", "by", "the", "old", "and", "Lily"]


@pytest.fixture(scope="session")
def texts() -> list[Text]:
    rng = np.random.default_rng(0)
    phrases = "The pass key is lost. Remember it. What is the pass key? " * 20
    documents = [" ".join(rng.choice(WORDS, 900)) + ". " + phrases for _ in range(4)]
    return [Text(name, 0, "", documents[:2], documents[2:]) for name in SOURCES]


@pytest.fixture(scope="session")
def pieces(texts, tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.model"
    vocabulary.train_vocabulary(texts, path, size=400)
    return vocabulary.load_vocabulary(path)


@pytest.fixture(scope="session")
def diet(texts, pieces) -> Diet:
    return Diet(texts, pieces, seed=3)
