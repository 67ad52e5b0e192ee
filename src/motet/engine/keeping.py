"""What an engine does with conversations and with single sequences, between two steps."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

from motet.context import Context
from motet.engine import state as files
from motet.engine.conversations import AnswerState, ConversationState, Kept, SlotState
from motet.engine.request import Request
from motet.engine.scheduler import Scheduler
from motet.engine.state import File
from motet.errors import (
    CapacityError,
    ConversationBusy,
    MotetError,
    OptionError,
    UnsupportedError,
)
from motet.machine import format_bytes
from motet.memory import Memory
from motet.memory.export import Export
from motet.state import Loaded, StateFile, encoded

Result = TypeVar("Result")


@dataclass(frozen=True)
class Now:
    """What an engine works with, until its settings change."""

    context: Context
    context_length: int
    scheduler: Scheduler

    @property
    def memory(self) -> Memory:
        return self.context.memory


class Between(Protocol):
    """Has something done by the engine's thread, and gives or raises what comes of it."""

    def __call__(self, work: Callable[[], Result], /) -> Result: ...


class Keeping:
    """Conversations and sequences of one engine."""

    def __init__(
        self, between_steps: Between, wake: Callable[[], None], now: Callable[[], Now]
    ) -> None:
        """``wake``: lets the engine's thread look again. Raises MotetError when it has ended."""
        self._wake = wake
        self._between_steps = between_steps
        self._now = now
        self._open: list[Kept] = []
        """Changed by the engine's thread alone."""

    @property
    def open(self) -> int:
        """How many conversations there are."""
        return sum(not kept.closed for kept in self._open)

    @property
    def due(self) -> bool:
        """Whether there is anything to sweep."""
        return any(kept.closed and not kept.busy for kept in self._open)

    def sweep(self) -> None:
        """Take back the sequences of those that were closed, and refuse what can never run."""
        scheduler = self._now().scheduler
        left = [kept for kept in self._open if kept.closed and not kept.busy]
        if left:
            scheduler.drop_cancelled()  # what was cancelled in them just now
        for kept in left:
            self._open.remove(kept)
            if kept.seq is not None:
                scheduler.sequences.take_back(kept.seq)
        if self._open:
            for request in scheduler.waiting:
                error = self._impossible(request)
                if error is not None:
                    request.emit(error)

    def explained(self, error: CapacityError) -> CapacityError:
        """An error for want of memory that says what conversations take of it."""
        seqs = [kept.seq for kept in self._open if kept.seq is not None]
        if not seqs:
            return error
        held = sum(map(self._now().memory.own_bytes, seqs))
        return CapacityError(
            f"{error.message}; {len(seqs)} conversations, which are kept, take {format_bytes(held)}"
            " by themselves",
            hint="close some of them, or allow more by kv_bytes",
        )

    def close(self, kept: Kept) -> None:
        """See ``Conversation.close``."""
        kept.closed = True
        with suppress(MotetError):  # of an engine that has ended
            self._wake()

    def create(self) -> Kept:
        """See ``LLM.conversation``."""
        return self._between_steps(self._create)

    def state(self, kept: Kept) -> ConversationState:
        """See ``Conversation.state``."""

        def work() -> ConversationState:
            self._settle(kept)
            if kept.seq is None:
                return ConversationState(0, 0, ((0, 0),), kept.busy)
            memory = self._now().memory
            return ConversationState(
                memory.length(kept.seq),
                memory.own_bytes(kept.seq),
                _positions(memory, kept.seq),
                kept.busy,
            )

        return self._between_steps(work)

    def tokens(self, kept: Kept) -> list[int]:
        """See ``Conversation.tokens``."""

        def work() -> list[int]:
            self._settle(kept)
            return [] if kept.seq is None else self._now().memory.tokens(kept.seq).tolist()

        return self._between_steps(work)

    def fork(self, kept: Kept, position: int | None) -> Kept:
        """See ``Conversation.fork``."""

        def work() -> Kept:
            self._settle(kept)
            kept.require_free()
            _require_position(self._now().memory, kept, position)
            forked = self._create()
            try:
                if kept.seq is not None:
                    self._copy(kept.seq, forked, position)
            except BaseException:
                forked.closed = True
                raise
            return forked

        return self._between_steps(work)

    def rewind(self, kept: Kept, position: int) -> None:
        """See ``Conversation.rewind``."""

        def work() -> None:
            self._settle(kept)
            kept.require_free()
            memory = self._now().memory
            _require_position(memory, kept, position)
            if kept.seq is not None and position < memory.length(kept.seq):
                _require_unsaved(memory, kept.seq)
                memory.remove(kept.seq, position)

        self._between_steps(work)

    def save(self, kept: Kept, file: File, notes: Mapping[str, str]) -> int:
        """See ``Conversation.save``."""

        def work() -> tuple[Context, Export]:
            self._settle(kept)
            kept.require_free()
            return self._export([] if kept.seq is None else [kept.seq])

        return self._write(work, file, notes)

    def restore(self, file: StateFile) -> tuple[Kept, dict[str, str]]:
        """See ``LLM.restore_conversation``."""
        now = self._between_steps(self._now)
        found = files.contents_of_one(now.context, file, now.context_length)
        loaded = found.load(now.memory)

        def work() -> Kept:
            self._require_same(now)
            kept = self._create()
            try:
                if len(loaded.saved.sequences):
                    seq = now.scheduler.sequences.next_free()
                    files.fill(now.context, now.scheduler.sequences, loaded, [seq])
                    now.scheduler.sequences.keep(seq)
                    kept.seq = seq
            except BaseException:
                kept.closed = True
                raise
            return kept

        return self._between_steps(work), found.notes

    def slots(self) -> list[SlotState]:
        """See ``LLM.slots``."""

        def work() -> list[SlotState]:
            now = self._now()
            now.scheduler.drop_cancelled()
            answers = {
                answer.seq: AnswerState(
                    len(request.asked),
                    request.prefilled,
                    len(answer.tokens),
                    request.token_limit,
                    request.sampling,
                )
                for request in now.scheduler.running
                for answer in request.answers
            }
            kept = {kept.seq for kept in self._open}
            return [
                SlotState(seq, now.memory.length(seq), seq in kept, answers.get(seq))
                for seq in range(now.context.max_sequences)
            ]

        return self._between_steps(work)

    def save_slot(self, seq: int, file: File, notes: Mapping[str, str]) -> int:
        """See ``LLM.save_slot``."""

        def work() -> tuple[Context, Export]:
            now = self._idle(seq)
            return self._export([seq] if now.memory.length(seq) else [])

        return self._write(work, file, notes)

    def restore_slot(self, seq: int, file: StateFile) -> tuple[int, dict[str, str]]:
        """See ``LLM.restore_slot``."""
        now = self._between_steps(lambda: self._idle(seq))
        found = files.contents_of_one(now.context, file, now.context_length)
        loaded = found.load(now.memory)

        def work() -> int:
            self._require_same(now)
            self._idle(seq)
            self._put(now, loaded, seq)
            return now.memory.length(seq)

        return self._between_steps(work), found.notes

    def erase_slot(self, seq: int) -> int:
        """See ``LLM.erase_slot``."""

        def work() -> int:
            now = self._idle(seq)
            tokens = now.memory.length(seq)
            now.memory.remove(seq)
            return tokens

        return self._between_steps(work)

    def _create(self) -> Kept:
        """One that holds nothing. Raises CapacityError where it would leave no sequence."""
        self.sweep()
        sequences = self._now().context.max_sequences
        if len(self._open) + 1 >= sequences:
            raise CapacityError(
                f"{len(self._open)} conversations are open, and one of {sequences} sequences is"
                " left for everything else",
                hint="close one of them, or make the LLM with more max_sequences",
            )
        if self._now().context.model.config.decoder_start is not None:
            raise UnsupportedError(
                "the model is an encoder-decoder, whose answers do not go on from each other",
                hint="give each prompt by itself, without a conversation",
            )
        kept = Kept()
        self._open.append(kept)
        return kept

    def _settle(self, kept: Kept) -> None:
        """Let go of requests that were cancelled. Raises MotetError when it is closed."""
        if kept.closed:
            raise MotetError("the conversation is closed")
        self._now().scheduler.drop_cancelled()

    def _copy(self, source: int, forked: Kept, position: int | None) -> None:
        """Give ``forked`` a sequence, and in it what ``source`` holds before ``position``."""
        now = self._now()
        sequences = now.scheduler.sequences
        sequences.keep(seq := sequences.next_free(but=source))
        forked.seq = seq
        now.memory.remove(seq)
        while position != 0:
            try:
                now.memory.copy(source, seq, 0, position)
                break
            except CapacityError:
                if not sequences.evict():
                    raise

    def _put(self, now: Now, loaded: Loaded, seq: int) -> None:
        if len(loaded.saved.sequences):
            files.fill(now.context, now.scheduler.sequences, loaded, [seq])
        else:
            now.memory.remove(seq)

    def _export(self, seqs: list[int]) -> tuple[Context, Export]:
        now = self._now()
        with now.memory.exclusive():
            return now.context, now.memory.export(seqs)

    def _write(
        self,
        work: Callable[[], tuple[Context, Export]],
        file: File,
        notes: Mapping[str, str],
    ) -> int:
        """Write what ``work`` exports; how many tokens that are."""
        text = encoded(notes)
        context, export = self._between_steps(work)
        files.write(file, context, export, text)
        return int(export.saved.sequences.held.lengths.sum())

    def _idle(self, seq: int) -> Now:
        """Raise ConversationBusy unless ``seq`` is nobody's now, and is not being saved."""
        now = self._now()
        now.scheduler.drop_cancelled()
        if any(kept.seq == seq for kept in self._open):
            raise ConversationBusy(f"sequence {seq} is a conversation's", hint="choose another one")
        if any(answer.seq == seq for each in now.scheduler.running for answer in each.answers):
            raise ConversationBusy(
                f"an answer is under way in sequence {seq}", hint="wait until it has ended"
            )
        _require_unsaved(now.memory, seq)
        return now

    def _require_same(self, now: Now) -> None:
        if now.context is not self._now().context:
            raise MotetError("the context was changed meanwhile", hint="ask again")

    def _impossible(self, request: Request) -> CapacityError | None:
        """Why a request waits in vain, if it does."""
        if request.slot is not None and any(kept.seq == request.slot for kept in self._open):
            return CapacityError(
                f"sequence {request.slot} is a conversation's", hint="choose another slot"
            )
        left = self._now().context.max_sequences - len(self._open)
        if request.kept is None and request.options.n > left:
            return CapacityError(
                f"{request.options.n} answers to one prompt need {request.options.n} sequences,"
                f" and conversations leave {left}",
                hint="ask for fewer, close conversations, or make the LLM with more max_sequences",
            )
        return None


def _require_unsaved(memory: Memory, seq: int) -> None:
    if seq in memory.being_exported:
        raise ConversationBusy(f"sequence {seq} is being saved", hint="wait until that is done")


def _require_position(memory: Memory, kept: Kept, position: int | None) -> None:
    """Raise OptionError for one beyond what the conversation holds."""
    length = 0 if kept.seq is None else memory.length(kept.seq)
    if position is not None and position > length:
        raise OptionError(
            f"position is {position}, and the conversation holds {length} tokens",
            hint=f"use 0 to {length}",
        )


def _positions(memory: Memory, seq: int) -> tuple[tuple[int, int], ...]:
    """Where ``seq`` can go back to: to its last tokens, and before them to checkpoints."""
    end = memory.length(seq)
    marks = {0, *memory.checkpoints(seq)}
    low, high = 0, end
    while low < high:
        probe = middle = (low + high) // 2
        while probe in marks:  # which says nothing of its neighbours
            probe += 1
        if probe >= high or memory.reachable(seq, probe) == probe:
            high = middle
        else:
            low = probe + 1
    last = [(high, end)]
    return tuple([(at, at) for at in sorted(marks) if at < high] + last)
