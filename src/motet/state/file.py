"""Writing what sequences hold to a state file, and reading it; ``docs/memory.md`` describes it."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from motet import checks
from motet.arrays import Array
from motet.errors import OptionError, StateFileError
from motet.memory.memory import Memory
from motet.state.format import (
    DIGEST,
    FORMAT,
    INDEX_DIGEST,
    MAX_HEADER,
    Entry,
    Header,
    ModelIdentity,
    damaged,
)
from motet.state.io import (
    Sink,
    Source,
    as_bytes,
    digest,
    opened_for_reading,
    opened_for_writing,
    read_rows,
    write_rows,
)
from motet.state.tables import count_rows, entries_of, index_of, read_saved, stored_arrays

Into = Mapping[int, int] | Callable[[Sequence[int]], Mapping[int, int]] | None


@dataclass(frozen=True)
class Restored:
    """What ``restore`` brought back."""

    sequences: dict[int, int]
    """The number that each sequence was saved under: the one that it has now."""
    notes: dict[str, str]
    """The caller's own, as they were saved."""


@dataclass(frozen=True)
class Preview:
    """What the beginning of a state file says: how keys and values are kept and the Self-Extend
    setting, both "none" for none, and the caller's notes."""

    kv_type: str
    self_extend: str
    notes: dict[str, str]


def save(
    file: str | Path | BinaryIO,
    memory: Memory,
    model: ModelIdentity,
    seqs: Sequence[int],
    notes: Mapping[str, str],
) -> None:
    """Write ``seqs``; see ``Context.save``. Hold ``memory.exclusive()``."""
    saved, slots = memory.export(seqs)
    index, stored = index_of(saved), stored_arrays(memory.caches)
    header = Header(
        model.metadata() | {"arithmetic": model.arithmetic, "notes": json.dumps(dict(notes))},
        [
            *(Entry.of(name, array) for name, array in index.items()),
            Entry(INDEX_DIGEST, "U8", (DIGEST,)),
            *entries_of(stored, [len(each) for each in slots]),
        ],
    ).encode()
    with opened_for_writing(file) as raw:
        sink, checksum = Sink(raw), digest()
        for data in (header, *map(as_bytes, index.values())):
            checksum.update(data)
            sink.write(data)
        sink.write(checksum.digest())
        tensors = [(each.array, slots[each.cache]) for each in stored]
        sink.write(write_rows(sink, memory.kernels, tensors))


def restore(
    file: str | Path | BinaryIO, memory: Memory, model: ModelIdentity, n_vocab: int, into: Into
) -> Restored:
    """Bring back what ``save`` wrote; see ``Context.restore``. Hold ``memory.exclusive()``.

    Rows go into pages and slots that nothing uses, and become part of memory at the end.
    """
    with opened_for_reading(file) as (source, size):
        header, index = _read_index(source, size)
        header.refuse_others(model)
        notes, saved = header.notes(), read_saved(index, memory.caches)
        stored = stored_arrays(memory.caches)
        counts = count_rows(header, index, stored, len(memory.caches))
        saved.check(counts, n_vocab)
        if header.metadata.get("arithmetic") != model.arithmetic:
            saved = saved.from_elsewhere()
        numbers = saved.sequences.numbers.tolist()
        target_of = _targets(numbers, into, memory)
        chosen = np.flatnonzero([number in target_of for number in numbers])
        targets = [target_of[numbers[i]] for i in chosen.tolist()]
        plan = memory.fill(saved.only(chosen), targets)
        tensors = [(each.array, counts[each.cache], plan.places[each.cache]) for each in stored]
        checksums = read_rows(source, memory.kernels, tensors)
        if bytes(source.take(len(checksums))) != checksums:
            raise damaged("the checksums of its layers are not those of their data")
    plan.commit()
    return Restored(target_of, notes)


