"""Where recurrent kernels find the states of the sequences in a micro-batch."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Runs:
    """The tokens of a micro-batch sequence by sequence, and the slots of their states.

    Run r is rows ``order[starts[r]:starts[r + 1]]`` of the activations, in order of position. It
    begins from the state in slot ``read[r]`` and leaves its own in slot ``write[r]``.
    """

    order: np.ndarray
    """int32 ``[T]``: every row once."""
    starts: np.ndarray
    """int32 ``[R + 1]``; no run is empty."""
    read: np.ndarray
    """int32 ``[R]``; -1: begin from zeros. Several runs may begin from one slot."""
    write: np.ndarray
    """int32 ``[R]``, all different. It may be the run's own ``read``, never another's."""


@dataclass(frozen=True)
class RecurrentState:
    """What a recurrent layer reads and writes."""

    arrays: tuple[np.ndarray, ...]
    """float32 ``[slots, *shape]`` for each of the spec's shapes."""
    runs: Runs
