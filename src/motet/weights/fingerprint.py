"""What tells a model from every other: digests of its weights, its settings and its tokenizer.

They guard against mistakes, such as a state file used with another fine-tune of the same shape;
xxh3 is no protection against forgery.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from motet.weights.source import ModelSource

_CHAT_TEMPLATE = "tokenizer.chat_template"
"""How messages become text: it says nothing of which tokens a text is, and is often corrected."""


@dataclass(frozen=True)
class Fingerprint:
    """Hexadecimal xxh3_128 digests of a model's content."""

    weights: str
    """Of every tensor that is used: name, type, shape and bytes; not how the file is split."""
    settings: str
    """Of the architecture and its keys: sizes, scales, rope."""
    tokenizer: str
    """Of the vocabulary and its rules, without chat templates."""


def fingerprint_of(file: ModelSource, digests: Mapping[str, str]) -> Fingerprint:
    """The fingerprint of a file, which may be closed.

    ``digests``: xxh3_128 of the bytes of each tensor, by its name. They are taken while weights are
    loaded: what the file holds later may be something else.
    """
    prefix = f"{file.architecture}."
    settings = {
        key: value
        for key, value in file.metadata.items()
        if key == "general.architecture" or key.startswith(prefix)
    }
    tokenizer = {
        key: value
        for key, value in file.metadata.items()
        if key.startswith("tokenizer.") and not key.startswith(_CHAT_TEMPLATE)
    }
    return Fingerprint(_of_tensors(file, digests), _of_keys(settings), _of_keys(tokenizer))


def _of_tensors(file: ModelSource, digests: Mapping[str, str]) -> str:
    from xxhash import xxh3_128_hexdigest

    table = [
        [info.name, info.type.name, list(info.shape), digests[name]]
        for name, info in sorted(file.tensors.items())
        if name in digests
    ]
    return xxh3_128_hexdigest(json.dumps(table).encode())


def _of_keys(keys: Mapping[str, Any]) -> str:
    """ASCII JSON, so that vocabularies with bytes that are not UTF-8 have a digest too."""
    from xxhash import xxh3_128_hexdigest

    return xxh3_128_hexdigest(json.dumps(keys, sort_keys=True).encode())
