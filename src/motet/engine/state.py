"""The prefix cache, which is what idle sequences hold, to a state file and back."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from motet.context import Context, identity
from motet.engine.sequences import Sequences
from motet.errors import CapacityError, OptionError, StateFileError
from motet.kernels.interface import KV_TYPES
from motet.runnable import Runnable
from motet.self_extend import AutoExtend, SelfExtend, read_setting
from motet.state import look

File = str | Path | BinaryIO


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


def kv_type_in(file: File) -> str:
    """What keys and values were saved as, "none" for a model without. Raises StateFileError when it
    is no state file."""
    found = look(file).kv_type
    if found not in (*KV_TYPES, "none"):
        raise StateFileError(f"{file}: keys and values as {found[:20]!r} are not known here")
    return found


def setting_in(file: File) -> SelfExtend | AutoExtend | None:
    """What a file was saved with. Raises StateFileError when it is no state file."""
    try:
        return read_setting(look(file).self_extend)
    except OptionError as error:
        raise StateFileError(f"{file}: {error.message}") from error


def refuse_other_models(model: Runnable, file: File) -> None:
    """Raise StateFileError unless ``model`` saved the file, in a context of whatever settings."""
    look(file, identity(model, look(file).kv_type))


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
