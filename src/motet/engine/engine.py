"""The thread that owns a context: schedule, decode, hand out, until it is closed."""

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from motet.context import Context
from motet.engine import state
from motet.engine.embedding import Embedder, VectorRequest
from motet.engine.job import Job
from motet.engine.keeping import Keeping, Now
from motet.engine.load import Admission, Load, Totals
from motet.engine.masks import Masks
from motet.engine.pace import STEP_SECONDS, Pace
from motet.engine.proposing import Proposing
from motet.engine.request import Request, as_motet_error, end_late, hand_out
from motet.engine.scheduler import Scheduler
from motet.engine.stepping import Stepping
from motet.errors import LLMClosed, MotetError
from motet.memory.export import Export
from motet.self_extend import AutoExtend, SelfExtend
from motet.state import Loaded, StateFile, encoded

Result = TypeVar("Result")

_SAVING_WAIT = 0.02
"""Seconds after which requests that wait for sequences being saved look again: whoever saves tells
nobody when it is done, for it may be interrupted anywhere."""


class Engine:
    """Runs requests of any number of threads in shared batches.

    A failure of one request reaches its caller and no other; a failure of the batch reaches every
    caller in it. Nobody is left waiting.
    """

    def __init__(
        self,
        context: Context,
        context_length: int,
        prefix_reuse: bool,
        embedder: Embedder,
        max_waiting: int | None = None,
        step_seconds: float = STEP_SECONDS,
        proposing: Proposing | None = None,
    ) -> None:
        """``context_length``: tokens that a sequence holds at most; ``max_waiting``,
        ``step_seconds``: see ``LLM``. ``proposing``: how tokens are proposed, if they are."""
        self.context_length = context_length
        self.max_sequences = context.max_sequences
        self.rewinds_anywhere = context.memory.rewinds_anywhere
        """Whether memory needs no checkpoints."""
        self.speculates = proposing is not None
        """Whether tokens are proposed."""
        self._context = context
        self._prefix_reuse = prefix_reuse
        self._totals = Totals()
        self._admission = Admission(context.max_sequences, max_waiting, self._totals)
        self._pace = Pace(step_seconds)
        self._speculation = proposing and proposing.begin(self._pace, context.model.config.n_vocab)
        self._masks = Masks()
        self._scheduler, self._stepping = self._driving(context)
        self._embedder = embedder
        self._kv_bytes_used = 0
        self.keeping = Keeping(
            self._between_steps,
            self.require_open,
            lambda: Now(self._context, self.context_length, self._scheduler),
        )
        self._inbox: list[Request] = []
        self._jobs: deque[Job] = deque()
        self._lock = threading.RLock()
        """Callers enter it, not the condition, before whose ``__exit__`` Ctrl-C could come."""
        self._changed = threading.Condition(self._lock)
        self._ended: MotetError | None = None
        """Why nothing further is taken; guarded by ``_lock``, as the inbox and the jobs are."""
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name="motet-engine", daemon=True)
        self._thread.start()

    def submit(self, requests: list[Request]) -> None:
        """Queue requests, next to each other.

        Raises MotetError when the engine has ended, BusyError when too much waits already.
        """

        def add() -> None:
            if any(len(r.prompt) + r.token_limit > self.context_length for r in requests):
                raise MotetError("the context became shorter meanwhile", hint="ask again")
            self._admission.require_room(self._unfinished, sum(r.unfinished for r in requests))
            for request in requests:
                if request.kept is not None:
                    request.kept.claim(request)
            self._inbox.extend(requests)

        self._hand_in(add)

    def require_possible(self, answers: int) -> None:
        """Raise CapacityError for more answers in one call than there is ever room for."""
        self._admission.require_possible(answers)

    def _unfinished(self) -> int:
        """Answers that somebody waits for."""
        scheduler = self._scheduler
        asked = {*self._inbox, *scheduler.waiting, *list(scheduler.running)}
        return sum(request.unfinished for request in asked)

    def embed(self, request: VectorRequest) -> None:
        """Queue texts. Raises what ``submit`` does."""

        def add() -> None:
            self._admission.require_turn(self._embedder.count)
            self._embedder.add(request)

        self._hand_in(add)

    def load(self) -> Load:
        """See ``LLM.load``; nothing is waited for."""
        scheduler, memory = self._scheduler, self._context.memory
        return Load(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting) + len(self._inbox),
            vector_requests=self._embedder.count,
            sequences_used=scheduler.sequences_used,
            sequences=self.max_sequences,
            kv_bytes_used=self._kv_bytes_used,
            kv_bytes=memory.kv_bytes,
            total=replace(self._totals),
        )

    def require_open(self) -> None:
        """Raise MotetError when the engine has ended."""
        self._hand_in(lambda: None)

    @property
    def status(self) -> str:
        """What the engine does, in a few words."""
        if self._ended is not None:
            return "closed"
        now = self.load()
        return f"{now.running + now.vector_requests} requests running, {now.waiting} waiting"

    @property
    def self_extend(self) -> SelfExtend | AutoExtend | None:
        """Of the context."""
        return self._context.self_extend

    def change(
        self, context: Context, context_length: int, file: StateFile | None = None
    ) -> dict[str, str]:
        """Go on with another context, and with what ``file`` has; returns its notes.

        Raises MotetError while answers are under way, and what ``restore`` does; then nothing has
        changed.
        """
        self._between_steps(self._require_idle)
        scheduler, stepping = self._driving(context)
        notes = dict[str, str]()
        if file is not None:
            found = state.contents_in(context, file)
            found = state.contents_for(context, found, context_length)
            state.fill_new(context, scheduler.sequences, found)
            notes = found.notes
        self._between_steps(lambda: self._change(context, context_length, scheduler, stepping))
        return notes

    def save(self, file: state.File, notes: Mapping[str, str] | None, notes_only: bool) -> None:
        """Write the prefix cache; see ``LLM.save``."""
        text = encoded(notes or {})
        context, export = self._between_steps(lambda: self._export(notes_only))
        state.write(file, context, export, text)

    def restore(self, file: StateFile) -> dict[str, str]:
        """Read what was saved into the prefix cache; see ``LLM.restore``."""
        context, length = self._between_steps(lambda: (self._context, self.context_length))
        found = state.contents_for(context, state.contents_in(context, file), length)
        self._between_steps(
            lambda: self._scheduler.sequences.least_recent(len(found.saved.sequences))
        )  # which refuses too many before all is read
        loaded = found.load(context.memory)
        self._between_steps(lambda: self._fill(context, loaded))
        return found.notes

    def notes(self, file: state.File) -> dict[str, str]:
        """Of a state file; see ``LLM.notes``."""
        return self._context.notes(file)

    def forget(self) -> None:
        """Empty the prefix cache; see ``LLM.forget``."""

        def work() -> None:
            self._scheduler.sequences.forget()
            self._embedder.trim()
            if self._speculation is not None:
                self._speculation.forget()

        self._between_steps(work)

    def held(self) -> list[int]:
        """Tokens in each sequence of the prefix cache; see ``LLM.held``."""
        return self._between_steps(
            lambda: [self._context.memory.length(seq) for seq in self._scheduler.sequences.idle]
        )

    def close(self) -> None:
        """End the thread; answers under way end with an error. Closing twice does no harm."""
        if os.getpid() != self._process:
            return
        with self._lock:
            self._ended = self._ended or LLMClosed("the LLM was closed")
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def require_process(self) -> None:
        """Raise MotetError in a fork, where the engine thread is not."""
        if os.getpid() != self._process:
            raise MotetError(
                f"this LLM belongs to process {self._process}, and this is its fork {os.getpid()}",
                hint="make the LLM after the fork, in the process that uses it",
            )

    def _hand_in(self, add: Callable[[], object]) -> None:
        """Let ``add`` queue something. Raises MotetError if it is too late."""
        self.require_process()
        with self._lock:
            if self._ended is not None:
                raise self._ended
            add()
            # All: a notify that Ctrl-C ended leaves a waiter behind, which the next would notify.
            self._changed.notify_all()

    def _driving(self, context: Context) -> tuple[Scheduler, Stepping]:
        """What chooses and computes steps in a context."""
        speculation, pace, totals = self._speculation, self._pace, self._totals
        scheduler = Scheduler(context, self._prefix_reuse, pace, totals, speculation)
        return scheduler, Stepping(
            context, scheduler, self._masks, pace, self._admission, totals, speculation
        )

    def _change(
        self, context: Context, context_length: int, scheduler: Scheduler, stepping: Stepping
    ) -> None:
        with self._lock:
            self._require_idle()
            self._context, self._scheduler, self._stepping = context, scheduler, stepping
            self.context_length = context_length

    def _export(self, notes_only: bool) -> tuple[Context, Export]:
        """What idle sequences hold, and of which context."""
        seqs = [] if notes_only else self._scheduler.sequences.idle
        with self._context.memory.exclusive():
            return self._context, self._context.memory.export(seqs)

    def _fill(self, context: Context, loaded: Loaded) -> None:
        if context is not self._context:
            raise MotetError("the context was changed meanwhile", hint="ask again")
        sequences = self._scheduler.sequences
        seqs = sequences.least_recent(len(loaded.saved.sequences))
        state.fill(context, sequences, loaded, seqs)

    def _require_idle(self) -> None:
        """Raise MotetError while there is anything to answer."""
        if self._inbox or self._scheduler.busy:
            raise MotetError(
                "answers are under way, and the context can't be changed",
                hint="wait until they have ended",
            )
        if self.keeping.open:
            raise MotetError(
                "conversations are open, and the context can't be changed", hint="close them"
            )

    def _between_steps(self, work: Callable[[], Result]) -> Result:
        """Let the engine thread do ``work``; what it returns, or the MotetError it ends with."""
        job = Job(work)
        try:
            self._hand_in(lambda: self._jobs.append(job))
            result, error = job.outcome.get()
        except BaseException:
            job.abandoned = True
            raise
        if error is not None:
            raise error
        return result

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                asked = (*self._scheduler.running, *self._scheduler.waiting)
                self._totals.timed_out += end_late(asked)
                self._scheduler.drop_cancelled()
                while self._jobs:
                    self._jobs[0].do()
                    self._jobs.popleft()
                self.keeping.sweep()
                try:
                    self._stepping.step(self._wait, self.keeping.explained)
                except Exception as error:
                    for request in list(self._scheduler.running):
                        self._stepping.fail(request, error)
                self._embedder.step(self._totals, self._scheduler.writing)
                self._kv_bytes_used = self._context.memory.used_bytes
        except BaseException as error:
            self._ended = as_motet_error(error)
        self._masks.close()
        if self._speculation is not None:
            self._speculation.close()
        with self._lock:
            assert self._ended is not None
            requests = (*self._scheduler.running, *self._scheduler.waiting, *self._inbox)
        for request in (*requests, *self._embedder.requests):
            hand_out(request, self._ended)  # without the lock, for sinks are callers' code
        for job in self._jobs:
            job.refuse(self._ended)

    def _wait_for_work(self) -> bool:
        """Take what callers have queued, once there is anything to do; False at the end."""
        with self._lock:
            while not (self._inbox or self._jobs or self._ended or self._ready()):
                self._wait(forever=not self._scheduler.busy)
            self._scheduler.waiting.extend(self._inbox)
            self._inbox.clear()
            return self._ended is None

    def _ready(self) -> bool:
        if self._embedder.busy or self.keeping.due:
            return True
        return self._scheduler.busy and not self._scheduler.blocked

    def _wait(self, *, forever: bool = False) -> None:
        """Until something is handed in, or a little while, in which something may be saved."""
        with self._lock:
            self._changed.wait(None if forever else _SAVING_WAIT)
