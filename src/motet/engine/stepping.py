"""One step of an engine: schedule, decode, hand out, and take back what was not chosen."""

import time
from collections.abc import Callable, Sequence

from motet.arrays import Float32
from motet.batch import Batch
from motet.context import Context
from motet.engine.load import Admission, Totals
from motet.engine.masks import Masks
from motet.engine.pace import Pace
from motet.engine.request import Answer, Request, as_motet_error
from motet.engine.scheduler import ScheduledBatch, Scheduler, Span
from motet.engine.speculating import Outcome, Speculation
from motet.errors import CapacityError, NumericalError


class Stepping:
    """Computes what a scheduler chooses, and gives each request what comes of it."""

    def __init__(
        self,
        context: Context,
        scheduler: Scheduler,
        masks: Masks,
        pace: Pace,
        admission: Admission,
        totals: Totals,
        speculation: Speculation | None,
    ) -> None:
        self._context = context
        self._scheduler = scheduler
        self._masks = masks
        self._pace = pace
        self._admission = admission
        self._totals = totals
        self._speculation = speculation

    def step(
        self, wait: Callable[[], object], explained: Callable[[CapacityError], CapacityError]
    ) -> None:
        """Schedule a batch, decode it, and hand out the rows of each of its spans.

        ``wait``: where room comes when sequences have been saved. ``explained``: what to say where
        there is no room at all. What fails with tokens that are only proposed is tried again
        without them, before anything gives way to them.
        """
        speculate = True
        while True:
            began = time.perf_counter()
            scheduled = self._scheduler.schedule(speculate)
            if not scheduled.spans:
                return
            try:
                if not self._encode(scheduled.to_encode):
                    return
                with self._masks.beside(scheduled.spans):
                    logits = self._context.decode(scheduled.batch).logits
                break
            except (CapacityError, NumericalError, MemoryError) as error:
                if scheduled.proposed and self._speculation is not None:
                    self._speculation.failed()
                    speculate = False
                    continue
                if isinstance(error, NumericalError):
                    spans = scheduled.spans
                    self._fail_of(
                        [(span.answer.request, len(span.tokens)) for span in spans], error
                    )
                    return
                if not isinstance(error, CapacityError):
                    raise
                if self._scheduler.sequences.evict():
                    continue
                if self._context.memory.being_exported:  # it gives way when it is saved
                    wait()
                    return
                # What only serves later prompts goes before the one that is left does.
                if not (self._scheduler.preempt() or self._context.memory.drop_checkpoints()):
                    raise explained(error) from None
        decoded = time.perf_counter()
        outcomes = self._hand_out_all(scheduled, logits)
        self._measure(scheduled, outcomes, began, decoded)

    def fail(self, request: Request, error: Exception) -> None:
        """End a request with an error, whatever it has come to."""
        self._say(request, error)
        self._scheduler.drop(request, keep=False)

    def _hand_out_all(self, scheduled: ScheduledBatch, logits: Float32) -> list[Outcome]:
        """Give each span's rows to its answers; what became of those that went on.

        Sequences are released when memory holds what was chosen, and nothing else.
        """
        outcomes: list[Outcome] = []
        ended: list[Answer] = []
        failed: list[Request] = []
        for number, span in enumerate(scheduled.spans):
            request, answer = span.answer.request, span.answer
            if request.cancelled:
                continue
            before, accepted = len(answer.tokens), answer.accepted
            try:
                self._hand_out(span, logits[span.rows], ended)
            except Exception as error:
                self._say(request, error)
                failed.append(request)
            if number < scheduled.writing:
                given, chosen = len(answer.tokens) - before, answer.accepted - accepted
                outcomes.append(Outcome(answer, len(span.proposed), chosen, given))
        if scheduled.proposed:
            self._scheduler.rewind(scheduled.spans)
        for answer in ended:
            self._scheduler.release(answer)
        for request in failed:
            self._scheduler.drop(request, keep=False)
        return outcomes

    def _hand_out(self, span: Span, rows: Float32, ended: list[Answer]) -> None:
        """Give a span's rows of logits [n, n_vocab] to the answers that they are for; adds those
        that have come to their end to ``ended``."""
        request = span.answer.request
        if span.is_prefill and request.options.scores_prompt and not request.started:
            request.score(rows, span.start)
        if not self._scheduler.computed(span):
            return
        if not span.is_prefill:
            self._scheduler.chosen(span, self._advance(span.answer, rows, ended, span.proposed))
            return
        for answer in list(request.answers):
            answer.begin()
            self._advance(answer, rows[-1:], ended)

    def _advance(
        self, answer: Answer, rows: Float32, ended: list[Answer], proposed: Sequence[int] = ()
    ) -> int:
        """Returns how many rows chose a token."""
        before = len(answer.tokens)
        used = answer.advance(rows, proposed)
        self._totals.generated_tokens += len(answer.tokens) - before
        if answer.completion:
            self._totals.finished += 1
            self._admission.ended()
            ended.append(answer)
        return used

    def _measure(
        self, scheduled: ScheduledBatch, outcomes: list[Outcome], began: float, decoded: float
    ) -> None:
        """Note what a step did and how long it took."""
        total, writing = self._totals, scheduled.writing
        seconds = time.perf_counter() - began
        prompt = sum(len(span.tokens) for span in scheduled.spans[writing:])
        prompt += sum(len(request.asked) for request in scheduled.to_encode)
        of_prompts = self._pace.learn(writing, prompt, seconds, scheduled.proposed)
        self._admission.spent(seconds)
        total.steps += 1
        total.busy_sequences += len(scheduled.spans)
        total.prompt_tokens += prompt
        total.prompt_seconds += of_prompts
        total.generation_seconds += seconds - of_prompts
        total.proposed_tokens += scheduled.proposed
        total.accepted_tokens += sum(outcome.chosen for outcome in outcomes)
        total.proposals += sum(outcome.proposed > 0 for outcome in outcomes)
        if self._speculation is not None:
            self._speculation.learn(outcomes, None if prompt else decoded - began)

    def _encode(self, requests: list[Request]) -> bool:
        """Encode the sources of ``requests`` together; False where one of them failed."""
        sources = [(request, request.asked) for request in requests]
        batch = Batch()
        for request, source in sources:
            batch.extend(source, 0, seqs=request.answers[0].seq, logits="none")
        try:
            if sources:
                self._context.encode(batch)
        except NumericalError as error:
            self._fail_of([(request, len(source)) for request, source in sources], error)
            return False
        for request in requests:
            request.encoded = True
        return True

    def _fail_of(self, entries: list[tuple[Request, int]], error: NumericalError) -> None:
        """Fail the requests of the entries that an error is about: the others are as before.

        ``entries``: in the order of the batch, requests and how many entries each has.
        """
        if not error.entries:
            raise error
        end = 0
        for request, count in entries:
            start, end = end, end + count
            if not request.cancelled and any(start <= entry < end for entry in error.entries):
                self.fail(request, error)

    @staticmethod
    def _say(request: Request, error: Exception) -> None:
        request.emit(as_motet_error(error))
        request.cancelled = True
