"""What idle sequences remember, to a state file and back."""

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
    """Write what idle sequences remember, the least recently used first."""
    context.save(file, sequences.idle, notes=notes)


def restore(context: Context, sequences: Sequences, file: File, longest: int) -> dict[str, str]:
    """Remember what was saved, in sequences that are not lent; the notes.

    Raises what ``Context.restore`` does, CapacityError also for a sequence of more than
    ``longest`` tokens. Only a file that is whole and fits takes the place of what is remembered.
    Sequences that are not what their tokens give, which a context can save, are left out: prompts
    are compared to tokens alone.
    """
    into = sequences.make_room(_sequences_in(context, file))
    restored = context.restore(file, into)
    lengths = [context.memory.length(seq) for seq in into.values()]
    if max(lengths, default=0) > longest:
        for seq in into.values():
            context.memory.remove(seq)
        raise CapacityError(
            f"a saved conversation has {max(lengths)} tokens and the context holds {longest}",
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
