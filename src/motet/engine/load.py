"""How much an engine has to do, and how much it has done."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from motet.errors import BusyError, CapacityError


@dataclass
class Totals:
    """What an engine has done since it was made."""

    steps: int = 0
    """Batches decoded."""
    busy_sequences: int = 0
    """Sequences in each of these batches, added up: divided by ``steps`` it is their average."""
    prompt_tokens: int = 0
    """Tokens of prompts computed, those of preempted requests that were computed again included."""
    cached_tokens: int = 0
    """Tokens of prompts that were in the prefix cache."""
    prefix_queries: int = 0
    """Tokens of prompts that were looked up in the prefix cache."""
    generated_tokens: int = 0
    """Tokens chosen."""
    proposals: int = 0
    """Sequences in steps for which tokens were proposed."""
    proposed_tokens: int = 0
    """Tokens that were computed before they were chosen."""
    accepted_tokens: int = 0
    """Those of them that were chosen."""
    vector_steps: int = 0
    """Batches of texts that vectors or scores were computed of."""
    vector_tokens: int = 0
    """Tokens of texts that vectors or scores were computed of."""
    prompt_seconds: float = 0.0
    """Of the time in steps, the share that prompts took, by how fast either kind of token is."""
    generation_seconds: float = 0.0
    """The rest of it."""
    preemptions: int = 0
    """Requests whose memory was taken for others, so that it is computed again."""
    finished: int = 0
    """Answers that came to their end."""
    timed_out: int = 0
    """Requests that did not within their ``timeout``."""
    refused: int = 0
    """Calls refused because too much was waiting."""


@dataclass(frozen=True)
class Load:
    """What an engine has to do now, and what it has done."""

    running: int
    """Requests that have sequences to write in; each has up to ``n`` answers."""
    waiting: int
    """Those that wait for sequences, or for memory."""
    vector_requests: int
    """Calls of ``embed`` and ``rank`` that are not done."""
    sequences_used: int
    """Sequences that answers are written in."""
    sequences: int
    """All there are, ``max_sequences``."""
    kv_bytes_used: int
    """Bytes of caches that hold something, the prefix cache and checkpoints included, as of the
    last step; those for vectors are not."""
    kv_bytes: int
    """As many as there may be."""
    total: Totals
    """A copy, which no longer changes."""


class Admission:
    """Says how much may wait, and how long it takes until there is room again."""

    def __init__(self, max_sequences: int, max_waiting: int | None, totals: Totals) -> None:
        """``max_waiting``: None for any number."""
        self._sequences = max_sequences
        self._most = max_waiting
        self._totals = totals
        self._ends = deque[float]([0.0], maxlen=64)
        """Seconds spent in steps until the last answers ended."""
        self._spent = 0.0

    def spent(self, seconds: float) -> None:
        """A step took so long."""
        self._spent += seconds

    def ended(self) -> None:
        """An answer came to its end."""
        self._ends.append(self._spent)

    def require_room(self, count: Callable[[], int], more: int) -> None:
        """Raise BusyError where ``more`` answers are too many beside those unfinished, which
        ``count`` gives; CapacityError where they always are."""
        self.require_possible(more)
        if self._most is None:
            return
        room = self._sequences + self._most
        unfinished = count()
        over = unfinished + more - room
        if over > 0:
            raise self._busy(f"{unfinished} answers run or wait, and {room} may", over)

    def require_possible(self, answers: int) -> None:
        """Raise CapacityError where so many answers are always too many."""
        if self._most is not None and answers > self._sequences + self._most:
            raise CapacityError(
                f"{answers} answers in one call, and no more than {self._sequences + self._most}"
                " may run and wait",
                hint="ask for fewer at a time, or make the LLM with more max_waiting",
            )

    def require_turn(self, calls: int) -> None:
        """Raise BusyError where ``calls`` to embed or rank are so many that no other may wait."""
        if self._most is not None and calls > self._most:
            raise self._busy(f"{calls} calls for vectors are not done", 1)

    def _busy(self, what: str, over: int) -> BusyError:
        self._totals.refused += 1
        pace = (self._spent - self._ends[0]) / len(self._ends)
        seconds = min(max(1.0, over * pace), 600.0)
        return BusyError(what, retry_after=seconds, hint=f"try again in {seconds:.0f} seconds")
