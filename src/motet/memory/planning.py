"""Places for every micro-batch of a batch, before the first one is computed."""

from collections.abc import Mapping, Sequence

import numpy as np

from motet.errors import BatchError
from motet.memory.changes import Changes
from motet.memory.edges import Edges, run_edges
from motet.memory.plan import Step
from motet.memory.writes import MicroBatch, Writes


def plan_steps(
    changes: Changes,
    ubatches: Sequence[MicroBatch],
    part_of: Mapping[int, int],
    *,
    checkpoints: bool,
) -> tuple[Step, ...]:
    """Advance ``changes`` by all micro-batches; ``part_of``: the part that serves each layer.

    ``checkpoints``: make them on the way, where runs of several tokens begin and end, and
    wherever enough tokens have come since the last one. Raises CapacityError when pages or slots
    run out, BatchError for a token whose sequences have different pasts.
    """
    edges = run_edges(ubatches) if checkpoints else Edges()
    steps = []
    for number, ubatch in enumerate(ubatches):
        _unite(changes, ubatch)
        for members in edges.before.get(number, ()):
            if changes.attention.end(members[0]):
                changes.checkpoint(members)
        writes = Writes.of(ubatch)
        parts = tuple(draft.advance(writes) for draft in changes.drafts)
        steps.append(Step(ubatch.positions, parts, part_of))
        for members in edges.after.get(number, ()):
            changes.checkpoint(members)
        if checkpoints and changes.due(writes):
            for members in ubatch.sets:
                if changes.is_due(members[0]):
                    changes.checkpoint(members)
    return tuple(steps)


def _unite(changes: Changes, ubatch: MicroBatch) -> None:
    """Let sequences that share a token share its past. Raises BatchError if they differ."""
    for row, (leader, *members) in enumerate(ubatch.sets):
        for member in members:
            if not changes.attention.agree(leader, member):
                entry = int(ubatch.entries[np.flatnonzero(ubatch.rows == row)[0]])
                raise BatchError(
                    f"entry {entry} is shared by sequences {leader} and {member}, whose pasts"
                    " differ",
                    entry=entry,
                    hint=f"copy sequence {leader} to {member}, or add the token to each",
                )
            changes.adopt(leader, member)
