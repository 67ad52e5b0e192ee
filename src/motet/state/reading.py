"""Reading state files, whoever wrote them; ``docs/memory.md`` describes what is in them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from motet import checks
from motet.arrays import Array, Int64
from motet.errors import OptionError, StateFileError
from motet.memory.memory import Memory
from motet.memory.saved import Saved
from motet.memory.transaction import RestorePlan
from motet.state import rows
from motet.state.file_objects import Source
from motet.state.format import (
    DIGEST,
    FORMAT,
    MAX_HEADER,
    MAX_TABLES,
    Header,
    ModelIdentity,
    damaged,
)
from motet.state.paths import opened_for_reading
from motet.state.tables import (
    StoredArray,
    count_rows,
    read_saved,
    stored_arrays,
)

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


class StateFile:
    """A state file of which the beginning has been read and the rows come next."""

    def __init__(self, source: Source, size: int | None) -> None:
        """``size``: bytes of the file, None where that is not known.

        Raises StateFileError for any other file, and one whose beginning is damaged.
        """
        self._source = source
        self._header, self._index = _read_index(source, size)
        if self._header.metadata.get("format") != FORMAT:
            raise StateFileError("is a safetensors file, but not a state file of Motet")

    @property
    def self_extend(self) -> str:
        """The setting, as it stands there."""
        return self._header.metadata.get("self_extend", "none")

    @property
    def kv_type(self) -> str:
        """How keys and values are kept, as it stands there."""
        return self._header.metadata.get("kv_type", "none")

    def notes(self) -> dict[str, str]:
        """The caller's own strings. Raises StateFileError where they are none."""
        return self._header.notes()

    def require(self, model: ModelIdentity) -> None:
        """Raise StateFileError unless a like model saved the file."""
        self._header.refuse_others(model)

    def contents(self, memory: Memory, model: ModelIdentity, n_vocab: int) -> "Contents":
        """What it has for a context with such memory. Raises StateFileError for another's."""
        self.require(model)
        notes, saved = self.notes(), read_saved(self._index, memory.caches)
        stored = stored_arrays(memory.caches)
        counts = count_rows(self._header, self._index, stored, len(memory.caches))
        saved.check(counts, n_vocab)
        if self._header.metadata.get("arithmetic") != model.arithmetic:
            saved = saved.from_elsewhere()
        return Contents(self._source, stored, counts, saved, notes)


@dataclass(frozen=True)
class Contents:
    """The sequences of a state file, checked; the rows are still to be read, once."""

    source: Source
    stored: Sequence[StoredArray]
    counts: Sequence[int]
    """Rows of each cache."""
    saved: Saved
    notes: dict[str, str]

    def only(self, chosen: Int64) -> "Contents":
        """Some of the sequences, by index."""
        return replace(self, saved=self.saved.only(chosen))

    def fill(self, memory: Memory, seqs: Sequence[int]) -> None:
        """Give ``seqs``, which hold nothing, the sequences. Hold ``memory.exclusive()``.

        Rows go into pages and slots that nothing uses, and become part of memory at the end.
        """
        plan = memory.fill(self.saved, seqs)
        plan.begin()
        _scatter(memory, plan, self.stored, rows.read(self.source, self._tensors))
        plan.commit()

    def load(self, memory: Memory) -> "Loaded":
        """All of it, to be given to ``memory`` later, which is not changed or waited for.

        Raises CapacityError where not even an empty memory has room for it.
        """
        wanted = [np.unique(places.rows) for places in memory.fits(self.saved)]
        kept = [
            block.only(wanted[self.stored[block.tensor].cache])
            for block in rows.read(self.source, self._tensors, kept=True)
        ]
        return Loaded(self.stored, self.saved, kept[::-1])

    @property
    def _tensors(self) -> list[tuple[Array, int]]:
        return [(each.array, self.counts[each.cache]) for each in self.stored]


