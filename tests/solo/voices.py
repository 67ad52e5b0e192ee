"""Random ways to feed several sequences to a context; the solo law says that none shows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motet import Batch, Context, Model
from motet.kernels import CPU
from motet.weights.gguf import GGUFFile

UBATCHES = (1, 2, 3, 7, 64, 512)
SPLITS = ("simple", "equal", "sequence")


def load(path: Path, isa: str, threads: int) -> Model:
    return Model(GGUFFile.open(path), CPU(threads, isa))


def random_tokens(model: Model, rng: np.random.Generator, length: int) -> list[int]:
    return rng.integers(0, model.n_vocab, length).tolist()


def alone(model: Model, tokens: list[int]) -> np.ndarray:
    """Logits of every token, in one go, with nobody else."""
    batch = Batch()
    batch.extend(tokens, 0, logits="all")
    return model.context(ubatch=len(tokens)).decode(batch).logits


@dataclass
class Voices:
    """Sequences that may begin with the same tokens; those of a group share them as tokens."""

    tokens: list[list[int]]
    groups: list[tuple[int, ...]]
    shared: list[int]
    """Tokens that each group shares."""

    @staticmethod
    def random(model: Model, rng: np.random.Generator, count: int, most: int) -> "Voices":
        """``count`` sequences of 1 to ``most`` tokens each, in groups of 1 to 4."""
        groups, tokens, shared, first = [], [], [], 0
        while first < count:
            size = min(int(rng.integers(1, 5)), count - first)
            prefix = random_tokens(model, rng, int(rng.integers(0, most // 2)) if size > 1 else 0)
            groups.append(tuple(range(first, first + size)))
            shared.append(len(prefix))
            for _ in range(size):
                tokens.append(prefix + random_tokens(model, rng, int(rng.integers(1, most // 2))))
            first += size
        return Voices(tokens, groups, shared)

    def entries(self, rng: np.random.Generator) -> list[tuple[int, int, tuple[int, ...]]]:
        """(token, position, sequences) of everything, interleaved at random or in runs."""
        lines = []
        for group, shared in zip(self.groups, self.shared, strict=True):
            start = [(self.tokens[group[0]][p], p, group) for p in range(shared)]
            lines.append((start, [(s, shared) for s in group]))
        queues = [start for start, _ in lines if start]
        waiting = {id(start): rest for start, rest in lines if start}
        for start, rest in lines:
            if not start:
                queues += [self._rest(s, p) for s, p in rest]
        out = []
        longest = int(rng.choice([1, 5, 100]))
        while queues:
            i = int(rng.integers(len(queues)))
            take = int(rng.integers(1, longest + 1))
            out += queues[i][:take]
            left = queues[i][take:]
            if left:
                if id(queues[i]) in waiting:
                    waiting[id(left)] = waiting.pop(id(queues[i]))
                queues[i] = left
                continue
            done = queues.pop(i)
            queues += [self._rest(s, p) for s, p in waiting.pop(id(done), [])]
        return out

    def _rest(self, seq: int, start: int) -> list[tuple[int, int, tuple[int, ...]]]:
        return [(t, p, (seq,)) for p, t in enumerate(self.tokens[seq]) if p >= start]


def feed(
    context: Context, entries: list[tuple[int, int, tuple[int, ...]]], rng: np.random.Generator
) -> dict[tuple[int, int], np.ndarray]:
    """Decode ``entries`` in some batches; logits by (sequence, position) of those asked for."""
    rows = {}
    at = 0
    while at < len(entries):
        size = int(rng.choice([1, 10, 200, len(entries)]))
        part = entries[at : at + size]
        batch = Batch()
        asked = rng.random(len(part)) < 0.7
        for (token, position, seqs), wanted in zip(part, asked, strict=True):
            batch.add(token, position, seqs, logits=bool(wanted))
        out = context.decode(batch)
        for i in np.flatnonzero(asked):
            for seq in part[i][2]:
                rows[seq, part[i][1]] = out[int(i)].copy()
        at += size
    return rows
