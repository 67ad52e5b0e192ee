"""A toy context beside its plain model, so that a test says what it does to both once."""

from collections.abc import Sequence

import numpy as np

from motet.batch import Batch
from tests.toy import LAYERS, Layer, Plain, ToyConfig, ToyModel, block_tables, bookkeeping, poison


class Talk:
    """``say`` decodes in both and asserts that they agree, bit for bit."""

    def __init__(
        self, context_length: int = 2048, layers: Sequence[Layer] = LAYERS, **options
    ) -> None:
        self.model = ToyModel(ToyConfig(context_length), layers)
        self.context = self.model.context(**options)
        self.memory = self.context.memory
        self.plain = Plain(self.model)
        self._spoken = 0
        poison(self.context)

    def tokens(self, count: int) -> list[int]:
        """Never twice the same run of tokens."""
        out = [(i * i + i // 11) % 11 for i in range(self._spoken, self._spoken + count)]
        self._spoken += count
        return out

    def say(self, count: int = 1, *seqs: int, tokens: list[int] | None = None) -> None:
        """``count`` tokens that ``seqs`` share (sequence 0 if none is named)."""
        members = seqs or (0,)
        start = self.plain.end(members[0])
        batch, ids = Batch(), tokens or self.tokens(count)
        batch.extend(ids, start, members, logits="all")
        out = self.context.decode(batch)
        expected = [self.plain.decode(t, start + i, members) for i, t in enumerate(ids)]
        assert np.array_equal(out.logits, expected)
        self.check()

    def remove(self, seq: int, start: int = 0, end: int | None = None) -> None:
        self.memory.remove(seq, start, end)
        held = self.plain.held.get(seq, {})
        stop = self.plain.end(seq) if end is None else end
        self.plain.held[seq] = {p: s for p, s in held.items() if not start <= p < stop}
        self.check()

    def copy(self, source: int, target: int, start: int = 0, end: int | None = None) -> None:
        self.memory.copy(source, target, start, end)
        held = self.plain.held.get(source, {})
        stop = self.plain.end(source) if end is None else end
        given = {p: s for p, s in held.items() if start <= p < stop}
        self.plain.held[target] = dict(sorted({**self.plain.held.get(target, {}), **given}.items()))
        self.check()

    def shift(self, seq: int, start: int, end: int | None, delta: int) -> None:
        self.memory.shift(seq, start, end, delta)
        held = self.plain.held.get(seq, {})
        stop = self.plain.end(seq) if end is None else end
        moved = {p + (delta if start <= p < stop else 0): s for p, s in held.items()}
        self.plain.held[seq] = dict(sorted(moved.items()))
        self.check()

    def check(self) -> None:
        """Memory holds the tokens that the plain model holds; no page is lost."""
        for seq in range(self.memory.max_sequences):
            held = self.plain.held.get(seq, {})
            assert self.memory.tokens(seq).tolist() == [said.token for said in held.values()]
            assert self.memory.length(seq) == len(held)
            ends = (min(held), max(held)) if held else None
            assert self.memory.positions(seq) == ends
        bookkeeping(self.context)
        poison(self.context)

    def together(self, *turns: tuple[int, tuple[int, ...]], mixed: bool = False) -> None:
        """(tokens, sequences) in one batch, one after the other or in turns."""
        rows = []
        ends = [self.plain.end(seq) for seq in range(self.memory.max_sequences)]
        for n, (count, seqs) in enumerate(turns):
            for _ in range(count):
                rows.append((ends[seqs[0]] if mixed else n, n, ends[seqs[0]], seqs))
                for seq in seqs:
                    ends[seq] += 1
        batch, expected = Batch(), []
        for _, n, position, seqs in sorted(rows):
            token = (7 * position + n) % 11
            batch.add(token, position, seqs, logits=True)
            expected.append(self.plain.decode(token, position, seqs))
        assert np.array_equal(self.context.decode(batch).logits, expected)
        self.check()

    def pages(self, group: int = 0) -> int:
        """Pages in use."""
        return int(np.count_nonzero(block_tables(self.context)[group][0].refs))
