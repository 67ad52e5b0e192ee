"""Random conversations: memory against dictionaries of tokens, logits bit for bit.

Every step also checks that page counts, tables and masks agree, and fills what is free with NaN.
"""

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from motet.batch import Batch
from motet.errors import BatchError, CannotRewind, CapacityError, OptionError
from motet.memory.store import REWIND
from tests.toy import WINDOW, Plain, Said, ToyConfig, ToyModel, bookkeeping, poison

SEQUENCES = 4
CONTEXT = 420

seqs = st.integers(0, SEQUENCES - 1)
positions = st.one_of(
    st.integers(0, CONTEXT), st.sampled_from([0, 1, 63, 64, 65, 127, 128, 129, 192, 256])
)
counts = st.one_of(st.integers(1, 12), st.sampled_from([60, 64, 70, 130, 200]))
members = st.lists(seqs, min_size=1, max_size=SEQUENCES, unique=True).map(tuple)


class Conversation(RuleBasedStateMachine):
    @initialize(
        ubatch=st.sampled_from([1, 3, 7, 64, 512]),
        split=st.sampled_from(["simple", "equal", "sequence"]),
        max_tokens=st.sampled_from([200, 700, SEQUENCES * CONTEXT]),
        random=st.randoms(use_true_random=False),
    )
    def begin(self, ubatch, split, max_tokens, random):
        self.model = ToyModel(ToyConfig(CONTEXT))
        self.context = self.model.context(
            max_sequences=SEQUENCES, max_tokens=max_tokens, ubatch=ubatch, split=split
        )
        self.memory = self.context.memory
        self.plain = Plain(self.model)
        self.plain.held = {seq: {} for seq in range(SEQUENCES)}
        self.edited: set[int] = set()
        self.random = random
        self.fragmented = False

    # What is said

    @rule(turns=st.lists(st.tuples(members, counts), min_size=1, max_size=4), mixed=st.booleans())
    def decode(self, turns, mixed):
        batch = self._batch(turns, mixed)
        try:
            logits = self.context.decode(batch).logits
        except BatchError as error:
            assert not self._plausible(batch, error.entry)
            return
        except CapacityError as error:
            assert self._too_many(batch, str(error))
            return
        for row, (token, position, shared) in zip(logits, _listed(batch), strict=True):
            self._assert_one_past(shared)
            assert np.array_equal(row, self.plain.decode(token, position, shared))
            if any(seq in self.edited for seq in shared):
                self.edited.update(shared)

    @rule(
        turns=st.lists(st.tuples(members, counts), min_size=1, max_size=4),
        call=st.integers(0, 12),
        error=st.sampled_from([KeyboardInterrupt, ValueError]),
    )
    def decode_and_fail(self, turns, call, error):
        batch, calls = self._batch(turns, mixed=True), []
        before = self.memory._now

        def fail(index: int) -> None:
            calls.append(index)
            if len(calls) > call:
                raise error

        self.model.family.on_layer = fail
        try:
            self.context.decode(batch)
        except (error, BatchError, CapacityError):
            assert self.memory._now is before
        else:  # too few micro-batches to come so far
            assert len(calls) <= call
            self._forget_last(before)
        finally:
            self.model.family.on_layer = lambda index: None

    # Operations

    @rule(seq=seqs, start=positions, end=st.one_of(st.none(), positions))
    def remove(self, seq, start, end):
        held = self.plain.held[seq]
        stop = self.plain.end(seq) if end is None else end
        left = {p: s for p, s in held.items() if not start <= p < stop}
        try:
            self.memory.remove(seq, start, end)
        except OptionError:
            assert end is not None and end < start
        except CannotRewind as error:
            assert (error.seq, error.position) == (seq, start) and error.nearest < start
            assert max(held) - max(left, default=-1) > REWIND or self.fragmented
            self.memory.remove(seq, error.nearest)
            self._truncate(seq, error.nearest)
        else:
            if any(p >= stop for p in left) and len(left) < len(held):
                self._edit(seq)
            self.plain.held[seq] = left
            if not left:
                self.edited.discard(seq)

    @rule(seq=seqs, back=st.integers(1, REWIND))
    def take_back(self, seq, back):
        """So much is always exact in a sequence without gaps."""
        start = max(self.plain.end(seq) - back, 0)
        if not self.fragmented:
            self.memory.remove(seq, start)
            self._truncate(seq, start)

    @rule(source=seqs, into=seqs, start=st.one_of(st.just(0), positions))
    def fork(self, source, into, start):
        end = None if start == 0 else start + 100
        stop = self.plain.end(source) if end is None else end
        given = {p: s for p, s in self.plain.held[source].items() if start <= p < stop}
        held = self.plain.held[into]
        try:
            self.memory.copy(source, into, start, end)
        except OptionError:
            assert source != into and given.keys() & held.keys()
            return
        except CannotRewind:
            assert start or stop < self.plain.end(source) or held
            return
        except CapacityError as error:
            assert "pages" in str(error)
            return
        if source == into or not given:
            return
        if held or min(given) > min(self.plain.held[source]):
            self._edit(into)
        elif source in self.edited:
            self.edited.add(into)
        self.plain.held[into] = dict(sorted({**held, **given}.items()))

    @rule(seq=seqs, start=positions, count=st.integers(0, 200), delta=st.integers(-150, 150))
    def shift(self, seq, start, count, delta):
        held = self.plain.held[seq]
        moved = {p + delta: s for p, s in held.items() if start <= p < start + count}
        staying = {p: s for p, s in held.items() if not start <= p < start + count}
        try:
            self.memory.shift(seq, start, start + count, delta)
        except OptionError:
            assert min(moved) < 0 or moved.keys() & staying.keys()
        except CannotRewind:
            assert min(max(held), CONTEXT) > WINDOW + REWIND
        except CapacityError as error:
            assert max(moved) >= CONTEXT or "pages" in str(error)
        else:
            if moved and delta:
                self._edit(seq)
            self.plain.held[seq] = dict(sorted({**staying, **moved}.items()))

    @rule(seq=seqs)
    def keep(self, seq):
        self.memory.keep(seq)
        for other in range(SEQUENCES):
            if other != seq:
                self.plain.held[other] = {}
                self.edited.discard(other)

    @rule()
    def clear(self):
        self.memory.clear()
        self.plain.held = {seq: {} for seq in range(SEQUENCES)}
        self.edited.clear()

    @invariant()
    def memory_holds_what_was_said(self):
        if not hasattr(self, "memory"):
            return
        for seq, held in self.plain.held.items():
            assert self.memory.length(seq) == len(held)
            assert self.memory.positions(seq) == ((min(held), max(held)) if held else None)
            assert self.memory.tokens(seq).tolist() == [said.token for said in held.values()]
        state = self.memory._state
        assert self.memory._attention.distinct(state) <= self.memory.max_tokens
        bookkeeping(self.context)
        poison(self.context)

    # Helpers

    def _batch(self, turns, mixed: bool) -> Batch:
        """Every turn's tokens; interleaved if ``mixed``. Shared ones as far as ends are equal."""
        ends = {seq: self.plain.end(seq) for seq in range(SEQUENCES)}
        rows = []
        for shared, count in turns:
            shared = tuple(seq for seq in shared if ends[seq] == ends[shared[0]])
            for _ in range(count):
                rows.append((shared, ends[shared[0]]))
                ends.update((seq, ends[seq] + 1) for seq in shared)
        if mixed:
            rows.sort(key=lambda row: (row[1], row[0][0]))  # by position: sequences take turns
        batch = Batch()
        for shared, position in rows:
            batch.add(self.random.randrange(2), position, shared, logits=True)
        return batch

    def _plausible(self, batch: Batch, entry: int | None) -> bool:
        """Whether the sequences of an entry, as far as one can tell, agreed on their past."""
        plain = Plain(self.model)
        plain.held = {seq: dict(held) for seq, held in self.plain.held.items()}
        listed = _listed(batch)
        for token, position, shared in listed[:entry]:
            plain.decode(token, position, shared)
        assert entry is not None
        pasts = [plain.held[seq] for seq in listed[entry][2]]
        if any(seq in self.edited for seq in listed[entry][2]):
            return False
        return all(_tokens(past) == _tokens(pasts[0]) for past in pasts)

    def _too_many(self, batch: Batch, message: str) -> bool:
        if "positions" in message:
            return any(position >= CONTEXT for _, position, _ in _listed(batch))
        if "pages" in message:
            return self.fragmented
        return self.plain.distinct() + len(batch) > self.memory.max_tokens

    def _assert_one_past(self, shared) -> None:
        first, *others = (self.plain.held[seq] for seq in shared)
        for other in others:
            assert _tokens(first) == _tokens(other)
            assert [said.kept for said in first.values()] == [said.kept for said in other.values()]

    def _forget_last(self, before) -> None:
        self.memory._now = before

    def _truncate(self, seq: int, end: int) -> None:
        self.plain.held[seq] = {p: s for p, s in self.plain.held[seq].items() if p < end}
        if not self.plain.held[seq]:
            self.edited.discard(seq)

    def _edit(self, seq: int) -> None:
        self.edited.add(seq)
        self.fragmented = True


def _listed(batch: Batch) -> list[tuple[int, int, tuple[int, ...]]]:
    e = batch.entries()
    sets = [e.sets[i] for i in e.set_of]
    return list(zip(e.tokens.tolist(), e.positions.tolist(), sets, strict=True))


def _tokens(held: dict[int, Said]) -> list[tuple[int, int]]:
    return [(position, said.token) for position, said in held.items()]


TestConversation = Conversation.TestCase
TestConversation.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
