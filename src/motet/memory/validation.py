"""What Memory refuses before it changes anything, and the errors that say so."""

from collections.abc import Callable, Sequence

import numpy as np

from motet import checks
from motet.arrays import Int64
from motet.errors import BatchError, CannotRewind, CapacityError, OptionError
from motet.kernels import PAGE
from motet.memory.cross import CrossTable
from motet.memory.page_masks import FOREVER
from motet.memory.saved import SavedSequences
from motet.memory.slot_mapping import MicroBatch

_ENTRY_BYTES = 12
_MOST_TABLE_BYTES = 1 << 28


def check_within(seq: int, position: int, end: int) -> None:
    """Raise OptionError for a position to go back to that is beyond where ``seq`` ends."""
    if position > end:
        raise OptionError(
            f"the position of sequence {seq} is {position}, and it ends at {end}",
            hint="go back to where it ends at most",
        )


def position_range(start: int, end: int | None) -> tuple[int, int]:
    """Start and stop of positions, the latter FOREVER for None; OptionError if they are none."""
    first = checks.whole("start", start, checks.LEAST)
    stop = max(first, FOREVER) if end is None else checks.whole("end", end, checks.LEAST)
    if first < 0 or stop < first:
        raise OptionError(
            f"start {start}, end {end} is not a range of positions",
            hint="0 <= start <= end; leave end out for all that follows",
        )
    return min(first, FOREVER), min(stop, FOREVER)


def sequence_number(seq: int, count: int) -> int:
    """``seq`` as an int; OptionError unless it is one of ``count`` sequences."""
    number = checks.whole("seq", seq, checks.LEAST)
    if not 0 <= number < count:
        raise OptionError(
            f"there is no sequence {number}",
            hint=f"this context has sequences 0 to {count - 1}; max_sequences gives it more",
        )
    return number


def check_positions(ubatches: Sequence[MicroBatch], most: int, sequences: int) -> int:
    """The position after the furthest of all tokens.

    CapacityError if that is beyond ``most``, or so far that the block tables of ``sequences``
    would take more memory than makes sense.
    """
    end = 0
    for ubatch in ubatches:
        needed = int(ubatch.positions.max()) + 1
        if needed > most:
            seq = ubatch.sets[int(ubatch.rows[ubatch.positions.argmax()])][0]
            raise CapacityError(
                f"sequence {seq} would take {needed} positions, and the model's context is"
                f" {most} tokens",
                hint="shorten it, or remove and shift part of it",
            )
        end = max(end, needed)
    check_tables(end, sequences)
    return end


def check_tokens(
    ubatches: Sequence[MicroBatch], held: int, distinct: Callable[[], int], most: int
) -> None:
    """CapacityError if the tokens are more than memory has room for beside those it holds.

    ``held``: by all sequences, one that several share counted for each of them; ``distinct``:
    says how many there are when it counts once.
    """
    needed = sum(len(ubatch.positions) for ubatch in ubatches)
    if held + needed <= most:
        return
    free = most - distinct()
    if needed > free:
        raise CapacityError(
            f"the batch has {needed} tokens, and {free} of {most} that this context can hold are"
            " free",
            hint="remove sequences, or give the context a larger max_tokens",
        )


def check_room(saved: SavedSequences, context_length: int, free: int, most: int) -> None:
    """Raise CapacityError if it has more positions or tokens than a context has room for.

    ``free``: tokens that can still be held, of ``most``.
    """
    positions = saved.held.positions
    if positions.size and int(positions.max()) >= context_length:
        raise CapacityError(
            f"a saved sequence goes to position {positions.max()}, and the model's context is"
            f" {context_length} tokens"
        )
    needed = len(np.unique(saved.held.rows))
    if needed > free:
        raise CapacityError(
            f"{needed} tokens were saved, and {free} of {most} that this context can hold are free",
            hint="remove sequences, or give the context a larger max_tokens",
        )


