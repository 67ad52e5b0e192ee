"""Opening a model or an adapter, whatever it stands in and wherever it comes from."""

import os
from pathlib import Path

from motet.errors import UnsupportedError
from motet.hub import local_path
from motet.packed import PackedFile, is_packed
from motet.weights.gguf import GGUFFile
from motet.weights.source import ModelSource


def open_model(path: str | Path) -> ModelSource:
    """The open model: of a GGUF or packed file, a Hugging Face directory, or an hf:// address.

    Its weights are not read yet. Raises ModelFileError for what is missing, damaged or no model;
    UnsupportedError for a format or kind that Motet does not read; HubError where an address leads
    to nothing.
    """
    found = local_path(path)
    if _holds(found, "config.json"):
        from motet.huggingface import HuggingFaceDirectory

        return HuggingFaceDirectory.open(found)
    if is_adapter(found):
        raise UnsupportedError(
            f"{found}: is a LoRA adapter, not a model",
            hint="give the model that it changes, and it beside that with --lora",
        )
    return PackedFile.open(str(found)) if is_packed(found) else GGUFFile.open(found)


def open_adapter(path: str | Path, model: str | Path | None = None) -> ModelSource:
    """The open adapter of a GGUF file or a PEFT directory.

    ``model``: what it changes, of which a PEFT directory needs config.json; where that is no
    directory, or None, the model that the adapter itself names. Raises as ``open_model`` does.
    """
    found = local_path(path)
    if is_adapter(found):
        from motet.huggingface import AdapterDirectory

        base = None if model is None else local_path(model)
        return AdapterDirectory.open(found, base if base and os.path.isdir(base) else None)  # noqa: PTH112
    return GGUFFile.open(found)


def is_adapter(path: str | Path) -> bool:
    """Whether a PEFT directory is there."""
    return _holds(path, "adapter_config.json")


def _holds(folder: str | Path, name: str) -> bool:
    # Of os.path, for which a name that cannot be is no error.
    return os.path.lexists(os.path.join(folder, name))  # noqa: PTH118
