"""A state file's tables, which say what the rows of its tensors are, and the tensors' names."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from motet.memory.saved import Held, Pool, Saved
from motet.memory.state_format import DATA_DIGESTS, DIGEST, Entry, Header, damaged


def index_of(saved: Saved, pools: Sequence[Pool]) -> dict[str, np.ndarray]:
    """The tables that say what the rows of the layers' tensors are."""
    tables = {
        "sequences.ids": saved.sequences,
        "sequences.broken": saved.broken,
        "tokens": saved.tokens,
        "states.rows": saved.states,
    }
    names = [pool.name for pool in pools[: len(saved.held)]]
    for name, held in zip([*names, "checkpoints"], [*saved.held, saved.marks], strict=True):
        tables[f"{name}.lengths"] = held.lengths
        tables[f"{name}.positions"] = held.positions
        tables[f"{name}.rows"] = held.rows
    # 64-bit numbers first, so that each tensor is aligned to its own size.
    return dict(sorted(tables.items(), key=lambda item: -item[1].itemsize))


def read_saved(index: Mapping[str, np.ndarray], pools: Sequence[Pool]) -> Saved:
    """The reverse of ``index_of``. Raises StateFileError where a table is missing."""

    def table(name: str, dtype: type) -> np.ndarray:
        found = index.get(name)
        if found is None or found.dtype != dtype:
            raise damaged(f"it has no table {name!r}")
        return found

    def held(name: str) -> Held:
        return Held(
            table(f"{name}.lengths", np.int64),
            table(f"{name}.positions", np.int32),
            table(f"{name}.rows", np.int32),
        )

    saved = Saved(
        table("sequences.ids", np.int64),
        table("sequences.broken", np.int64),
        table("tokens", np.int32),
        tuple(held(pool.name) for pool in pools if pool.name != "states"),
        table("states.rows", np.int32),
        held("checkpoints"),
    )
    of_sequences = saved.broken, saved.held[0].lengths, saved.marks.lengths
    of_all = [each.lengths for each in saved.held[1:]]
    if saved.checkpoints < 0 or any(
        len(table) != count
        for tables, count in ((of_sequences, len(saved.sequences)), (of_all, len(saved.states)))
        for table in tables
    ):
        raise damaged("its tables are not of the same sequences")
    return saved


def stored_in(pools: Sequence[Pool]) -> Iterator[tuple[str, int, np.ndarray]]:
    """(name in the file, index of its pool, array) of all that layers keep, in their order."""
    found = [
        (layer, f"layers.{layer}.{name}", number, array)
        for number, pool in enumerate(pools)
        for layer, arrays in pool.layers.items()
        for name, array in arrays.items()
    ]
    return (item[1:] for item in sorted(found, key=lambda item: item[0]))


def count_rows(
    header: Header,
    index: Mapping[str, np.ndarray],
    stored: Sequence[tuple[str, int, np.ndarray]],
    pools: Sequence[Pool],
) -> list[int]:
    """Rows of each pool. Raises StateFileError unless the tensors are those of these pools."""
    rest = header.entries[len(index) + 1 :]
    if [entry.name for entry in rest] != [*(name for name, _, _ in stored), DATA_DIGESTS]:
        raise damaged("its tensors are not those of the model's layers")
    counts = [len(index["tokens"]), *[0] * (len(pools) - 1)]
    for entry, (_, pool, _) in zip(rest, stored, strict=False):
        if pool:  # any of its tensors: they have to be alike
            counts[pool] = entry.shape[0] if entry.shape else 0
    expected = [Entry.like(name, array, counts[pool]) for name, pool, array in stored]
    expected.append(Entry(DATA_DIGESTS, "U8", (len(stored), DIGEST)))
    for entry, own in zip(rest, expected, strict=True):
        if entry != own:
            raise damaged(
                f"tensor {entry.name!r} is {entry.dtype} {list(entry.shape)}, not"
                f" {own.dtype} {list(own.shape)}"
            )
    return counts
