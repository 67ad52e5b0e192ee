"""Random conversations on each kind of memory, beside dictionaries of tokens, bit for bit.

Every step also checks that pages, slots, tables, masks, checkpoints and counts agree, and fills
what is free with NaN.
"""

import io
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from motet.batch import Batch
from motet.errors import BatchError, CannotRewind, CapacityError, OptionError, StateFileError
from motet.memory.cache import REWIND
from motet.spec import FullAttention, Recurrent, SlidingAttention
from tests.toy import (
    ALL_KINDS,
    BESIDE,
    CONVOLUTIONS,
    HYBRID,
    LAYERS,
    RECURRENT,
    SHARED,
    WINDOW,
    Layer,
    Plain,
    Said,
    ToyConfig,
    ToyModel,
    assert_same,
    block_tables,
    bookkeeping,
    contents,
    each_cache,
    poison,
    recurrent_states,
)

SEQUENCES = 4
CONTEXT = 420
AMPLE = 1 << 20
"""Bytes that the checkpoints of no conversation here exceed."""

seqs = st.integers(0, SEQUENCES - 1)
positions = st.one_of(
    st.integers(0, CONTEXT), st.sampled_from([0, 1, 63, 64, 65, 127, 128, 129, 192, 256])
)
ends = st.one_of(st.none(), positions)
counts = st.one_of(st.integers(1, 12), st.sampled_from([20, 60, 64, 70, 130]))
members = st.lists(seqs, min_size=1, max_size=SEQUENCES, unique=True).map(tuple)


