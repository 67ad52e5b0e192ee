"""Where runs of tokens begin and end in a batch: useful places to come back to."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from motet.memory.writes import MicroBatch

Members = tuple[int, ...]


@dataclass
class Edges:
    """Of each micro-batch, by number: sets of sequences."""

    before: dict[int, list[Members]] = field(default_factory=lambda: defaultdict(list))
    """Those with a run of several tokens that begins in it."""
    after: dict[int, list[Members]] = field(default_factory=lambda: defaultdict(list))
    """Those with one that ends in it."""


def run_edges(ubatches: Sequence[MicroBatch]) -> Edges:
    """Of runs of several tokens: those of one set, until another set of its sequences comes."""
    edges = Edges()
    if len(ubatches) == 1 and len(ubatches[0].tokens) == len(ubatches[0].sets):
        return edges  # a token each, as when text is generated
    latest: dict[int, _Run] = {}
    runs = []
    for number, ubatch in enumerate(ubatches):
        counts = np.bincount(ubatch.rows, minlength=len(ubatch.sets)).tolist()
        for members, count in zip(ubatch.sets, counts, strict=True):
            run = latest.get(members[0])
            if run is None or run.members != members:
                run = _Run(members, number)
                runs.append(run)
            latest |= dict.fromkeys(members, run)
            run.last = number
            run.tokens += count
    for run in runs:
        if run.tokens > 1:
            edges.before[run.first].append(run.members)
            edges.after[run.last].append(run.members)
    return edges


@dataclass
class _Run:
    members: Members
    first: int
    last: int = 0
    tokens: int = 0
