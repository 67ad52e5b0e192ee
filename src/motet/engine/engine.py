"""The thread that owns a context: schedule, run, postprocess, until it is closed."""

import os
import threading

import numpy as np

from motet.context import Context
from motet.engine.answer import Answer
from motet.engine.request import Request
from motet.engine.scheduler import Prefill, Scheduler
from motet.errors import MotetError


class Engine:
    """Runs requests of any number of threads in shared batches.

    A failure of one request reaches its caller and no other; a failure of the batch reaches every
    caller in it. Nobody is left waiting.
    """

    def __init__(self, context: Context, max_sequences: int, ubatch: int, n_vocab: int) -> None:
        self._context = context
        self._scheduler = Scheduler(context, max_sequences, ubatch, n_vocab)
        self._inbox: list[Request] = []
        self._changed = threading.Condition()
        self._end: MotetError | None = None
        """Why no further request is taken; guarded by ``_changed``, as ``_inbox`` is."""
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name="motet-engine", daemon=True)
        self._thread.start()

    def submit(self, requests: list[Request]) -> None:
        """Queue requests, next to each other. Raises MotetError when the engine has ended."""
        if os.getpid() != self._process:
            raise MotetError(
                f"this LLM belongs to process {self._process}, and this is its fork {os.getpid()}",
                hint="make the LLM after the fork, in the process that uses it",
            )
        with self._changed:
            if self._end is not None:
                raise self._end
            self._inbox.extend(requests)
            self._changed.notify()

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

    def _run(self) -> None:
        try:
            while self._wait_for_work():
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

    def _wait_for_work(self) -> bool:
        """Take what callers have queued, once there is anything to do; False at the end."""
        with self._changed:
            while not (self._inbox or self._scheduler.busy or self._end):
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
        self._scheduler.drop(request)


def _for_people(error: BaseException) -> MotetError:
    if isinstance(error, MotetError):
        return error
    wrapped = MotetError(f"the engine failed: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
