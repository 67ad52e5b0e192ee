"""Which tokens are computed next: every answer's last one, and as much of the prompts as fits."""

from collections import deque
from dataclasses import dataclass, field

from motet.batch import Batch
from motet.context import Context
from motet.engine.answer import Answer
from motet.engine.request import Request

LOGIT_VALUES = 1 << 25
"""A scored prompt wants every row of logits, so it advances by at most so many values at once."""


@dataclass
class Prefill:
    """Part of a prompt in a step, up to prompt token ``stop``; ``rows`` of the logits are its."""

    request: Request
    stop: int
    rows: slice


@dataclass
class Step:
    """One batch and whose it is: row i of the logits belongs to ``decodes[i]``."""

    batch: Batch = field(default_factory=Batch)
    decodes: list[Answer] = field(default_factory=list)
    prefills: list[Prefill] = field(default_factory=list)


class Scheduler:
    """Lends the context's sequences to requests, first come first served, and fills batches."""

    def __init__(self, context: Context, max_sequences: int, ubatch: int, n_vocab: int) -> None:
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self._memory = context.memory
        self._free = list(range(max_sequences))
        self._ubatch = ubatch
        self._scored_at_once = max(1, LOGIT_VALUES // n_vocab)

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running)

    def schedule(self) -> Step:
        """The next batch: a token for each answer, then prompts in the order they came."""
        self._drop_cancelled()
        self._admit()
        step = Step()
        for answer in self._writing():
            step.batch.add(answer.tokens[-1], answer.position, seqs=answer.seq, logits=True)
            step.decodes.append(answer)
        room = max(self._ubatch - len(step.decodes), 1)
        rows = len(step.decodes)
        for request in self.running:
            left = len(request.prompt) - request.prefilled
            count = min(left, room, self._scored_at_once if request.scores_prompt else room)
            if count:
                wanted = "all" if request.scores_prompt else "last" if count == left else "none"
                start, stop = request.prefilled, request.prefilled + count
                tokens = request.prompt[start:stop]
                step.batch.extend(tokens, start, seqs=request.answers[0].seq, logits=wanted)
                first, rows = rows, rows + {"all": count, "last": 1, "none": 0}[wanted]
                step.prefills.append(Prefill(request, stop, slice(first, rows)))
                room -= count
        return step

    def fork(self, request: Request) -> None:
        """Give every answer the memory of the prompt, which the first one has."""
        first, *others = request.answers
        for other in others:
            self._memory.copy(first.seq, other.seq)

    def release(self, answer: Answer) -> None:
        """Take an answer's sequence back; a request is done when it has no answer left."""
        self._memory.remove(answer.seq)
        self._free.append(answer.seq)
        request = answer.request
        request.answers.remove(answer)
        if not request.answers:
            self.running.remove(request)

    def drop(self, request: Request) -> None:
        """Take everything back from a running request."""
        for answer in list(request.answers):
            self.release(answer)

    def _writing(self) -> list[Answer]:
        return [answer for request in self.running for answer in request.answers if answer.tokens]

    def _drop_cancelled(self) -> None:
        self.waiting = deque(request for request in self.waiting if not request.cancelled)
        for request in [request for request in self.running if request.cancelled]:
            self.drop(request)

    def _admit(self) -> None:
        while self.waiting and self.waiting[0].count <= len(self._free):
            request = self.waiting.popleft()
            request.admit([self._free.pop(0) for _ in range(request.count)])
            self.running.append(request)
