"""Opening a model, whatever it is: a GGUF file or a Hugging Face directory."""

import os
from pathlib import Path

from motet.weights.gguf import GGUFFile
from motet.weights.source import ModelSource


def open_model(path: str | Path) -> ModelSource:
    """The open model at ``path``. Its weights are not read yet.

    Raises ModelFileError for what is missing, damaged or no model; UnsupportedError for a format or
    kind that Motet does not read.
    """
    # Of os.path, for which a name that cannot be is no error.
    if os.path.lexists(os.path.join(path, "config.json")):  # noqa: PTH118
        from motet.huggingface import HuggingFaceDirectory

        return HuggingFaceDirectory.open(path)
    return GGUFFile.open(path)
