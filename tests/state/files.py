"""What the tests of state files share: saving a Talk, restoring it, and forging files."""

import io
from collections.abc import Callable, Mapping

import numpy as np
from xxhash import xxh3_128

from motet.spec import FullAttention, SlidingAttention
from motet.state.format import Entry, Header
from motet.state.tables import index_of, stored_arrays
from tests.memory.talk import Talk
from tests.toy import ALL_KINDS, HYBRID, LAYERS, RECURRENT

KINDS = {
    "full": (FullAttention(2, 4, 3), FullAttention(1, 2, 2)),
    "sliding": (SlidingAttention(1, 4, 4, 5), SlidingAttention(2, 4, 4, 90)),
    "both": LAYERS,
    "recurrent": RECURRENT,
    "hybrid": HYBRID,
    "all": ALL_KINDS,
}


def saved(talk: Talk, *seqs: int, notes: Mapping[str, str] | None = None) -> bytes:
    """A state file of ``seqs``, by default of all."""
    file = io.BytesIO()
    talk.context.save(file, seqs or None, notes=notes)
    talk.check()
    return file.getvalue()


def restored(talk: Talk, file: bytes, into=None, to: Talk | None = None, **options) -> Talk:
    """Another talk, new or ``to``, that goes on from ``file``, which was saved of ``talk``."""
    options = {"max_sequences": 4, "checkpoint_bytes": 1 << 20, **options}
    other = to or Talk(layers=talk.model.layers, **options)
    pairs = other.context.restore(io.BytesIO(file), into).sequences
    for old, new in pairs.items():
        other.plain.held[new] = dict(talk.plain.held.get(old, {}))
    other.plain._serial = max(other.plain._serial, talk.plain._serial)
    other._spoken = max(other._spoken, talk._spoken)
    other.check()
    return other


def everything(context) -> list:
    """All that a context's sequences hold, bit for bit."""
    memory = context.memory
    export = memory.export(range(memory.max_sequences))
    arrays = list(index_of(export.saved).values())
    for stored in stored_arrays(memory.caches):
        array, where = stored.array, export.slots[stored.cache]
        arrays.append(array[where // array.shape[1], where % array.shape[1]])
    return [array.tobytes() for array in arrays]


def forged(
    file: bytes,
    tables: Mapping[str, Callable[[np.ndarray], object]] | None = None,
    metadata: Mapping[str, str | None] | None = None,
    entries: Callable[[list[Entry]], list[Entry]] = lambda entries: entries,
) -> bytes:
    """``file`` with other tables, metadata or tensors, and checksums that are right for them."""
    size = int.from_bytes(file[:8], "little")
    header, at = Header.decode(file[8 : 8 + size]), 8 + size
    new, data, rest, index = [], b"", b"", True
    for entry in header.entries:
        raw, at = file[at : at + entry.nbytes], at + entry.nbytes
        if entry.name == "checksums.index":
            index = False
        elif not index:
            rest += raw
        elif entry.name in (tables or {}):
            values = np.array((tables or {})[entry.name](np.frombuffer(raw, entry.numpy_dtype)))
            values = values.astype(entry.numpy_dtype)
            data += values.tobytes()
            new.append(Entry.of(entry.name, values))
            continue
        else:
            data += raw
        new.append(entry)
    strings = {**header.metadata, **(metadata or {})}
    strings = {key: value for key, value in strings.items() if value is not None}
    data = Header(strings, entries(new)).encode() + data
    return data + xxh3_128(data).digest() + rest


def unpacked(file: bytes) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The strings and the tensors of a state file, in order, without their checksums."""
    size = int.from_bytes(file[:8], "little")
    header, at = Header.decode(file[8 : 8 + size]), 8 + size
    tensors = {}
    for entry in header.entries:
        raw = np.frombuffer(file[at : at + entry.nbytes], entry.numpy_dtype)
        tensors[entry.name], at = raw.reshape(entry.shape).copy(), at + entry.nbytes
    return dict(header.metadata), {n: t for n, t in tensors.items() if "checksums" not in n}


def packed(metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> bytes:
    """The reverse: a file whose checksums are right, whatever the tensors are."""
    names = list(tensors)
    first = next((i for i, name in enumerate(names) if name.startswith("layers.")), len(names))
    layers = [tensors[name].tobytes() for name in names[first:]]
    entries = [Entry.of(name, tensor) for name, tensor in tensors.items()]
    entries.insert(first, Entry("checksums.index", "U8", (16,)))
    entries.append(Entry("checksums.layers", "U8", (len(layers), 16)))
    data = Header(metadata, entries).encode()
    data += b"".join(tensors[name].tobytes() for name in names[:first])
    digests = b"".join(xxh3_128(layer).digest() for layer in layers)
    return data + xxh3_128(data).digest() + b"".join(layers) + digests
