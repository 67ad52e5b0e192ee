"""What sentence-transformers keeps beside a model: how states become a vector."""

from typing import Any

from motet.errors import ModelFileError, UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import Keys, classifies, labels
from motet.huggingface.files import Directory

_MODULES = "modules.json"
_MODES = {"mean": 1, "cls": 2, "lasttoken": 3}
"""GGUF's ``pooling_type`` by sentence-transformers' name."""
_FLAGS = {"pooling_mode_mean_tokens": 1, "pooling_mode_cls_token": 2, "pooling_mode_lasttoken": 3}
"""The same by what its files had before."""
_OTHER_FLAGS = (
    "pooling_mode_max_tokens",
    "pooling_mode_mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens",
)
_IGNORED = (
    "word_embedding_dimension",
    "embedding_dimension",
    "include_prompt",  # changes nothing where texts have no prompt apart from them
)


def vectors(config: ConfigReader, files: Directory) -> Keys:
    """What becomes of the states of a text: a classifier's keys, or ``pooling_type``, if any."""
    return labels(config) if classifies(config) else pooling(files)


def pooling(files: Directory, *others: str) -> Keys:
    """``pooling_type`` by modules.json; nothing without one.

    Raises UnsupportedError for modules other than the model, pooling, normalisation, which is the
    caller's to do, and those of the kinds ``others``.
    """
    known = ("Transformer", "Pooling", "Normalize", *others)
    modules = _modules(files)
    for kind, path in modules:
        if kind not in known:
            raise UnsupportedError(
                f"{files.located(_MODULES)}: has a module {shown(kind)}, {shown(path)}, after the"
                " model, which Motet does not run for this kind of model",
                hint="without it vectors are not the model's",
            )
    path = next((path for kind, path in modules if kind == "Pooling"), None)
    return {} if path is None else {"pooling_type": _pooling_type(files, f"{path}/config.json")}


def dense_folders(files: Directory) -> list[str]:
    """Of the dense modules, in order."""
    return [path for kind, path in _modules(files) if kind == "Dense"]


def _modules(files: Directory) -> list[tuple[str, str]]:
    """Kinds and folders of sentence-transformers' modules; none without modules.json."""
    if not files.has(_MODULES):
        return []
    listed = files.json_list(_MODULES)
    return [
        (_text(files, module, "type").rsplit(".", 1)[-1], _text(files, module, "path"))
        for module in listed
    ]


def _pooling_type(files: Directory, name: str) -> int:
    config = ConfigReader(files.json(name), files.located(name))
    config.ignore(*_IGNORED)
    chosen = {_FLAGS[flag] for flag in _FLAGS if config.flag(flag, default=False)}
    mode = config.value("pooling_mode", default=None)
    if mode is not None:
        if not isinstance(mode, str) or mode not in _MODES:
            raise _unknown(config, "pooling_mode", mode)
        chosen.add(_MODES[mode])
    for flag in _OTHER_FLAGS:
        if config.flag(flag, default=False):
            raise _unknown(config, flag, True)
    config.refuse_unread()
    if len(chosen) != 1:
        raise _unknown(config, "pooling_mode", "of several kinds" if chosen else "none")
    return chosen.pop()


def _unknown(config: ConfigReader, name: str, value: Any) -> UnsupportedError:
    return UnsupportedError(
        f"{config.where}: {name} is {shown(value)}",
        hint="Motet pools by the mean, by the first token or by the last one",
    )


def _text(files: Directory, module: dict[str, Any], name: str) -> str:
    value = module.get(name)
    if not isinstance(value, str):
        raise ModelFileError(f"{files.located(_MODULES)}: {name} is {shown(value)}, not a string")
    return value
