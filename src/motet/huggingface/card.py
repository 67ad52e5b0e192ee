"""What a file says of itself in ``general.*``: name, size, licence, …, by gguf's own rules."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from motet.huggingface.files import Directory
from motet.weights.source import MetadataValue, TensorInfo

_CARD, _CONFIG = "README.md", "config.json"
_MOST_CARD = 1 << 22
_MOST_HEAD, _MOST_HEAD_SLOWLY = 1 << 20, 1 << 12
"""Characters of a card's YAML: the longest list the results of embeddings in hundreds of tasks.
Without libyaml, reading it takes time that grows with their square."""
_log = logging.getLogger(__name__)


def described(files: Directory, tensors: Mapping[str, TensorInfo]) -> dict[str, MetadataValue]:
    """``general.*`` as llama.cpp's converter writes it, but for the file's
    type, the architecture and how to sample: see ``generation``.

    It is of no use to run a model, and takes a while. A card that cannot be read counts as none.
    Raises ModelFileError for files that lead outside the directory or are no sound JSON.
    """
    card, config = _card(files), files.json_if_there(_CONFIG)
    try:
        return _described(files, tensors, card, config)
    # A stranger's values, in rules that don't look at their types.
    except (AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
        _log.warning("%s: its model card is not used: %s", files.path, error)
        return _described(files, tensors, {}, {})


def _described(
    files: Directory,
    tensors: Mapping[str, TensorInfo],
    card: dict[str, Any],
    config: dict[str, Any],
) -> dict[str, MetadataValue]:
    import gguf

    writer = gguf.GGUFWriter(None, "")  # of no file: it counts, and holds what it is told
    for name, info in tensors.items():
        writer.add_tensor_info(name, info.shape, np.dtype(np.float32), info.nbytes)
    total, shared, expert, experts = writer.get_total_parameter_count()
    if files.hub_name:
        config = {"_name_or_path": files.hub_name} | config
    metadata = gguf.Metadata.apply_metadata_heuristic(
        gguf.Metadata(), card, config, Path(files.name), total
    )
    metadata.name = metadata.name or files.name
    if metadata.size_label is None and total > 0:
        metadata.size_label = gguf.size_label(total, shared, expert, experts)
    metadata.set_gguf_meta_model(writer)
    return {
        key: value.value
        for key, value in writer.kv_data[0].items()
        if key != "general.architecture" and _can_be_written(value.value)
    }


def _can_be_written(value: object) -> bool:
    if isinstance(value, list):
        items: list[object] = value
        return bool(items) and all(isinstance(item, str) for item in items)
    return isinstance(value, str | int | float)


def _card(files: Directory) -> dict[str, Any]:
    """The YAML at the head of README.md; empty where there is none, or none to be trusted."""
    if not files.has(_CARD):
        return {}
    import yaml

    lines = files.data(_CARD, _MOST_CARD).decode(errors="replace").splitlines()
    if not lines or lines[0] != "---" or "---" not in lines[1:]:
        return {}
    # As gguf does: tabs are no indentation to YAML.
    text = ("\n".join(lines[1 : lines.index("---", 1)]) + "\n").replace("\t", "  ")
    # The loader that takes every value for a string: no dates, no numbers in base 60.
    fast = hasattr(yaml, "CBaseLoader")
    loader: Any = yaml.CBaseLoader if fast else yaml.BaseLoader
    if len(text) > (_MOST_HEAD if fast else _MOST_HEAD_SLOWLY):
        return {}
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, loader)):
            return {}  # a few lines of which may stand for gigabytes
        card = yaml.load(text, loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        _log.warning("%s: its model card is not YAML: %s", files.path, error)
        return {}
    return _said(card) if isinstance(card, dict) else {}


def _said(card: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in card.items() if value not in ("", "null", "~")}
