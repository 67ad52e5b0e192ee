"""Tokens that stand beside a vocabulary: found in a text as they are spelt, before it is cut."""

from dataclasses import dataclass
from typing import Any

from motet.errors import shown
from motet.huggingface.tokenizer.files import (
    CONFIG,
    FAST,
    SPECIAL_MAP,
    TokenizerFiles,
    token_text,
)

_LIST = "added_tokens.json"
_LONGEST_ID = 9
"""Digits."""


@dataclass(frozen=True)
class AddedToken:
    """As the ``tokenizers`` library has it; ``special``: no text, left out of what is shown."""

    content: str
    special: bool = False
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False


def read_added_tokens(files: TokenizerFiles) -> dict[int, AddedToken]:
    """Id -> token, from all files that name some; the last one that names an id is right.

    In this order: ``added_tokens.json``, ``tokenizer_config.json``, ``tokenizer.json``.
    Raises TokenizerError for what is no token or no id.
    """
    found: dict[int, AddedToken] = {}
    special = _special_texts(files)
    for content, index in files.json(_LIST).items():
        token = AddedToken(content, special=content in special)
        found[_id(files, _LIST, index, content)] = token
    for index, entry in files.table(CONFIG, "added_tokens_decoder").items():
        is_number = index.isascii() and index.isdigit() and len(index) <= _LONGEST_ID
        token = _token(files, CONFIG, entry)
        found[_id(files, CONFIG, int(index) if is_number else index, token.content)] = token
    for entry in files.listed(FAST, "added_tokens"):
        token = _token(files, FAST, entry)
        found[_id(files, FAST, entry.get("id"), token.content)] = token
    return found


def _special_texts(files: TokenizerFiles) -> set[str]:
    """Texts to which ``special_tokens_map.json`` and ``tokenizer_config.json`` give a part."""
    texts: set[str] = set()
    for name in (SPECIAL_MAP, CONFIG):
        named = [value for key, value in files.json(name).items() if key.endswith("_token")]
        several = files.json(name).get("additional_special_tokens")
        named += several if isinstance(several, list) else []
        texts |= {text for value in named if (text := token_text(value))}
    return texts


def _token(files: TokenizerFiles, name: str, entry: Any) -> AddedToken:
    content = token_text(entry)
    if not isinstance(entry, dict) or content is None:
        raise files.error(name, f"has the added token {shown(entry)}, which has no content")
    flags: dict[str, bool] = {}
    for flag in ("special", "lstrip", "rstrip", "single_word", "normalized"):
        value = entry.get(flag, False)
        if not isinstance(value, bool):
            raise files.error(name, f"says {flag} {shown(value)} of {shown(content)}")
        flags[flag] = value
    return AddedToken(content, **flags)


def _id(files: TokenizerFiles, name: str, value: Any, content: str) -> int:
    if type(value) is not int or value < 0:
        raise files.error(name, f"has {shown(content)} at id {shown(value)}, which is none")
    return value
