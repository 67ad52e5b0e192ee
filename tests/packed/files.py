"""Packed files taken apart, and put together again with other contents."""

import json
from pathlib import Path
from typing import Any

from xxhash import xxh3_128_digest

from motet.packed.header import BEGINNING, MAGIC, VERSION


def table_of(data: bytes) -> tuple[Any, int, int]:
    """The table, where lists and where it begins."""
    _, _, lists, start, end, _ = BEGINNING.unpack_from(data)
    return json.loads(data[start:end]), lists, start


def with_table(data: bytes, table: Any) -> bytes:
    """The file with another table, and digests that fit."""
    _, lists, start = table_of(data)
    return signed(data[lists:start], data[:lists], json.dumps(table).encode())


def signed(lists: bytes, weights: bytes, table: bytes) -> bytes:
    """A file of these parts; ``weights`` begin with room for the first bytes."""
    start = len(weights) + len(lists)
    digest = xxh3_128_digest(lists + table)
    beginning = BEGINNING.pack(MAGIC, VERSION, len(weights), start, start + len(table), digest)
    return beginning + weights[BEGINNING.size :] + lists + table


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