class Conversation(RuleBasedStateMachine):
    layers: ClassVar[tuple[Layer, ...]]
    unwanted: ClassVar[float] = 0.0
    """Share of the tokens whose logits are not asked for."""

    @initialize(
        ubatch=st.sampled_from([1, 2, 3, 7, 64, 512]),
        split=st.sampled_from(["simple", "equal", "sequence"]),
        max_tokens=st.sampled_from([SEQUENCES * CONTEXT, 700, 200]),
        checkpoint_bytes=st.sampled_from([AMPLE, 40_000, 500, 0]),
        random=st.randoms(use_true_random=False),
        first=st.lists(st.sampled_from([3, 40, 64, 90]), min_size=1, max_size=4),
    )
    def begin(self, ubatch, split, max_tokens, checkpoint_bytes, random, first):
        self.model = ToyModel(ToyConfig(CONTEXT), self.layers)
        self.context = self.model.context(
            max_sequences=SEQUENCES,
            max_tokens=max_tokens,
            ubatch=ubatch,
            split=split,
            checkpoint_bytes=checkpoint_bytes,
        )
        self.memory = self.context.memory
        self.plain = Plain(self.model)
        self.plain.held = {seq: {} for seq in range(SEQUENCES)}
        self.edited: set[int] = set()
        self.furthest = dict.fromkeys(range(SEQUENCES), 0)
        """Where each sequence ever ended since it was empty."""
        self.promised: dict[int, set[int]] = {seq: set() for seq in range(SEQUENCES)}
        """Checkpoints that were asked for, where the budget is ample."""
        self.open: dict[int, int] = {}
        """Where each sequence's last tokens begin that may be taken back."""
        self.random = random
        self.fragmented = False
        specs = [spec for _, _, spec in each_cache(self.layers)]
        self.recurrent = any(isinstance(spec, Recurrent) for spec in specs)
        self.slides = any(isinstance(spec, SlidingAttention) for spec in specs)
        for count in first:
            self._decode([((0,), count), ((1,), 1)], mixed=False)

    # What is said

    @rule(seq=seqs, count=counts)
    def say(self, seq, count):
        self._decode([((seq,), count)], mixed=False)

    @rule(shared=members, steps=st.integers(1, 5))
    def generate(self, shared, steps):
        for _ in range(steps):
            self._decode([((seq,), 1) for seq in shared], mixed=False)

    @rule(turns=st.lists(st.tuples(members, counts), min_size=1, max_size=4), mixed=st.booleans())
    def decode(self, turns, mixed):
        self._decode(turns, mixed)

    @rule(
        proposed=st.dictionaries(
            seqs, st.one_of(st.integers(1, 7), st.integers(1, REWIND)), min_size=1
        ),
        after=st.integers(0, 2),
    )
    def propose(self, proposed, after):
        """Tokens that may be taken back; of some sequences after others that may not."""
        turns = [((seq,), after * (seq % 2) + count) for seq, count in proposed.items()]
        if self._decode(turns, mixed=False, plain={seq: after * (seq % 2) for seq in proposed}):
            self.open |= {seq: self.plain.end(seq) - count for seq, count in proposed.items()}

    @rule(data=st.data())
    def rewind(self, data):
        ends = {
            seq: data.draw(st.integers(start, self.plain.end(seq)))
            for seq, start in self.open.items()
        }
        assert all(self.memory.reachable(seq, end) == end for seq, end in ends.items())
        self.memory.rewind(ends)
        for seq, end in ends.items():
            self._truncate(seq, end)

    @rule(
        turns=st.one_of(
            st.tuples(st.tuples(seqs.map(lambda seq: (seq,)), counts)),
            st.lists(st.tuples(members, counts), min_size=1, max_size=4),
        ),
        call=st.integers(0, 12),
        error=st.sampled_from([KeyboardInterrupt, ValueError]),
    )
    def decode_and_fail(self, turns, call, error):
        batch, calls = self._batch(turns, mixed=True), []
        before = contents(self.context)

        def fail(index: int) -> None:
            calls.append(index)
            if len(calls) > call:
                raise error

        self.model.family.on_layer = fail
        try:
            self.context.decode(batch)
        except (error, BatchError, CapacityError):
            pass
        else:  # too few micro-batches to come so far
            assert len(calls) <= call
            self.memory._now = before[0]
        finally:
            self.model.family.on_layer = lambda index: None
        assert_same(before, contents(self.context))

    # Operations

    @rule(seq=seqs, start=positions, end=ends)
    def remove(self, seq, start, end):
        self._remove(seq, start, end)

    @rule(seq=seqs, data=st.data())
    def go_back(self, seq, data):
        """To where it is exact."""
        seq = self._someone(seq)
        known = [*self.memory.checkpoints(seq), self.plain.end(seq), 0]
        position = self.memory.reachable(
            seq, data.draw(st.one_of(st.sampled_from(known), positions))
        )
        assert self.memory.reachable(seq, position) == position
        assert self._remove(seq, position, None)

    @rule(seq=seqs, count=st.sampled_from([1, 30, 100, 170]))
    def say_and_take_back(self, seq, count):
        seq = self._someone(seq)
        end = self.plain.end(seq)
        if self._checkpoint(seq):
            self._decode([((seq,), count)], mixed=False)
            position = self.memory.reachable(seq, end)
            assert position == end or self.memory.checkpoint_bytes < AMPLE
            assert self._remove(seq, position, None)

    @rule(seq=seqs, back=st.integers(1, REWIND))
    def take_back(self, seq, back):
        """So much is always exact in attention layers of a sequence without gaps."""
        seq = self._someone(seq)
        start = max(self.plain.end(seq) - back, 0)
        if not (self.fragmented or self.recurrent) and start >= self.furthest[seq] - REWIND:
            assert self._remove(seq, start, None)

    @rule(seq=seqs)
    def checkpoint(self, seq):
        self._checkpoint(self._someone(seq))

    @rule(source=seqs, into=seqs, start=st.one_of(st.just(0), positions), end=ends)
    def fork(self, source, into, start, end):
        stop = self.plain.end(source) if end is None else end
        given = {p: s for p, s in self.plain.held[source].items() if start <= p < stop}
        held = self.plain.held[into]
        first = min(self.plain.held[source], default=0)
        before = contents(self.context)
        try:
            self.memory.copy(source, into, start, end)
        except OptionError:
            overlap = bool(given.keys() & held.keys())
            assert stop < start or (source != into and (overlap or (self.recurrent and held)))
        except CannotRewind as error:
            assert self.recurrent or self.slides
            if not held and min(given) == first:
                assert (error.seq, error.position) == (source, max(given) + 1)
                assert error.nearest == self.memory.reachable(source, max(given) + 1)
                assert error.nearest < max(given) + 1 < self.plain.end(source)
        except CapacityError as error:
            assert "pages" in str(error)
        else:
            if source != into and given:
                self._forked(source, into, given, prefix=not held and min(given) == first)
            return
        assert_same(before, contents(self.context))

    @rule(source=seqs, into=seqs, data=st.data())
    def fork_from_a_checkpoint(self, source, into, data):
        source = self._someone(source)
        known = [*self.memory.checkpoints(source), self.plain.end(source)]
        end = data.draw(st.sampled_from(known))
        if source != into:
            self.memory.remove(into)
            self._truncate(into, 0)
            self.memory.copy(source, into, 0, end)
            given = {p: s for p, s in self.plain.held[source].items() if p < end}
            self._forked(source, into, given, prefix=True)

    @rule(seq=seqs, delta=st.integers(1, 100), back=st.booleans())
    def shift_all(self, seq, delta, back):
        seq = self._someone(seq)
        held = self.plain.held[seq]
        self._shift(seq, 0, CONTEXT * 8, -min(held) if back and held else delta)

    @rule(seq=seqs, start=positions, count=st.integers(0, 450), delta=st.integers(-150, 150))
    def shift(self, seq, start, count, delta):
        self._shift(seq, start, count, delta)

    @rule(seq=seqs, really=st.integers(0, 3))
    def keep(self, seq, really):
        if really:
            return  # now and then is enough
        self.memory.keep(seq)
        for other in range(SEQUENCES):
            if other != seq:
                self._truncate(other, 0)

    @rule(really=st.integers(0, 7))
    def clear(self, really):
        if really:
            return
        self.memory.clear()
        for seq in range(SEQUENCES):
            self._truncate(seq, 0)
        for table, _ in block_tables(self.context):
            assert not table.refs.any()
        for _, _, slots in recurrent_states(self.context):
            assert not slots.refs.any()

    @rule(
        ubatch=st.sampled_from([1, 5, 64, 512]),
        split=st.sampled_from(["simple", "equal", "sequence"]),
    )
    def go_on_in_another_context(self, ubatch, split):
        file = io.BytesIO()
        self.context.save(file)
        context = self.model.context(
            max_sequences=SEQUENCES,
            max_tokens=self.memory.max_tokens,
            ubatch=ubatch,
            split=split,
            checkpoint_bytes=self.memory.checkpoint_bytes,
        )
        poison(context)
        try:
            context.restore(io.BytesIO(file.getvalue()))
        except CapacityError as error:
            assert "pages" in str(error) and self.fragmented
        else:
            self.context, self.memory = context, context.memory
            self.open.clear()

    @rule(chosen=members, data=st.data())
    def save_and_restore(self, chosen, data):
        """Into other sequences, after a try with a byte of the file flipped."""
        chosen = tuple({self._someone(seq) for seq in chosen})
        into = dict(zip(chosen, data.draw(st.permutations(chosen)), strict=True))
        file = io.BytesIO()
        self.context.save(file, chosen)
        raw = file.getvalue()
        saved = {
            seq: (self.plain.held[seq], self.promised[seq], seq in self.edited) for seq in into
        }
        furthest = {into[seq]: self.furthest[seq] for seq in into}
        for seq in chosen:
            self.memory.remove(seq)
            self._truncate(seq, 0)
        before, at = contents(self.context), data.draw(st.integers(0, len(raw) - 1))
        damaged = raw[:at] + bytes([raw[at] ^ (1 << at % 8)]) + raw[at + 1 :]
        with pytest.raises((StateFileError, CapacityError)):  # as bytes are checked as they come
            self.context.restore(io.BytesIO(damaged), into)
        assert_same(before, contents(self.context))
        try:
            restored = self.context.restore(io.BytesIO(raw), into)
        except CapacityError as error:  # what was shared with others comes back on its own
            tokens = len({said.serial for held, *_ in saved.values() for said in held.values()})
            too_many = self.plain.distinct() + tokens > self.memory.max_tokens
            assert self.fragmented if "pages" in str(error) else too_many
            assert_same(before, contents(self.context))
            return
        assert restored.sequences == into
        serials: dict[int, int] = {}
        for seq, (held, promised, edited) in saved.items():
            for said in held.values():
                if said.serial not in serials:
                    serials[said.serial] = self.plain.new_serial()
            self.plain.held[into[seq]] = {
                p: replace(said, serial=serials[said.serial]) for p, said in held.items()
            }
            self.promised[into[seq]] = promised
            self.edited |= {into[seq]} if edited else set()
        self.furthest |= furthest

    @invariant()
    def memory_holds_what_was_said(self):
        if not hasattr(self, "memory"):
            return
        for seq, held in self.plain.held.items():
            assert self.memory.length(seq) == len(held)
            assert self.memory.positions(seq) == ((min(held), max(held)) if held else None)
            assert self.memory.tokens(seq).tolist() == [said.token for said in held.values()]
            assert self.promised[seq] <= set(self.memory.checkpoints(seq))
        assert self.memory._distinct() <= self.memory.max_tokens
        bookkeeping(self.context)
        poison(self.context)

    # Helpers

    def _someone(self, seq: int) -> int:
        """``seq``, or another that holds something."""
        for other in range(seq, seq + SEQUENCES):
            if self.plain.held[other % SEQUENCES]:
                return other % SEQUENCES
        self._decode([((seq,), 20), ((seq,), 1)], mixed=False)
        return seq

    def _shift(self, seq: int, start: int, count: int, delta: int) -> None:
        held = self.plain.held[seq]
        moved = {p + delta: s for p, s in held.items() if start <= p < start + count}
        staying = {p: s for p, s in held.items() if not start <= p < start + count}
        before = contents(self.context)
        order = [said.serial for said in held.values()]
        after = [said.serial for _, said in sorted({**staying, **moved}.items())]
        try:
            self.memory.shift(seq, start, start + count, delta)
        except OptionError:
            passing = self.recurrent and order != after
            assert min(moved) < 0 or moved.keys() & staying.keys() or passing
        except CannotRewind:
            assert self.slides and min(max(held), CONTEXT) > WINDOW + REWIND
        except CapacityError as error:
            assert max(moved) >= self.memory.context_length or "pages" in str(error)
        else:
            if moved and delta:
                assert order == after or not self.recurrent
                self._edit(seq)
                self._shift_promises(seq, min(moved) - delta, max(moved) - delta + 1, delta)
                self.furthest[seq] = CONTEXT * 2
            self.plain.held[seq] = dict(sorted({**staying, **moved}.items()))
            return
        assert_same(before, contents(self.context))

    def _decode(self, turns, mixed: bool, plain: dict[int, int] | None = None) -> bool:
        """Whether it was done. ``plain``: how many tokens of each sequence come before those that
        may be taken back, if there are any."""
        batch = self._batch(turns, mixed, plain)
        before = contents(self.context)
        try:
            logits = self.context.decode(batch).logits
        except BatchError as error:
            assert not self._plausible(batch, error.entry)
            assert_same(before, contents(self.context))
            return False
        except CapacityError as error:
            assert self._too_many(batch, str(error))
            assert_same(before, contents(self.context))
            return False
        rows, wanted = iter(logits), batch.entries().wanted
        for (token, position, shared), asked in zip(_listed(batch), wanted, strict=True):
            self._assert_one_past(shared)
            expected = self.plain.decode(token, position, shared)
            assert not asked or np.array_equal(next(rows), expected)
            if any(seq in self.edited for seq in shared):
                self.edited.update(shared)
            for seq in shared:
                self.open.pop(seq, None)
        assert next(rows, None) is None
        self._note_ends()
        return True

    def _checkpoint(self, seq: int) -> bool:
        """Whether it was made."""
        end = self.plain.end(seq)
        try:
            self.memory.checkpoint(seq)
        except CapacityError:
            assert self.memory.checkpoint_bytes < AMPLE
            return False
        assert self.memory.reachable(seq, end) == end
        if not self.memory.rewinds_anywhere:
            assert end in self.memory.checkpoints(seq)
            if self.memory.checkpoint_bytes == AMPLE:
                self.promised[seq].add(end)
        return True

    def _remove(self, seq: int, start: int, end: int | None) -> bool:
        """Whether it was done, and not refused for good reason."""
        held = self.plain.held[seq]
        stop = self.plain.end(seq) if end is None else end
        left = {p: s for p, s in held.items() if not start <= p < stop}
        middle = any(p >= stop for p in left) and len(left) < len(held)
        before = contents(self.context)
        try:
            self.memory.remove(seq, start, end)
        except OptionError:
            assert end is not None and end < start
        except CannotRewind as error:
            assert self.recurrent if middle else self.recurrent or self.slides
            nearest = self.memory.reachable(seq, start)
            assert middle or start < self.open.get(seq, CONTEXT * 2)
            assert (error.seq, error.nearest) == (seq, nearest) and nearest < self.plain.end(seq)
            if not middle:
                assert error.position == start > nearest
                assert self.recurrent or self.furthest[seq] - start > REWIND or self.fragmented
            assert nearest not in self.promised[seq] or nearest <= start
            assert_same(before, contents(self.context))
            self.memory.remove(seq, nearest)
            self._truncate(seq, nearest)
            return False
        else:
            if middle:
                self._edit(seq)
                self.promised[seq] = {p for p in self.promised[seq] if p <= start}
                self.plain.held[seq] = left
            elif len(left) < len(held):
                self._truncate(seq, start)
            return True
        assert_same(before, contents(self.context))
        return False

    def _forked(self, source: int, into: int, given: dict[int, Said], *, prefix: bool) -> None:
        held = self.plain.held[into]
        if not prefix:
            self._edit(into)
            self.promised[into] = {p for p in self.promised[into] if p <= min(given)}
        else:
            if source in self.edited:
                self.edited.add(into)
            self.promised[into] = {p for p in self.promised[source] if p <= max(given) + 1}
        self.plain.held[into] = dict(sorted({**held, **given}.items()))
        self.furthest[into] = max(self.furthest[into], self.furthest[source])

    def _batch(self, turns, mixed: bool, plain: dict[int, int] | None = None) -> Batch:
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
        batch, alike = Batch(), self.random.random() < 0.5  # as others may have said, or not
        begun = {seq: self.plain.end(seq) + count for seq, count in (plain or {}).items()}
        for shared, position in rows:
            token = position % 2 if alike else self.random.randrange(2)
            rewindable = plain is not None and position >= begun[shared[0]]
            unwanted = self.unwanted and self.random.random() < self.unwanted
            logits = "none" if unwanted else "all"
            batch.extend([token], position, shared, logits, rewindable=rewindable)
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
            most = self.memory.context_length
            return any(position >= most for _, position, _ in _listed(batch))
        if "pages" in message:
            return self.fragmented
        return self.plain.distinct() + len(batch) > self.memory.max_tokens

    def _assert_one_past(self, shared) -> None:
        first, *others = (self.plain.held[seq] for seq in shared)
        for other in others:
            assert _tokens(first) == _tokens(other)
            assert [said.kept for said in first.values()] == [said.kept for said in other.values()]

    def _note_ends(self) -> None:
        for seq in range(SEQUENCES):
            self.furthest[seq] = max(self.furthest[seq], self.plain.end(seq))

    def _truncate(self, seq: int, end: int) -> None:
        self.plain.held[seq] = {p: s for p, s in self.plain.held[seq].items() if p < end}
        self.promised[seq] = {p for p in self.promised[seq] if p <= end and self.plain.held[seq]}
        self.open.pop(seq, None)
        if not self.plain.held[seq]:
            self.edited.discard(seq)
            self.furthest[seq] = 0

    def _shift_promises(self, seq: int, start: int, end: int, delta: int) -> None:
        if self.slides:
            low = min(start, start + delta)
            self.promised[seq] = {p for p in self.promised[seq] if p <= low}
        else:
            self.promised[seq] = {p + delta if start < p <= end else p for p in self.promised[seq]}

    def _edit(self, seq: int) -> None:
        self.edited.add(seq)
        self.open.pop(seq, None)
        self.fragmented = True


