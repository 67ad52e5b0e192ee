"""The chat templates of a directory, in GGUF's keys."""

import re

from motet.errors import shown
from motet.huggingface.files import Directory
from motet.huggingface.tokenizer.files import CONFIG, TokenizerFiles
from motet.weights.gguf_metadata import MetadataValue

_FILE = "chat_template.jinja"
_FOLDER = "additional_chat_templates"
_JSON = "chat_template.json"
_KEY = "chat_template"
_SUFFIX = ".jinja"
_NOT_IN_NAMES = re.compile(r"[^0-9A-Za-z]")


def chat_template_keys(files: TokenizerFiles) -> dict[str, MetadataValue]:
    """Keys without ``tokenizer.``; empty if there is no template.

    As in transformers: files of their own first, then ``tokenizer_config.json``.
    Raises TokenizerError for what is no template.
    """
    found = _from_files(files) or _from_json(files, CONFIG) or _from_json(files, _JSON)
    for name, text in found.items():
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise files.error(CONFIG, f"has a lone surrogate in the chat template {shown(name)}")
    named = {_NOT_IN_NAMES.sub("_", name): text for name, text in found.items()}
    keys: dict[str, MetadataValue] = {}
    if (main := named.pop("default", None)) is not None:
        keys[_KEY] = main
    keys |= {f"{_KEY}.{name}": text for name, text in named.items()}
    if named:
        keys["chat_templates"] = [*named]
    return keys


def _from_files(files: TokenizerFiles) -> dict[str, str]:
    found: dict[str, str] = {}
    if files.has(_FILE):
        found["default"] = files.directory.text(_FILE)
        folder = files.directory.located(_FOLDER) if files.has(_FOLDER) else None
        for name in Directory(folder).names() if folder else ():
            if name.endswith(_SUFFIX):
                found[name.removesuffix(_SUFFIX)] = files.directory.text(f"{_FOLDER}/{name}")
    return found


def _from_json(files: TokenizerFiles, name: str) -> dict[str, str]:
    match files.json(name).get(_KEY):
        case None:
            return {}
        case str(text):
            return {"default": text}
        case list(entries):
            found: dict[str, str] = {}
            for entry in entries:
                match entry:
                    case {"name": str(title), "template": str(text)} if title:
                        found[title] = text
                    case _:
                        raise files.error(name, f"has the chat template {shown(entry)}")
            return found
        case value:
            raise files.error(name, f"has the chat template {shown(value)}")
