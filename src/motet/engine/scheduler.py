"""Which tokens are computed next: every answer's last one, and as much of the prompts as fits."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from motet.batch import Batch
from motet.context import Context
from motet.engine.load import Totals
from motet.engine.pace import LEAST, Pace
from motet.engine.request import Answer, Request
from motet.engine.sequences import Acquired, Sequences
from motet.engine.sharing import GAIN, Sharing
from motet.engine.speculating import Speculation
from motet.engine.waiting import Waiting
from motet.errors import CapacityError

LOGIT_VALUES = 1 << 25
"""A scored prompt wants every row of logits, so it advances by at most so many values at once."""

_log = logging.getLogger("motet")


@dataclass(frozen=True)
class Span:
    """Consecutive tokens of an answer's sequence in a batch, and their rows of its logits.

    While an answer is generated, its span is the token chosen last, and has a row, which chooses
    the next one; those that are ``proposed`` follow it with a row each. After a preemption the
    tokens before it come again, without rows. While a prompt is prefilled, in the sequence of its
    first answer, only its last token has a row, or each of them where the prompt is scored.
    """

    answer: Answer
    start: int
    """Position of the first token."""
    tokens: Sequence[int]
    rows: slice
    proposed: Sequence[int] = ()
    """The last ones of ``tokens``, which nobody has chosen yet."""

    @property
    def end(self) -> int:
        """The position after the last token."""
        return self.start + len(self.tokens)

    @property
    def is_prefill(self) -> bool:
        """Whether the tokens are a prompt's."""
        return self.start < len(self.answer.request.prompt)


@dataclass
class ScheduledBatch:
    """A batch and the spans that it is made of, in order."""

    room: int
    """Tokens that may still be added."""
    batch: Batch = field(default_factory=Batch)
    spans: list[Span] = field(default_factory=list[Span])
    writing: int = 0
    """Spans of answers that go on, which are the first ones."""
    rows: int = 0
    """Rows of logits asked for."""
    proposed: int = 0
    """Tokens among those of answers that go on which are only proposed."""
    to_encode: list[Request] = field(default_factory=list[Request])
    """Those whose source is to be encoded before the batch is decoded."""

    def encode(self, request: Request, source: Sequence[int]) -> None:
        """Encode a request's source first, all of it, and leave room for what follows."""
        self.to_encode.append(request)
        self.room = max(self.room - len(source), 1)

    def add(
        self,
        answer: Answer,
        start: int,
        tokens: Sequence[int],
        logits: Literal["none", "last", "all"],
    ) -> None:
        """Append a span; ``logits``: which of its tokens have a row."""
        first = self.rows
        self.rows += {"none": 0, "last": 1, "all": len(tokens)}[logits]
        self.room -= len(tokens)
        self.batch.extend(tokens, start, seqs=answer.seq, logits=logits)
        self.spans.append(Span(answer, start, tokens, slice(first, self.rows)))

    def go_on(self, answer: Answer, proposed: Sequence[int]) -> None:
        """Append the token that an answer ends with, and those that may follow."""
        if not proposed:
            self.add(answer, answer.held, answer.pending, "last")
            return
        tokens, first = [*answer.pending, *proposed], self.rows
        self.rows += len(tokens)
        self.room -= len(tokens)
        self.proposed += len(proposed)
        self.batch.extend(tokens, answer.held, seqs=answer.seq, logits="all", rewindable=True)
        self.spans.append(Span(answer, answer.held, tokens, slice(first, self.rows), proposed))


