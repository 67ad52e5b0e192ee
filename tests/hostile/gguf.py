"""Broken model files of every family: loaded, shown and run, they work or are refused.

What is loaded is run on some tokens: the logits are finite, or decode says NumericalError.
"""

import io
import tempfile
from copy import copy
from pathlib import Path

import numpy as np

from motet.batch import Batch
from motet.cli.model_facts import model_facts
from motet.errors import MotetError
from motet.model import Model
from motet.weights.gguf import GGUFFile
from tests.hostile.gguf_parts import FILE, PARTS, odd_model, sound_models
from tests.hostile.harness import main

_LONGEST_MESSAGE = 2000


def case(random: np.random.Generator) -> None:
    """Break a sound model in one to three ways, and use it."""
    data = broken_file(random)
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        path = Path(folder) / "broken.gguf"
        path.write_bytes(data)
        try:
            _show(path)
            model = Model.load(path, 1)
        except MotetError as error:
            message = str(error)
            assert str(path) in message, f"the file is not named: {message}"
            assert message.count(str(path)) == 1, f"the file is named again: {message}"
            assert len(message) < _LONGEST_MESSAGE, f"{len(message)} characters: {message[:200]}"
            raise
    _use(model, random)


def broken_file(random: np.random.Generator) -> bytes:
    """A sound model's file, broken, or one of odd sizes."""
    sound = sound_models()
    in_parts, in_file = [(1, 0), (1, 0), (2, 0), (0, 1), (0, 2), (1, 1)][random.integers(6)]
    if random.random() < 0.2:
        parts, in_parts, in_file = odd_model(random), int(random.integers(2)), 0
    else:
        parts = copy(sound[random.integers(len(sound))])
        parts.pairs, parts.tensors = list(parts.pairs), list(parts.tensors)
    for _ in range(in_parts):
        PARTS[random.integers(len(PARTS))](random, parts)
    built = parts.build()
    file = bytearray(built.data)
    for _ in range(in_file):
        FILE[random.integers(len(FILE))](random, file, built.fields)
    return bytes(file)


def _show(path: Path) -> None:
    """As ``motet show`` does, also for files that cannot be run."""
    with GGUFFile.open(path) as file:
        model_facts(file, None, "f16")


def _use(model: Model, random: np.random.Generator) -> None:
    if model.tokenizer is not None:
        model.tokenizer.decode(model.tokenizer.encode("Once upon a time: 1 + 1 = 2\n"))
    context = model.context(max_sequences=2, max_tokens=256)
    for tokens, start, seq in ((5, 0, 0), (1, 5, 0), (70, 0, 1), (1, 6, 0)):
        batch = Batch()
        batch.extend(random.integers(model.n_vocab, size=tokens).tolist(), start, seqs=seq)
        assert np.isfinite(context.decode(batch).logits).all(), "logits are not finite"
    state = io.BytesIO()
    context.save(state)
    state.seek(0)
    model.context(max_sequences=2, max_tokens=256).restore(state)


def _memory() -> str | None:
    """Where files are written without a disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


if __name__ == "__main__":
    main(case, __doc__ or "")