def _listed(batch: Batch) -> list[tuple[int, int, tuple[int, ...]]]:
    e = batch.entries()
    sets = [e.sets[i] for i in e.set_of]
    return list(zip(e.tokens.tolist(), e.positions.tolist(), sets, strict=True))


def _tokens(held: dict[int, Said]) -> list[tuple[int, int]]:
    return [(position, said.token) for position, said in held.items()]


class FullConversation(Conversation):
    layers = (FullAttention(2, 4, 3), FullAttention(1, 2, 2))


class SlidingConversation(Conversation):
    layers = (SlidingAttention(1, 4, 4, WINDOW), SlidingAttention(1, 4, 4, 70))


class GemmaConversation(Conversation):
    layers = LAYERS


class RecurrentConversation(Conversation):
    layers = RECURRENT


class HybridConversation(Conversation):
    layers = HYBRID


class ConvolutionsConversation(Conversation):
    layers = CONVOLUTIONS


class BesideConversation(Conversation):
    layers = BESIDE


class SharedConversation(Conversation):
    layers = SHARED
    unwanted = 0.5


class AllConversation(Conversation):
    layers = ALL_KINDS


for machine in Conversation.__subclasses__():
    machine.TestCase.settings = settings(
        max_examples=30,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
TestFull = FullConversation.TestCase
TestSliding = SlidingConversation.TestCase
TestGemma = GemmaConversation.TestCase
TestRecurrent = RecurrentConversation.TestCase
TestHybrid = HybridConversation.TestCase
TestConvolutions = ConvolutionsConversation.TestCase
TestBeside = BesideConversation.TestCase
TestShared = SharedConversation.TestCase
TestAll = AllConversation.TestCase
