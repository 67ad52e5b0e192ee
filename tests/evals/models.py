"""The models that batching is tested on: one of each kind of memory."""

from functools import cache
from pathlib import Path

import pytest

from motet.cli.demo import shipped_model
from motet.model import Model
from tests.shared import SHARED

MODELS = {
    "motet-tiny": shipped_model(),
    "stories260K": SHARED / "stories260K" / "stories260K-F32.gguf",
}


@cache
def _load(path: Path) -> Model:
    return Model.load(path)


def loaded(name: str) -> Model:
    """The model, or the test is skipped where its file is missing."""
    if not MODELS[name].exists():
        pytest.skip(f"needs {MODELS[name]}")
    return _load(MODELS[name])
