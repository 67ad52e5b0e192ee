"""A Hugging Face directory as a source of GGUF's tensors and keys."""

from pathlib import Path
from typing import Any

import numpy as np

from motet.errors import ModelFileError, shown
from motet.huggingface.checkpoint import Checkpoint
from motet.huggingface.config import ConfigReader
from motet.huggingface.families import plan_of
from motet.huggingface.files import Directory
from motet.huggingface.generation import sampling
from motet.huggingface.plan import Plan
from motet.huggingface.planned import EMBEDDING, planned
from motet.huggingface.quantised import Quantised, read_quantised
from motet.huggingface.safetensors import Stored, read_file, read_tensors
from motet.huggingface.tokenizer.reading import read_tokenizer
from motet.weights.source import MetadataValue

CONFIG = "config.json"
_SEPARATORS = "tokenizer.ggml.seperator_token_id", "tokenizer.ggml.eos_token_id"
"""What ends each text of a pair; the first is so spelt in the format."""
_MAX_CONFIG = 1 << 24
"""Bytes of config.json: some name thousands of labels."""


class HuggingFaceDirectory(Checkpoint):
    """config.json, safetensors and a tokenizer, under the names that GGUF has for them.

    It is a ``ModelSource``: what ``motet convert`` writes is what this gives.
    """

    format = "Hugging Face directory"

    def __init__(
        self,
        files: Directory,
        plan: Plan,
        tensors: dict[str, Stored],
        quantised: Quantised | None,
    ) -> None:
        """Of what has been read; ``open`` is the way to make one."""
        weights = planned(files.path, plan, tensors, quantised)
        super().__init__(files.path, weights, (stored.file for stored in tensors.values()))
        self._directory = files
        n_vocab = self.tensors[EMBEDDING].rows if EMBEDDING in self.tensors else 0
        self.metadata = _metadata(files, plan, n_vocab)

    @classmethod
    def open(cls, path: str | Path) -> "HuggingFaceDirectory":
        """Open the directory ``path``.

        Raises ModelFileError, naming the file and the key or tensor, for what is missing, damaged
        or contradicts itself; UnsupportedError for a kind of model, a key or a format that Motet
        does not know. Nothing outside the directory is read, and nothing in it is executed.
        """
        files = Directory(str(path))
        if not files.has(CONFIG):
            raise ModelFileError(
                f"{files.path}: has no {CONFIG}", hint="give a model's directory or a GGUF file"
            )
        config = ConfigReader(files.json(CONFIG, _MAX_CONFIG), files.located(CONFIG))
        quantised = read_quantised(config)
        plan = plan_of(config, files)
        tensors = read_tensors(files)
        for name, prefix in plan.parts.items():
            tensors |= {prefix + own: stored for own, stored in read_file(files, name).items()}
        directory = cls(files, plan, tensors, quantised)
        embedding, said = directory.tensors.get(EMBEDDING), config.values.get("vocab_size")
        padded = config.has("pad_vocab_size_multiple")
        if embedding and not padded and said not in (None, embedding.rows):
            raise ModelFileError(
                f"{config.where}: vocab_size is {shown(said)}, but the embedding has"
                f" {embedding.rows} rows"
            )
        return directory

    def described(self) -> dict[str, MetadataValue]:
        """``general.*`` of a file that is written of it: name, size, licence, languages, …

        See ``card.described``. It takes a tenth of a second, and no model needs it to run.
        """
        from motet.huggingface.card import described

        return described(self._directory, self.tensors)


def _metadata(files: Directory, plan: Plan, n_vocab: int) -> dict[str, MetadataValue]:
    metadata: dict[str, MetadataValue] = {
        "general.architecture": plan.architecture,
        "general.type": "model",
        "general.name": files.name,
    }
    for key, value in sampling(files).items():
        metadata[key] = _as_stored(value)
    for key, value in plan.keys.items():
        metadata[f"{plan.architecture}.{key}"] = _as_stored(value)
    metadata |= read_tokenizer(files, plan.architecture, n_vocab)
    separators = [metadata[key] for key in _SEPARATORS if key in metadata]
    if plan.types_pairs and separators:
        metadata[f"{plan.architecture}.classifier.pair_separator_token_id"] = separators[0]
    return metadata | {f"tokenizer.{key}": value for key, value in plan.tokenizer.items()}


def _as_stored(value: Any) -> Any:
    """Floats as GGUF's are, so that a model from either computes the same."""
    if isinstance(value, float):
        return float(np.float32(value))
    return [_as_stored(item) for item in value] if isinstance(value, list) else value