def look(file: str | Path | BinaryIO, model: ModelIdentity | None = None) -> Preview:
    """The beginning of a state file. A file object is left where it stood.

    ``model``: whose it has to be, whatever its Self-Extend setting; None for anybody's. Raises
    StateFileError for any other file, and one whose beginning is damaged.
    """
    start = None if isinstance(file, str | Path) else file.tell()
    try:
        with opened_for_reading(file) as (source, size):
            header, _ = _read_index(source, size)
            if header.metadata.get("format") != FORMAT:
                raise StateFileError("is a safetensors file, but not a state file of Motet")
            setting = header.metadata.get("self_extend", "none")
            if model is not None:
                header.refuse_others(replace(model, self_extend=setting))
            return Preview(header.metadata.get("kv_type", "none"), setting, header.notes())
    finally:
        if start is not None and not isinstance(file, str | Path):
            file.seek(start)


def _read_index(source: Source, size: int | None) -> tuple[Header, dict[str, Array]]:
    """The header and the tables after it, whose checksum is right.

    ``size``: bytes of the file, None where that is not known.
    """
    if size == 0:
        raise StateFileError("is empty", hint="give a file that save wrote")
    if size is not None and size < 8:
        raise StateFileError(
            f"is not a state file: it has {size} bytes", hint="give a file that save wrote"
        )
    checksum = digest()
    length = _header_length(source, checksum)
    text = source.take(length)
    checksum.update(text)
    header = Header.decode(text)
    whole = 8 + length + sum(entry.nbytes for entry in header.entries)
    if size is not None and size != whole:
        problem = "cut short" if size < whole else "longer than it should be"
        raise StateFileError(
            f"is {problem}: it has {size} bytes, and its header tells of {whole}",
            hint="an earlier copy may be whole; this one can't be restored",
        )
    names = [entry.name for entry in header.entries]
    if INDEX_DIGEST not in names:
        if header.metadata.get("format") == FORMAT:
            raise damaged("it has no checksums")
        raise StateFileError("is a safetensors file, but not a state file of Motet")
    tables: dict[str, Array] = {}
    for entry in header.entries[: names.index(INDEX_DIGEST)]:
        if len(entry.shape) != 1:
            raise damaged(f"tensor {entry.name!r} is not a table")
        data = source.take(entry.nbytes)
        checksum.update(data)
        tables[entry.name] = np.frombuffer(data, entry.numpy_dtype)
    if bytes(source.take(DIGEST)) != checksum.digest():
        raise damaged("the checksum of its header and tables is not that of their data")
    return header, tables


def _header_length(source: Source, checksum: Any) -> int:
    beginning = source.take(8)
    checksum.update(beginning)
    length = int.from_bytes(beginning, "little")
    if beginning.startswith(b"GGUF"):
        raise StateFileError("is a GGUF model, not a state file", hint="give the file of a state")
    if not 2 <= length <= MAX_HEADER:
        raise StateFileError("is not a state file", hint="give a file that save wrote")
    return length


def _targets(saved: Sequence[int], into: Into, memory: Memory) -> dict[int, int]:
    """{saved id: new id} as asked for. Raises OptionError where that cannot be."""
    pairs: Iterable[tuple[Any, Any]] = zip(saved, saved, strict=True)
    if into is not None:
        given: Any = into(saved) if callable(into) else into
        of = "{saved number: number here}, or a function that returns it"
        pairs = checks.mapping("into", given, of).items()
    known, taken, out = set(saved), set[int](), dict[int, int]()
    for key, value in pairs:
        seq = checks.whole("a saved number in into", key, checks.LEAST)
        target = checks.whole("a target in into", value, checks.LEAST)
        if seq not in known:
            raise OptionError(
                f"into names sequence {seq}, which was not saved",
                hint=f"saved were {', '.join(map(str, saved[:20])) or 'none'}",
            )
        elsewhere = f"restore elsewhere: into={{{seq}: …}}"
        if not 0 <= target < memory.max_sequences:
            raise OptionError(
                f"sequence {seq} would be restored into sequence {target}, and this context has"
                f" sequences 0 to {memory.max_sequences - 1}",
                hint=f"{elsewhere}, or give the context a larger max_sequences",
            )
        if memory.length(target):
            raise OptionError(
                f"sequence {seq} would be restored into sequence {target}, which holds"
                f" {memory.length(target)} tokens",
                hint=f"remove these first, or {elsewhere}",
            )
        if target in taken:
            raise OptionError(f"two sequences would be restored into sequence {target}")
        taken.add(target)
        out[seq] = target
    return out
