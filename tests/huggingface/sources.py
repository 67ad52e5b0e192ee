"""What a directory is, compared with a GGUF file; and running it without Context."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from motet.conversion.loading import prepared
from motet.huggingface import HuggingFaceDirectory
from motet.models.family import Family
from motet.models.registry import declared
from motet.models.tensors import TensorLoader
from motet.opening import open_model
from motet.weights.formats import dequantize
from motet.weights.gguf import GGUFFile
from motet.weights.source import ModelSource
from tests.models.running import OneSequence

NAMED = ("general.name", "general.size_label", "general.file_type", "general.quantization_version")
"""Keys of a whole file, which a source has not: ``motet convert`` writes them."""


def logits(path: Path, kernels: Callable[[], Any], tokens: np.ndarray) -> np.ndarray:
    """Logits of every token of one sequence, by the directory or the file ``path``."""
    with open_model(path) as source:
        return OneSequence(loaded(source, kernels()), len(tokens)).feed(tokens)


def loaded(source: ModelSource, kernels: Any) -> Family[Any]:
    """The source's family with its weights, as float32: BF16 ones would round activations."""
    widened = prepared(source, "f32", (), kernels)
    declaration = declared(widened)
    return type(declaration)(declaration.config, TensorLoader(widened, kernels), kernels)


def differing(directory: Path, file: Path) -> tuple[set[str], dict[str, float]]:
    """How a directory differs from a GGUF file: keys; tensors, and the share of their values.

    Tensors may be of another type, if their values are the same.
    """
    with HuggingFaceDirectory.open(directory) as ours, GGUFFile.open(file) as theirs:
        keys = {
            key
            for key in ours.metadata.keys() | theirs.metadata.keys()
            if not key.startswith("tokenizer.")
            and key not in NAMED
            and not key.startswith("general.sampling.")
            and ours.metadata.get(key) != theirs.metadata.get(key)
        }
        tensors = dict.fromkeys(ours.tensors.keys() ^ theirs.tensors.keys(), 1.0)
        for name in ours.tensors.keys() & theirs.tensors.keys():
            a, b = _values(ours, name), _values(theirs, name)
            share = float(np.mean(a != b)) if a.shape == b.shape else 1.0
            if share:
                tensors[name] = share
        return keys, tensors


def _values(source: ModelSource, name: str) -> np.ndarray:
    info = source.tensors[name]
    return dequantize(source.raw(name), info.type).reshape(info.shape).view(np.uint32)
