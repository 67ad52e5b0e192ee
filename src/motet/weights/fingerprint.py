"""What tells a model from every other: digests of its weights, its settings and its tokenizer.

They guard against mistakes, such as a state file used with another fine-tune of the same shape;
xxh3 is no protection against forgery.
"""

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from motet.weights.gguf import GGUFFile

_THREADS = 2
"""One thread does not keep the memory busy while it also maps pages; more hardly add."""
_CHAT_TEMPLATE = "tokenizer.chat_template"
"""How messages become text: it says nothing of which tokens a text is, and is often corrected."""


@dataclass(frozen=True)
class Fingerprint:
    """Hexadecimal xxh3_128 digests of a model's content."""

    weights: str
    """Of every tensor: name, type, shape and bytes. Metadata and splitting do not matter."""
    settings: str
    """Of the architecture and its keys: sizes, scales, rope."""
    tokenizer: str
    """Of the vocabulary and its rules, without chat templates."""


def fingerprint_of(file: GGUFFile) -> Fingerprint:
    """The fingerprint of an open file, all of which is read.

    Raises ModelFileError if the file has been closed.
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
    return Fingerprint(_of_tensors(file), _of_keys(settings), _of_keys(tokenizer))


def _of_tensors(file: GGUFFile) -> str:
    from xxhash import xxh3_128_hexdigest

    def digest(name: str) -> str:
        found = xxh3_128_hexdigest(file.raw(name).data)
        file.release(name)
        return found

    names = sorted(file.tensors)
    pool = ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1))
    try:
        digests = list(pool.map(digest, names))
    finally:  # after Ctrl-C no further tensor is begun
        pool.shutdown(cancel_futures=True)
    infos = [file.tensors[name] for name in names]
    table = [
        [info.name, info.type.name, list(info.shape), found]
        for info, found in zip(infos, digests, strict=True)
    ]
    return xxh3_128_hexdigest(json.dumps(table).encode())


def _of_keys(keys: Mapping[str, Any]) -> str:
    """ASCII JSON, so that vocabularies with bytes that are not UTF-8 have a digest too."""
    from xxhash import xxh3_128_hexdigest

    return xxh3_128_hexdigest(json.dumps(keys, sort_keys=True).encode())
