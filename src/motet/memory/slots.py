"""Where recurrent layers keep their states: a pool of slots, each with room for one sequence's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from motet.errors import CapacityError
from motet.kernels.paged import reserve
from motet.spec import LayerSpec, Recurrent

MOST_CHECKPOINTS = 4096
"""However small they are; so that keeping the books takes no time to speak of."""

_SLOTS = 3
"""Of each sequence: the state that it has, the one being computed, and that of those which it
shared a token with. A checkpoint has two: those dropped by a batch stay until it is done."""

_FLOAT = np.dtype(np.float32)


@dataclass(frozen=True)
class SlotMap:
    """Which sequence's state lies in which slot; replaced as a whole, never changed."""

    slots: np.ndarray
    """int32 ``[S]``: the slot of each sequence; -1 where nothing is held, a state of zeros."""
    refs: np.ndarray
    """int32: sequences and checkpoints that refer to each slot, for those ever in use."""
    held: int
    """How many of these are checkpoints."""


class SlotPool:
    """The states of all recurrent layers; one slot number holds in each of them.

    The memory is reserved, not committed: a slot costs nothing until something is written to it.
    """

    def __init__(
        self, layers: Sequence[LayerSpec], *, max_sequences: int, checkpoint_bytes: int
    ) -> None:
        """Of the recurrent ones among ``layers``. Raises CapacityError for want of addresses."""
        shapes = {i: spec.shapes for i, spec in enumerate(layers) if isinstance(spec, Recurrent)}
        self.slot_bytes = sum(_FLOAT.itemsize * prod(s) for each in shapes.values() for s in each)
        checkpoints = min(checkpoint_bytes // self.slot_bytes, MOST_CHECKPOINTS)
        self.slots = slots = _SLOTS * max_sequences + 2 * checkpoints + 1
        try:
            self.arrays: Mapping[int, tuple[np.ndarray, ...]] = {
                i: tuple(_states(slots, shape) for shape in each) for i, each in shapes.items()
            }
        except (OSError, ValueError, OverflowError, MemoryError) as error:
            raise CapacityError(
                f"no address space for {slots} states of {self.slot_bytes} bytes: {error}",
                hint="give the context a smaller max_sequences or checkpoint_bytes",
            ) from error


def _states(slots: int, shape: tuple[int, ...]) -> np.ndarray:
    raw = reserve(slots, _FLOAT.itemsize * prod(shape))
    return raw.view(_FLOAT).reshape(slots, *shape)
