"""Writing what sequences hold to a state file; ``docs/memory.md`` describes it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from motet import bounded_json
from motet.errors import OptionError
from motet.memory.export import Export
from motet.memory.memory import Memory
from motet.state import rows
from motet.state.file_objects import Sink
from motet.state.format import DIGEST, INDEX_DIGEST, MAX_TABLES, Entry, Header, ModelIdentity
from motet.state.paths import opened_for_writing
from motet.state.tables import entries_of, index_of, stored_arrays


def save(
    file: str | Path | BinaryIO,
    memory: Memory,
    model: ModelIdentity,
    export: Export,
    notes: str,
    *,
    gathered_first: bool = False,
) -> None:
    """Write what was exported from ``memory``; see ``Context.save``.

    ``notes``: as ``encoded`` gives them. The export is closed when its rows have been read:
    ``gathered_first`` before anything is written, so that whoever waits for them does not wait for
    the file.
    """
    with export:
        index, stored = index_of(export.saved), stored_arrays(memory.caches)
        header = Header(
            model.metadata() | {"arithmetic": model.arithmetic, "notes": notes},
            [
                *(Entry.of(name, array) for name, array in index.items()),
                Entry(INDEX_DIGEST, "U8", (DIGEST,)),
                *entries_of(stored, [len(each) for each in export.slots]),
            ],
        ).encode()
        tables = sum(array.nbytes for array in index.values())
        if tables > MAX_TABLES:
            raise OptionError(
                f"the tables of the sequences take {tables} bytes, and {MAX_TABLES} are the most",
                hint="save fewer sequences at once",
            )
        tensors = [(each.array, export.slots[each.cache]) for each in stored]
        data = rows.gather(memory.kernels, tensors)
        if gathered_first:
            data = iter(list(data))
            export.close()
        with opened_for_writing(file) as raw:
            sink, checksum = Sink(raw), rows.digest()
            for part in (header, *map(rows.as_bytes, index.values())):
                checksum.update(part)
                sink.write(part)
            sink.write(checksum.digest())
            checksums = [rows.digest() for _ in tensors]
            for number, part in data:
                checksums[number].update(part)
                sink.write(part)
            export.close()  # before the disk has it, which may take long
            sink.write(b"".join(each.digest() for each in checksums))


def encoded(notes: Mapping[str, str]) -> str:
    """The notes as they stand in a file. Raises OptionError for too many."""
    if len(notes) > bounded_json.MOST_ITEMS:
        raise OptionError(
            f"there are {len(notes)} notes, and {bounded_json.MOST_ITEMS} are the most"
        )
    return json.dumps(dict(notes))