def check_tables(end: int, sequences: int) -> None:
    """CapacityError if positions below ``end`` would need block tables of a quarter gigabyte."""
    table_bytes = -(-end // PAGE) * sequences * _ENTRY_BYTES
    if table_bytes > _MOST_TABLE_BYTES:
        raise CapacityError(
            f"position {end - 1} would take {table_bytes >> 20} MiB of page tables for"
            f" {sequences} sequences",
            hint="begin at a lower position, or give the context a smaller max_sequences",
        )


def check_target(source: int, target: int, given: Int64, present: Int64) -> None:
    """OptionError if ``target`` holds a position that ``source`` would give it."""
    taken = given[np.isin(given, present)]
    if taken.size:
        raise OptionError(
            f"sequence {target} already holds position {taken[0]}, which would be copied"
            f" to it from sequence {source}",
            hint="remove it first, or copy to an empty sequence",
        )


def check_encodings(table: CrossTable | None, source: int, target: int) -> None:
    """OptionError if something else was encoded for ``target`` than for ``source``."""
    if table is not None and table.lengths[target] and not table.same(source, target):
        raise OptionError(
            f"sequence {target} has what was encoded for it, and sequence {source} something else",
            hint=f"memory.remove({target}) first, or copy to an empty sequence",
        )


def check_encoded_anew(parts: Sequence[MicroBatch], lengths: Int64) -> None:
    """BatchError if a sequence that is to be encoded holds tokens, ``lengths`` ``[S]`` of them."""
    for part in parts:
        for row, (seq,) in enumerate(part.sets):
            if lengths[seq]:
                entry = int(part.entries[np.flatnonzero(part.rows == row)[0]])
                raise BatchError(
                    f"sequence {seq} holds {lengths[seq]} decoded tokens, which saw what was"
                    " encoded before",
                    entry=entry,
                    hint=f"memory.remove({seq}) first, or encode it into another sequence",
                )


def check_shift(
    seq: int, moved: Int64, staying: Int64, delta: int, most: int, *, ordered: bool
) -> None:
    """OptionError or CapacityError if a moved token has no place.

    ``most``: positions that a sequence has. ``ordered``: whether the order of tokens must stay.
    """
    lowest, highest = int(moved[0]), int(moved[-1])
    if lowest + delta < 0:
        raise OptionError(
            f"shifting sequence {seq} by {delta} would put position {lowest} at {lowest + delta}"
        )
    if highest + delta >= most:
        raise CapacityError(
            f"shifting sequence {seq} by {delta} would put position {highest} at"
            f" {highest + delta}, and the model's context is {most} tokens"
        )
    target = moved + delta
    hit = target[np.isin(target, staying)]
    if hit.size:
        raise OptionError(
            f"shifting sequence {seq} by {delta} would put position {hit[0] - delta} onto"
            f" position {hit[0]}, which is held",
            hint="remove that one first, or shift it too",
        )
    below, below_then = np.searchsorted(moved, staying), np.searchsorted(target, staying)
    passed = np.flatnonzero(below != below_then)
    if ordered and passed.size:
        first = int(passed[0])
        raise OptionError(
            f"shifting sequence {seq} by {delta} would take position"
            f" {moved[min(below[first], below_then[first])]} past position {staying[first]},"
            " and recurrent layers remember tokens in their order",
            hint="shift by less, or shift those in between too",
        )


def check_fork(source: int, target: int, given: Int64, first: int, present: bool) -> None:
    """Refuse to give ``target`` what recurrent layers cannot take out of ``source``.

    ``given``: the positions; ``first``: the first one that ``source`` holds; ``present``: whether
    ``target`` holds any. Raises CannotRewind or OptionError.
    """
    if given[0] > first:
        raise CannotRewind(
            f"sequence {target} can't take positions {given[0]} to {given[-1]} of sequence"
            f" {source} without those before: recurrent layers remember all tokens in one state",
            seq=source,
            position=int(given[0]),
            nearest=first,
            hint=f"copy from position {first} on",
        )
    if present:
        raise OptionError(
            f"sequence {target} holds tokens already, and recurrent layers can't join those of"
            f" sequence {source} to them",
            hint="copy to an empty sequence",
        )


def cannot_rewind(seq: int, position: int, nearest: int) -> CannotRewind:
    """The error for a position that ``seq`` can't be cut back to."""
    return CannotRewind(
        f"sequence {seq} can't go back to position {position}: a layer no longer holds what"
        " the next token would have to see",
        seq=seq,
        position=position,
        nearest=nearest,
        hint=f"position {nearest} is the nearest before it; decode again from there",
    )


def cannot_take_out(seq: int, removed: Int64, nearest: int) -> CannotRewind:
    """The error for removing what recurrent layers have read other tokens after."""
    return CannotRewind(
        f"positions {removed[0]} to {removed[-1]} of sequence {seq} can't be taken out before"
        " those that follow: recurrent layers remember all tokens in one state",
        seq=seq,
        position=int(removed[0]),
        nearest=nearest,
        hint=f"remove everything from position {nearest} on, and decode the rest again",
    )


def cannot_copy(seq: int, position: int, nearest: int) -> CannotRewind:
    """The error for a position up to which ``seq`` can't be copied."""
    return CannotRewind(
        f"sequence {seq} can't be copied up to position {position} only: a layer no longer holds"
        " what the next token would have to see",
        seq=seq,
        position=position,
        nearest=nearest,
        hint=f"position {nearest} is the nearest before it; decode again from there",
    )
