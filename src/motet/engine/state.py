"""The prefix cache, which is what idle sequences hold, to a state file and back.

Files are read and written by the thread of whoever asks; the engine's thread, which every answer
waits for, is given what was read and found right.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from motet.arrays import Bool
from motet.context import Context, identity
from motet.engine.sequences import Sequences
from motet.errors import CapacityError, OptionError, StateFileError
from motet.kernels.interface import KV_TYPES
from motet.memory.export import Export
from motet.memory.saved import Saved
from motet.runnable import Runnable
from motet.self_extend import AutoExtend, SelfExtend, read_setting
from motet.state import Contents, Loaded, StateFile, look, opened, save

File = str | Path | BinaryIO

_log = logging.getLogger("motet")


def contents_in(context: Context, state: StateFile) -> Contents:
    """What a state file has. Raises StateFileError for a file of another model."""
    return state.contents(context.memory, context.identity, context.model.config.n_vocab)


def contents_for(context: Context, found: Contents, context_length: int) -> Contents:
    """Of the conversations of a state file those for the prefix cache of an engine on ``context``.

    Sequences whose state their tokens do not determine, which a context can save, are left out:
    prompts are compared to tokens alone. Raises CapacityError for a sequence of more than
    ``context_length`` tokens.
    """
    held = found.saved.sequences.held
    longest = int(held.lengths.max(initial=0))
    if longest > context_length:
        raise CapacityError(
            f"a saved conversation has {longest} tokens and the context holds {context_length}",
            hint="ask for a longer context",
        )
    whole = np.flatnonzero(_told_by_tokens(found.saved))
    if context.model.config.decoder_start is not None:
        whole = whole[:0]  # what was encoded is not told by tokens
    if len(whole) < int(np.count_nonzero(held.lengths)):
        _log.info("%d of %d saved sequences can be gone on from", len(whole), len(held.lengths))
    return found.only(whole)


def contents_of_one(context: Context, state: StateFile, context_length: int) -> Contents:
    """The one conversation of a state file, or of one that has none: nothing.

    Raises as ``contents_for`` does, and StateFileError for several conversations, or one that can't
    be gone on from.
    """
    found = contents_in(context, state)
    count = int(np.count_nonzero(found.saved.sequences.held.lengths))
    if count > 1:
        raise StateFileError(f"holds {count} sequences, and one is wanted")
    told = contents_for(context, found, context_length)
    if len(told.saved.sequences) < count:
        raise StateFileError(
            "holds a sequence that was edited, or computed where numbers are rounded otherwise",
            hint="a Context restores it; here its tokens have to be computed again",
        )
    return told


def fill(context: Context, sequences: Sequences, loaded: Loaded, seqs: Sequence[int]) -> None:
    """Put what was loaded in the place of ``seqs``, which are not in use.

    The least recently used others are evicted where memory is short. Raises CapacityError where
    that is not enough; then nothing has changed.
    """
    evicted, others = list(seqs), [seq for seq in sequences.evictable if seq not in seqs]
    with context.memory.exclusive():
        while True:
            try:
                loaded.fill(context.memory, seqs, evicted)
                break
            except CapacityError:
                if not others:
                    raise
                evicted.append(others.pop(0))
    sequences.used(seqs)


def fill_new(context: Context, sequences: Sequences, contents: Contents) -> None:
    """Read ``contents`` into a context that nobody uses yet. Raises CapacityError as ``fill``."""
    seqs = sequences.least_recent(len(contents.saved.sequences))
    with context.memory.exclusive():
        contents.fill(context.memory, seqs)
    sequences.used(seqs)


def write(file: File, context: Context, export: Export, notes: str) -> None:
    """Write what was exported from ``context``.

    A file at a path takes the rows as they are read from memory, while other answers go on. A
    file object, which may take its time, is given them when all have been read.
    """
    by_object = not isinstance(file, str | Path)
    save(file, context.memory, context.identity, export, notes, gathered_first=by_object)


def setting_of(state: StateFile) -> SelfExtend | AutoExtend | None:
    """What a file was saved with. Raises StateFileError where that is no setting."""
    try:
        return read_setting(state.self_extend)
    except OptionError as error:
        raise StateFileError(error.message) from error


def kv_type_in(file: File) -> str:
    """What keys and values were saved as, "none" for a model without. Raises StateFileError when it
    is no state file."""
    found = look(file).kv_type
    if found not in (*KV_TYPES, "none"):
        raise StateFileError(f"{file}: keys and values as {found[:20]!r} are not known here")
    return found


def refuse_other_models(model: Runnable, file: File) -> None:
    """Raise StateFileError unless ``model`` saved the file, in a context of whatever settings."""
    look(file, identity(model, model.family.caches, look(file).kv_type))


def setting_in(file: str | Path) -> SelfExtend | AutoExtend | None:
    """What a file was saved with. Raises StateFileError when it is no state file."""
    with opened(file) as state:
        return setting_of(state)


def _told_by_tokens(saved: Saved) -> Bool:
    """``[S]``: which sequences hold what their tokens give when they are decoded from 0."""
    held = saved.sequences.held
    some = held.lengths > 0
    last = np.full(len(some), -1)
    last[some] = held.positions[held.ends[some] - 1]
    return some & (last == held.lengths - 1) & (saved.sequences.broken >= held.lengths)