@dataclass(frozen=True)
class Loaded:
    """The sequences of a state file and their rows, all read and found right."""

    stored: Sequence[StoredArray]
    saved: Saved
    blocks: list[rows.Block]
    """From the last to the first; each is let go when it has been used."""

    def fill(self, memory: Memory, seqs: Sequence[int], evicted: Sequence[int]) -> None:
        """Give ``seqs`` the sequences, and forget ``evicted``. Hold ``memory.exclusive()``.

        Raises CapacityError where they do not fit, even so; then nothing has changed. Otherwise it
        can be done once.
        """
        plan = memory.fill(self.saved, seqs, evicted)
        plan.begin()
        _scatter(memory, plan, self.stored, self._blocks())
        plan.commit()

    def _blocks(self) -> Iterator[rows.Block]:
        while self.blocks:
            yield self.blocks.pop()


@contextmanager
def opened(file: str | Path | BinaryIO) -> Iterator[StateFile]:
    """A state file, read from where it stands; StateFileErrors raised meanwhile say which it is."""
    with opened_for_reading(file) as (source, size):
        yield StateFile(source, size)


def restore(
    state: StateFile, memory: Memory, model: ModelIdentity, n_vocab: int, into: Into
) -> Restored:
    """Bring back what ``save`` wrote; see ``Context.restore``. Hold ``memory.exclusive()``."""
    contents = state.contents(memory, model, n_vocab)
    numbers = contents.saved.sequences.numbers.tolist()
    target_of = _targets(numbers, into, memory)
    chosen = np.flatnonzero([number in target_of for number in numbers])
    contents.only(chosen).fill(memory, [target_of[numbers[i]] for i in chosen.tolist()])
    return Restored(target_of, contents.notes)


def look(file: str | Path | BinaryIO, model: ModelIdentity | None = None) -> Preview:
    """The beginning of a state file. A file object is left where it stood.

    ``model``: whose it has to be, whatever its Self-Extend setting; None for anybody's. Raises
    StateFileError for any other file, and one whose beginning is damaged, OptionError for a file
    object that can't tell where it stands.
    """
    if isinstance(file, str | Path):
        return _look(file, model)
    try:
        start = file.tell()
    except AttributeError:
        raise OptionError(
            f"the file is {str(file)[:80]!r}, and has to be one that can seek",
            hint="give a path, or a file opened in binary mode",
        ) from None
    try:
        return _look(file, model)
    finally:
        file.seek(start)


def _look(file: str | Path | BinaryIO, model: ModelIdentity | None) -> Preview:
    with opened(file) as state:
        if model is not None:
            state.require(replace(model, self_extend=state.self_extend))
        return Preview(state.kv_type, state.self_extend, state.notes())


def _scatter(
    memory: Memory, plan: RestorePlan, stored: Sequence[StoredArray], blocks: Iterator[rows.Block]
) -> None:
    arrays = [(each.array, plan.places[each.cache]) for each in stored]
    rows.scatter(memory.kernels, blocks, arrays)


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
    checksum = rows.digest()
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
    if header.index == len(header.entries):
        if header.metadata.get("format") == FORMAT:
            raise damaged("it has no checksums")
        raise StateFileError("is a safetensors file, but not a state file of Motet")
    return header, _read_tables(source, header, checksum)


def _read_tables(source: Source, header: Header, checksum: Any) -> dict[str, Array]:
    entries = header.entries[: header.index]
    nbytes = sum(entry.nbytes for entry in entries)
    if nbytes > MAX_TABLES:
        raise damaged(f"its tables would take {nbytes} bytes, and {MAX_TABLES} are the most")
    tables: dict[str, Array] = {}
    for entry in entries:
        if len(entry.shape) != 1:
            raise damaged(f"tensor {entry.name[:80]!r} is not a table")
        data = source.take(entry.nbytes)
        checksum.update(data)
        tables[entry.name] = np.frombuffer(data, entry.numpy_dtype)
    if bytes(source.take(DIGEST)) != checksum.digest():
        raise damaged("the checksum of its header and tables is not that of their data")
    return tables


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
    held = set(memory.held)
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
        if target in held:
            raise OptionError(
                f"sequence {seq} would be restored into sequence {target}, which holds"
                f" {memory.length(target) or memory.encoded(target)} tokens",
                hint=f"remove these first, or {elsewhere}",
            )
        if target in taken:
            raise OptionError(f"two sequences would be restored into sequence {target}")
        taken.add(target)
        out[seq] = target
    return out
