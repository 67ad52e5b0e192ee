"""A state file's tables, which say what the rows of its tensors are, and the tensors' names."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from motet.arrays import Array
from motet.memory.cache import Cache
from motet.memory.saved import Saved, SavedSequences, Tables, TokenRows, read_table
from motet.state.format import DATA_DIGESTS, DIGEST, Entry, Header, damaged


@dataclass(frozen=True)
class StoredArray:
    """One tensor of what layers keep."""

    name: str
    cache: int
    """Which of memory's caches it belongs to."""
    array: Array
    """``[pages, rows of a page, …]``."""


def index_of(saved: Saved) -> dict[str, Array]:
    """The tables that say what the rows of the layers' tensors are."""
    sequences = saved.sequences
    tables: dict[str, Array] = {
        "sequences.ids": sequences.numbers,
        "sequences.broken": sequences.broken,
        "tokens": sequences.tokens,
    }
    tables |= sequences.held.tables("full")
    for rows in saved.caches:
        tables |= rows.tables()
    tables |= saved.marks.tables("checkpoints")
    # 64-bit numbers first, so that each tensor is aligned to its own size.
    return dict(sorted(tables.items(), key=lambda item: -item[1].itemsize))


def read_saved(index: Tables, caches: Sequence[Cache]) -> Saved:
    """The reverse of ``index_of``. Raises StateFileError where a table is missing."""
    marks = TokenRows.read(index, "checkpoints")
    return Saved(
        SavedSequences(
            read_table(index, "sequences.ids", np.int64),
            read_table(index, "sequences.broken", np.int64),
            read_table(index, "tokens", np.int32),
            TokenRows.read(index, "full"),
        ),
        tuple(cache.read(index) for cache in caches),
        marks,
        int(marks.rows.max(initial=-1)) + 1,
    )


def stored_arrays(caches: Sequence[Cache]) -> list[StoredArray]:
    """All that layers keep, layer by layer."""
    found: list[tuple[tuple[int, int], StoredArray]] = []
    for number, cache in enumerate(caches):
        for (layer, k), arrays in cache.arrays.items():
            prefix = f"layers.{layer}.{k}." if k else f"layers.{layer}."
            found += [
                ((layer, k), StoredArray(prefix + name, number, array))
                for name, array in arrays.items()
            ]
    return [stored for _, stored in sorted(found, key=lambda item: item[0])]


def count_rows(
    header: Header, index: Mapping[str, Array], stored: Sequence[StoredArray], caches: int
) -> list[int]:
    """Rows of each cache. Raises StateFileError unless the tensors are those of these arrays."""
    rest = header.entries[len(index) + 1 :]
    if [entry.name for entry in rest] != [*(each.name for each in stored), DATA_DIGESTS]:
        raise damaged("its tensors are not those of the model's layers")
    counts = [0] * caches
    for entry, each in zip(rest, stored, strict=False):
        counts[each.cache] = entry.shape[0] if entry.shape else 0  # of any: they have to be alike
    for entry, own in zip(rest, entries_of(stored, counts), strict=True):
        if entry != own:
            raise damaged(
                f"tensor {entry.name!r} is {entry.dtype} {list(entry.shape)}, not"
                f" {own.dtype} {list(own.shape)}"
            )
    return counts


def entries_of(stored: Sequence[StoredArray], counts: Sequence[int]) -> Iterator[Entry]:
    """The tensors' entries in a header, with that of their checksums."""
    for each in stored:
        yield Entry.like(each.name, each.array, counts[each.cache])
    yield Entry(DATA_DIGESTS, "U8", (len(stored), DIGEST))
