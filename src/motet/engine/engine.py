"""The thread that owns a context: schedule, run, postprocess, until it is closed."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from motet.context import Context
from motet.engine import state
from motet.engine.answer import Answer
from motet.engine.request import Request
from motet.engine.scheduler import Prefill, Scheduler
from motet.errors import MotetError
from motet.self_extend import AutoExtend, SelfExtend


@dataclass
class _Job:
    """Something that the engine thread does for a caller between two steps."""

    work: Callable[[], Any]
    outcome: Future[Any] = field(default_factory=Future)

    def do(self) -> None:
        try:
            self.outcome.set_result(self.work())
        except Exception as error:
            self.outcome.set_exception(_for_people(error))


class Engine:
    """Runs requests of any number of threads in shared batches.

    A failure of one request reaches its caller and no other; a failure of the batch reaches every
    caller in it. Nobody is left waiting.
    """

    def __init__(
        self,
        context: Context,
        longest: int,
        max_sequences: int,
        ubatch: int,
        n_vocab: int,
        prefix_reuse: bool,
    ) -> None:
        """``longest``: tokens that a sequence holds at most."""
        self._schedule = partial(
            Scheduler,
            max_sequences=max_sequences,
            ubatch=ubatch,
            n_vocab=n_vocab,
            prefix_reuse=prefix_reuse,
        )
        self._context = context
        self._scheduler = self._schedule(context)
        self.longest = longest
        self._inbox: list[Request] = []
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._end: MotetError | None = None
        """Why nothing further is taken; guarded by ``_changed``, as the inbox and the jobs are."""
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name="motet-engine", daemon=True)
        self._thread.start()

    def submit(self, requests: list[Request]) -> None:
        """Queue requests, next to each other. Raises MotetError when the engine has ended."""
        with self._open():
            if any(len(r.prompt) + r.max_tokens > self.longest for r in requests):
                raise MotetError("the context became shorter meanwhile", hint="ask again")
            self._inbox.extend(requests)

    @property
    def self_extend(self) -> SelfExtend | AutoExtend | None:
        """Of the context."""
        return self._context.self_extend

    def change(
        self, context: Context, longest: int, file: state.File | None = None
    ) -> dict[str, str]:
        """Go on with another context, and with what ``file`` has; returns its notes.

        Raises MotetError while answers are under way, and what ``restore`` does; then nothing has
        changed.
        """
        return self._between_steps(lambda: self._change(context, longest, file))

    def save(self, file: state.File, notes: Mapping[str, str] | None) -> None:
        """Write what idle sequences remember; see ``LLM.save``."""
        self._between_steps(
            lambda: state.save(self._context, self._scheduler.sequences, file, notes)
        )

    def restore(self, file: state.File) -> dict[str, str]:
        """Remember what was saved; see ``LLM.restore``."""
        return self._between_steps(
            lambda: state.restore(self._context, self._scheduler.sequences, file, self.longest)
        )

    def notes(self, file: state.File) -> dict[str, str]:
        """Of a state file; see ``LLM.notes``."""
        return self._between_steps(lambda: self._context.notes(file))

    def forget(self) -> None:
        """Empty the idle sequences; see ``LLM.forget``."""
        self._between_steps(lambda: self._scheduler.sequences.forget())

    def held(self) -> list[int]:
        """Tokens in each idle sequence; see ``LLM.held``."""
        return self._between_steps(
            lambda: [self._context.memory.length(seq) for seq in self._scheduler.sequences.idle]
        )

    def close(self) -> None:
        """End the thread; answers under way end with an error. Closing twice does no harm."""
        if os.getpid() != self._process:
            return
        with self._changed:
            self._end = self._end or MotetError("the LLM was closed")
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def step(self) -> None:
        """Compute one batch and hand out what it gives."""
        step = self._scheduler.schedule()
        if not step.decodes and not step.prefills:
            return
        logits = self._context.decode(step.batch).logits
        for answer, row in zip(step.decodes, logits, strict=False):
            self._advance(answer, row)
        for prefill in step.prefills:
            self._prefilled(prefill, logits[prefill.rows])

    @contextmanager
    def _open(self) -> Iterator[None]:
        """The lock under which callers hand something in. Raises MotetError if it is too late."""
        if os.getpid() != self._process:
            raise MotetError(
                f"this LLM belongs to process {self._process}, and this is its fork {os.getpid()}",
                hint="make the LLM after the fork, in the process that uses it",
            )
        with self._changed:
            if self._end is not None:
                raise self._end
            yield
            self._changed.notify()

    def _change(self, context: Context, longest: int, file: state.File | None) -> dict[str, str]:
        self._require_rest()
        scheduler, notes = self._schedule(context), {}
        if file is not None:
            notes = state.restore(context, scheduler.sequences, file, longest)
        with self._changed:
            self._require_rest()
            self._context, self._scheduler, self.longest = context, scheduler, longest
        return notes

    def _require_rest(self) -> None:
        """Raise MotetError while there is anything to answer."""
        if self._inbox or self._scheduler.busy:
            raise MotetError(
                "answers are under way, and the context can't be changed",
                hint="wait until they have ended",
            )

    def _between_steps(self, work: Callable[[], Any]) -> Any:
        """Let the engine thread do ``work``; what it returns, or the MotetError it ends with."""
        job = _Job(work)
        with self._open():
            self._jobs.append(job)
        return job.outcome.result()

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._scheduler.drop_cancelled()
                while self._jobs:
                    self._jobs[0].do()
                    self._jobs.popleft()
                try:
                    self.step()
                except Exception as error:
                    for request in list(self._scheduler.running):
                        self._fail(request, error)
        except BaseException as error:
            self._end = _for_people(error)
        with self._changed:
            assert self._end is not None
            for request in (*self._scheduler.running, *self._scheduler.waiting, *self._inbox):
                request.outputs.put(self._end)
            for job in self._jobs:
                job.outcome.set_exception(self._end)

    def _wait_for_work(self) -> bool:
        """Take what callers have queued, once there is anything to do; False at the end."""
        with self._changed:
            while not (self._inbox or self._jobs or self._scheduler.busy or self._end):
                self._changed.wait()
            self._scheduler.waiting.extend(self._inbox)
            self._inbox.clear()
            return self._end is None

    def _prefilled(self, prefill: Prefill, logits: np.ndarray) -> None:
        request = prefill.request
        start, request.prefilled = request.prefilled, prefill.stop
        try:
            if request.scores_prompt:
                request.score(logits, start)
            self._scheduler.checkpoint(request)
            if request.prefilled == len(request.prompt):
                self._scheduler.fork(request)
                for answer in list(request.answers):
                    answer.begin(logits[-1])
                    self._release_if_done(answer)
        except Exception as error:
            self._fail(request, error)

    def _advance(self, answer: Answer, row: np.ndarray) -> None:
        if answer.request.cancelled:
            return
        try:
            answer.advance(row)
            self._release_if_done(answer)
        except Exception as error:
            self._fail(answer.request, error)

    def _release_if_done(self, answer: Answer) -> None:
        if answer.completion:
            self._scheduler.release(answer)

    def _fail(self, request: Request, error: Exception) -> None:
        request.cancelled = True
        request.outputs.put(_for_people(error))
        self._scheduler.drop(request, keep=False)


def _for_people(error: BaseException) -> MotetError:
    if isinstance(error, MotetError):
        return error
    wrapped = MotetError(f"the engine failed: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
