"""Which tokens are computed next: every answer's last one, and as much of the prompts as fits."""

import logging
from collections import deque
from dataclasses import dataclass, field

from motet.batch import Batch
from motet.context import Context
from motet.engine.answer import Answer
from motet.engine.request import Request
from motet.engine.sequences import Loan, Sequences
from motet.errors import CapacityError

LOGIT_VALUES = 1 << 25
"""A scored prompt wants every row of logits, so it advances by at most so many values at once."""

APART = 16
"""A checkpoint where prompts were seen to part has to save so many tokens."""

_log = logging.getLogger("motet")


@dataclass
class Prefill:
    """Part of a prompt in a step, up to prompt token ``stop``; ``rows`` of the logits are its."""

    request: Request
    stop: int
    rows: slice


@dataclass
class Step:
    """One batch and whose it is: row i of the logits belongs to ``decodes[i]``."""

    room: int
    """Tokens that may still be added."""
    batch: Batch = field(default_factory=Batch)
    decodes: list[Answer] = field(default_factory=list)
    prefills: list[Prefill] = field(default_factory=list)
    rows: int = 0
    """Rows of logits asked for."""


class Scheduler:
    """Lends the context's sequences to requests, first come first served, and fills batches."""

    def __init__(
        self,
        context: Context,
        max_sequences: int,
        ubatch: int,
        n_vocab: int,
        prefix_reuse: bool,
    ) -> None:
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.sequences = Sequences(context.memory, max_sequences)
        self._memory = context.memory
        self._ubatch = ubatch
        self._scored_at_once = max(1, LOGIT_VALUES // n_vocab)
        self._reuse = prefix_reuse

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running)

    def schedule(self) -> Step:
        """The next batch: a token for each answer, then prompts in the order they came.

        A request gets its sequences when its first tokens are computed, so that it finds what
        those before it have computed.
        """
        self.drop_cancelled()
        step = Step(self._ubatch)
        for answer in self._writing():
            step.batch.add(answer.tokens[-1], answer.position, seqs=answer.seq, logits=True)
            step.decodes.append(answer)
        step.rows = len(step.decodes)
        step.room = max(self._ubatch - len(step.decodes), 1)
        for request in self.running:
            self._prefill(step, request)
        while step.room and self.waiting and self.waiting[0].count <= len(self.sequences):
            request = self.waiting.popleft()
            self.running.append(request)
            self._admit(request)
            self._prefill(step, request)
        return step

    def checkpoint(self, request: Request) -> None:
        """Remember this moment, if later prompts may go on from where the prompt is now."""
        if request.prefilled in request.cuts:
            try:
                self._memory.checkpoint(request.answers[0].seq)
            except CapacityError as error:
                _log.debug("no checkpoint at token %d: %s", request.prefilled, error)

    def fork(self, request: Request) -> None:
        """Give every answer the memory of the prompt, which the first one has."""
        first, *others = request.answers
        for other in others:
            self._memory.copy(first.seq, other.seq)

    def release(self, answer: Answer, keep: bool = True) -> None:
        """Take an answer's sequence back; a request is done when it has no answer left.

        ``keep``: later prompts may go on from what it holds.
        """
        if answer.seq >= 0:
            self.sequences.give_back(answer.seq, keep and self._reuse)
        request = answer.request
        request.answers.remove(answer)
        if not request.answers:
            self.running.remove(request)

    def drop(self, request: Request, keep: bool) -> None:
        """Take everything back from a running request."""
        for answer in list(request.answers):
            self.release(answer, keep)

    def drop_cancelled(self) -> None:
        """Take everything back from requests whose callers no longer read."""
        self.waiting = deque(request for request in self.waiting if not request.cancelled)
        for request in [request for request in self.running if request.cancelled]:
            self.drop(request, keep=True)

    def _writing(self) -> list[Answer]:
        return [answer for request in self.running for answer in request.answers if answer.tokens]

    def _admit(self, request: Request) -> None:
        reuse = self._reuse and not request.scores_prompt
        loan = self.sequences.lend(request.prompt, request.count, reuse)
        request.admit(loan.sequences, loan.reused)
        if reuse and not self._memory.rewinds_anywhere:
            parted = [loan.common] if loan.common >= loan.reused + APART else []
            last = len(request.prompt) - 1
            request.cuts = {cut for cut in (*request.useful, *parted, last) if cut <= last}
        self.checkpoint(request)
        self._note(request, loan)

    def _prefill(self, step: Step, request: Request) -> None:
        """Add what fits of a prompt, up to where it is to be cut."""
        begun, end = request.prefilled, len(request.prompt)
        stop = min((cut for cut in request.cuts if cut > begun), default=end)
        most = min(step.room, self._scored_at_once) if request.scores_prompt else step.room
        count = min(stop - begun, most)
        if not count:
            return
        wanted = "none" if begun + count < end else "last"
        wanted = "all" if request.scores_prompt else wanted
        tokens = request.prompt[begun : begun + count]
        step.batch.extend(tokens, begun, seqs=request.answers[0].seq, logits=wanted)
        first, step.rows = step.rows, step.rows + {"all": count, "last": 1, "none": 0}[wanted]
        step.prefills.append(Prefill(request, begun + count, slice(first, step.rows)))
        step.room -= count

    def _note(self, request: Request, loan: Loan) -> None:
        """Say how much of a prompt is computed again, and why."""
        tokens = len(request.prompt)
        if not self._reuse:
            return
        if request.scores_prompt:
            why = "a prompt is scored from all its rows"
        elif loan.reused < loan.common:
            before = (
                f"the nearest checkpoint is at {loan.reused}" if loan.reused else "no checkpoint"
            )
            why = f"the common prefix ends at {loan.common}, {before}"
        elif loan.common:
            why = f"the common prefix ends at {loan.common}"
        else:
            why = "no sequence begins so"
        level = logging.DEBUG if loan.reused == tokens - 1 else logging.INFO
        _log.log(level, "%d of %d prompt tokens reused: %s", loan.reused, tokens, why)
