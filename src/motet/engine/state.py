"""The prefix cache, which is what idle sequences hold, to a state file and back."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from motet.context import Context
from motet.engine.sequences import Sequences
from motet.errors import CapacityError, OptionError, StateFileError
from motet.self_extend import AutoExtend, SelfExtend, read_setting
from motet.state import look

File = str | Path | BinaryIO


def save(
    context: Context, sequences: Sequences, file: File, notes: Mapping[str, str] | None
) -> None:
    """Write what idle sequences hold, the least recently used first."""
    context.save(file, sequences.idle, notes=notes)


def restore(
    context: Context, sequences: Sequences, file: File, context_length: int
) -> dict[str, str]:
    """Read what was saved into sequences that are not in use; returns the notes.

    Raises what ``Context.restore`` does, CapacityError also for a sequence of more than
    ``context_length`` tokens. Nothing is evicted for a file that is damaged or does not fit.
    Sequences whose state their tokens do not determine, which a context can save, are left out:
    prompts are compared to tokens alone.
    """
    into = sequences.make_room(_sequences_in(context, file))
    restored = context.restore(file, into)
    longest = max(map(context.memory.length, into.values()), default=0)
    if longest > context_length:
        for seq in into.values():
            context.memory.remove(seq)
        raise CapacityError(
            f"a saved conversation has {longest} tokens and the context holds {context_length}",
            hint="ask for a longer context",
        )
    whole = [seq for seq in into.values() if context.memory.is_contiguous_and_unedited(seq)]
    for seq in set(into.values()) - set(whole):
        context.memory.remove(seq)
    sequences.restored(whole)
    return restored.notes


def setting_in(file: File) -> SelfExtend | AutoExtend | None:
    """What a file was saved with. Raises StateFileError when it is no state file."""
    found, _ = look(file)
    try:
        return read_setting(found)
    except OptionError as error:
        raise StateFileError(f"{file}: {error.message}") from error


def _sequences_in(context: Context, file: File) -> Sequence[int]:
    """Those that the file has, which is read to its end: before anything makes room for it, it is
    known to be whole and of this model. Raises StateFileError when it is not."""
    found: list[int] = []

    def look_only(saved: Sequence[int]) -> dict[int, int]:
        found.extend(saved)
        return {}

    start = None if isinstance(file, str | Path) else file.tell()
    context.restore(file, look_only)
    if start is not None and not isinstance(file, str | Path):
        file.seek(start)
    return found
