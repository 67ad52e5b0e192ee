"""The models that batching is tested on: of every kind of memory."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from motet.cli.demo import shipped_model
from motet.model import Model
from motet.spec import CacheSpec
from tests.models import tiny
from tests.shared import SHARED
from tests.toy import ALL_KINDS, HYBRID, RECURRENT, ToyModel

FILES = {
    "motet-tiny": shipped_model(),
    "stories260K": SHARED / "stories260K" / "stories260K-F32.gguf",
}
TOYS = {"toy recurrent": RECURRENT, "toy hybrid": HYBRID, "toy of all kinds": ALL_KINDS}
RANDOM = ("gemma3", "mamba", "mamba2", "jamba", "rwkv6")
MODELS = (*FILES, *TOYS, *RANDOM)


class Words:
    """A token a word, and a 0 to begin with."""

    bos, add_bos, eog = 0, True, frozenset()

    def __init__(self, n_vocab: int) -> None:
        self.n_vocab = n_vocab

    def encode(self, text: str, add_special: bool = True, parse_special: bool = False) -> list[int]:
        del parse_special
        return [0] * add_special + [
            1 + sum(word.encode()) % (self.n_vocab - 1) for word in text.split()
        ]


@cache
def loaded(name: str) -> Any:
    """A Model, or what stands in for one; skips the test where its file is missing."""
    if name in FILES:
        return _from_file(FILES[name])
    model = _toy(TOYS[name]) if name in TOYS else _random(name)
    model.tokenizer = Words(model.config.n_vocab)
    return model


def _from_file(path: Path) -> Model:
    if not path.exists():
        pytest.skip(f"needs {path}")
    return Model.load(path)


def _toy(layers: Sequence[CacheSpec]) -> Any:
    return ToyModel(layers=layers)


def _random(architecture: str) -> Any:
    with TemporaryDirectory() as folder:
        return tiny.load(Path(folder), architecture)