class Scheduler:
    """Gives the context's sequences to requests whose turn it is, and fills batches."""

    def __init__(
        self,
        context: Context,
        prefix_reuse: bool,
        pace: Pace,
        totals: Totals,
        speculation: Speculation | None = None,
    ) -> None:
        self.waiting = Waiting()
        self.running: list[Request] = []
        self.sequences = Sequences(context.memory, context.max_sequences)
        self._sharing = Sharing(context.memory, self.sequences)
        self._memory = context.memory
        self._pace = pace
        self._totals = totals
        self._speculation = speculation
        self._ubatch = context.ubatch
        self._scored_at_once = max(1, LOGIT_VALUES // context.model.config.n_vocab)
        self._reuse = prefix_reuse
        self._short = False
        """Whether a request was preempted, and none has ended since."""

    @property
    def busy(self) -> bool:
        """Whether any request is waiting or running."""
        return bool(self.waiting or self.running)

    @property
    def writing(self) -> int:
        """Answers that wait for their next token, not for a prompt's end."""
        return sum(len(request.answers) for request in self.running if not request.to_compute)

    @property
    def sequences_used(self) -> int:
        """How many answers have one; known in every thread at any time."""
        return sum(len(request.answers) for request in list(self.running))

    @property
    def blocked(self) -> bool:
        """Whether nothing runs, and what waits has to wait until sequences have been saved."""
        if self.running or any(request.cancelled or request.late for request in self.waiting):
            return False
        return self._next() is None

    def schedule(self, speculate: bool = True) -> ScheduledBatch:
        """The next batch: a token for each answer, with those that are proposed after it where
        ``speculate`` allows, then pieces of prompts."""
        self.drop_cancelled()
        scheduled = ScheduledBatch(self._ubatch)
        writing = [
            answer
            for request in self.running
            for answer in request.answers
            if answer.held >= len(request.prompt) and len(answer.pending) == 1
        ]
        for answer, proposed in zip(writing, self._proposed(writing, speculate), strict=True):
            scheduled.go_on(answer, proposed)
        scheduled.writing = len(writing)
        room = max(scheduled.room, 1)  # prompts go on, however many answers there are
        room = self._pace.room(scheduled.writing, room)
        scheduled.room = max(room - scheduled.proposed, min(room, LEAST))
        while request := self._next():
            self.waiting.admit(request)
            self.running.append(request)
            self._admit(request)
        self._share(scheduled)
        return scheduled

    def computed(self, span: Span) -> bool:
        """A span is in memory; whether answers go on from it, each with its last row: the span's
        own, or all of the request where a prompt has ended and none has begun.

        What is proposed does not count before it is ``chosen``.
        """
        span.answer.held = span.end - len(span.proposed)
        if not span.is_prefill:
            if span.answer.held == span.start + 1:
                self.waiting.serve(span.answer.request, 1)
            return span.rows.start < span.rows.stop
        request = span.answer.request
        request.prefilled = span.end
        self._checkpoint(request)
        if request.prefilled < len(request.prompt):
            return False
        first, *others = request.answers
        for other in others:
            self._memory.copy(first.seq, other.seq)
            other.held = first.held
        return not request.started

    def chosen(self, span: Span, rows: int) -> None:
        """So many rows of a span have chosen a token: as many of its tokens but one that were
        proposed stay in memory."""
        span.answer.held += rows - 1
        self.waiting.serve(span.answer.request, rows - 1)

    def rewind(self, spans: Sequence[Span]) -> None:
        """Take out of memory what was proposed and not chosen, and all that it keeps so that
        this can be done."""
        ends: dict[int, int] = {}
        for span in spans:
            end = max(span.answer.held, span.start + 1)
            if span.proposed and (end < span.end or not self._memory.rewinds_anywhere):
                ends[span.answer.seq] = end
        if ends:
            self._memory.rewind(ends)

    def release(self, answer: Answer, keep: bool = True) -> None:
        """Release an answer's sequence; a request is done when it has no answer left.

        ``keep``: later prompts may go on from what it holds.
        """
        request = answer.request
        if self._speculation is not None:
            self._speculation.ended(answer, serves=keep and self._reuse)
        if answer.seq >= 0 and request.kept:
            self._mark(answer.seq)  # so that its owner can come back to where a turn ended
            self.sequences.release(answer.seq, keep=True)
        elif answer.seq >= 0:
            self.sequences.release(answer.seq, keep and self._reuse)
        request.answers.remove(answer)
        if not request.answers:
            self.running.remove(request)
            self.waiting.end(request)
            self._short = False

    def drop(self, request: Request, keep: bool) -> None:
        """Release all sequences of a running request."""
        for answer in list(request.answers):
            self.release(answer, keep)

    def drop_cancelled(self) -> None:
        """Remove cancelled requests and release their sequences."""
        self.waiting.drop_cancelled()
        for request in [request for request in self.running if request.cancelled]:
            self.drop(request, keep=True)

    def preempt(self) -> bool:
        """Take the sequences of a request, since memory is short: it waits until another one has
        ended, and is computed again. False if it is the only one.

        It is, of the client who got most, the one admitted last. As long as memory is short nothing
        is admitted, so that one after the other comes to its end.
        """
        if len(self.running) < 2:
            return False
        request = max(reversed(self.running), key=self.waiting.served)
        self.running.remove(request)
        for answer in request.answers:
            if self._speculation is not None:
                self._speculation.ended(answer, serves=False)
            self.sequences.release(answer.seq, keep=False)
        request.preempt()
        self._totals.preemptions += 1
        self.waiting.put_back(request)
        self._short = True
        return True

    def _proposed(self, writing: Sequence[Answer], speculate: bool) -> Sequence[Sequence[int]]:
        """What may follow the last token of each of these answers."""
        most = min(self._ubatch, self._scored_at_once) - len(writing)
        if self._speculation is None or not writing or not speculate or most < 1:
            return [()] * len(writing)
        return self._speculation.proposals(writing, most)

    def _next(self) -> Request | None:
        """The request that is admitted next, if any can be.

        Those that want a certain sequence let others pass, and so do those that wait for a prefix.
        Conversations have their sequences already, and pass those who wait for any.
        """
        if self._short and self.running:
            return None
        if len(self.sequences):
            request = self.waiting.next(self._later)
            if request is not None and (
                request.kept is not None or len(request.answers) <= len(self.sequences)
            ):
                return request
        return self.waiting.next(self._lacks_own) if self.sequences.any_kept else None

    def _later(self, request: Request) -> bool:
        """Whether others may pass a request."""
        own = request.own_sequence
        if own is not None:
            return not self.sequences.may_acquire_own(own, kept=request.kept is not None)
        reuse = self._reuse and not self._scores(request)
        return reuse and self._sharing.waits(request, self.running)

    def _lacks_own(self, request: Request) -> bool:
        """Whether it is none that goes on in its own sequence now."""
        own = request.own_sequence if request.kept else None
        return own is None or not self.sequences.may_acquire_own(own, kept=True)

    def _share(self, scheduled: ScheduledBatch) -> None:
        """Fill the room with pieces of prompts: half of it with the one admitted first, the rest
        with the shortest.

        So a prompt takes at most twice as long as alone once those before it are done, however many
        short ones come, and a short one waits for shorter ones alone.
        """
        to_do = [request for request in self.running if request.to_compute]
        if not to_do:
            return
        oldest, others, room = to_do[0], to_do[1:], scheduled.room
        scheduled.room = max(-(-room // 2), room - sum(other.to_compute for other in others))
        rest = room - scheduled.room
        self._go_on(scheduled, oldest)
        scheduled.room += rest
        for other in sorted(others, key=lambda request: request.to_compute):
            self._go_on(scheduled, other)

    def _go_on(self, scheduled: ScheduledBatch, request: Request) -> None:
        """Add what fits of a request's prompt, or of its answers, if they were preempted."""
        if scheduled.room <= 0:
            return
        if request.source is not None and not request.encoded:
            if scheduled.to_encode and len(request.source) > scheduled.room:
                return
            scheduled.encode(request, request.source)
        self._prefill(scheduled, request)
        self._recompute(scheduled, request)

    def _acquire(self, request: Request, reuse: bool) -> Acquired:
        """Give a request its sequences; a conversation keeps its own from its first answer on."""
        own, kept, count = request.own_sequence, request.kept, len(request.answers)
        if own is not None:
            others = kept is not None and self._reuse
            return self.sequences.acquire_own(own, request.prompt, count, reuse, others=others)
        acquired = self.sequences.acquire(request.prompt, count, reuse and self._reuse)
        if kept is not None:
            (kept.seq,) = acquired.sequences
            self.sequences.keep(kept.seq)
        return acquired

    def _admit(self, request: Request) -> None:
        reuse = (self._reuse or request.kept is not None) and not self._scores(request)
        acquired = self._acquire(request, reuse)
        if not request.admitted:
            self.waiting.serve(request, len(request.asked) - acquired.reused)
        request.admit(acquired.sequences, acquired.reused)
        if reuse:
            self._totals.prefix_queries += len(request.prompt)
            self._totals.cached_tokens += acquired.reused
        if reuse and not self._memory.rewinds_anywhere:
            positions = {*request.options.checkpoints, len(request.prompt) - 1}
            if acquired.common >= acquired.reused + GAIN:
                positions.add(acquired.common)
            request.checkpoints = {p for p in positions if p < len(request.prompt)}
        self._checkpoint(request)
        self._log_reuse(request, acquired)

    def _prefill(self, scheduled: ScheduledBatch, request: Request) -> None:
        """Add what fits of a prompt, up to the next position where a checkpoint is to be made."""
        start, end = request.prefilled, len(request.prompt)
        scored = self._scores(request)
        stop = min((p for p in request.checkpoints if p > start), default=end)
        most = min(scheduled.room, self._scored_at_once) if scored else scheduled.room
        stop = min(stop, start + most)
        if stop == start:
            return
        logits = "all" if scored else "last" if stop == end else "none"
        scheduled.add(request.answers[0], start, request.prompt[start:stop], logits)

    def _recompute(self, scheduled: ScheduledBatch, request: Request) -> None:
        """Add what fits of the answers' tokens that a preemption took from memory."""
        for answer in request.answers:
            pending = answer.pending
            if answer.held >= len(request.prompt) and len(pending) > 1 and scheduled.room:
                tokens = pending[: scheduled.room]
                logits = "last" if len(tokens) == len(pending) else "none"
                scheduled.add(answer, answer.held, tokens, logits)

    @staticmethod
    def _scores(request: Request) -> bool:
        """Whether rows of the prompt are wanted; those of one that was preempted are known."""
        return request.options.scores_prompt and not request.started

    def _checkpoint(self, request: Request) -> None:
        """Make a checkpoint, if later prompts may go on from where the prompt is now."""
        if request.prefilled in request.checkpoints:
            self._mark(request.answers[0].seq)

    def _mark(self, seq: int) -> None:
        try:
            self._memory.checkpoint(seq)
        except CapacityError as error:
            _log.debug("no checkpoint at token %d: %s", self._memory.length(seq), error)

    def _log_reuse(self, request: Request, acquired: Acquired) -> None:
        """Say how much of a prompt is computed again, and why."""
        tokens = len(request.prompt)
        if not self._reuse:
            return
        if request.options.scores_prompt:
            why = "a prompt is scored from all its rows"
        elif acquired.reused < acquired.common:
            at = acquired.reused
            before = f"the nearest checkpoint is at {at}" if at else "no checkpoint"
            why = f"the common prefix ends at {acquired.common}, {before}"
        elif acquired.common:
            why = f"the common prefix ends at {acquired.common}"
        else:
            why = "no sequence begins so"
        level = logging.DEBUG if acquired.reused == tokens - 1 else logging.INFO
        _log.log(level, "%d of %d prompt tokens reused: %s", acquired.reused, tokens, why)
