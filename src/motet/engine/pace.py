"""How long steps take, and how much of a prompt fits into one without those who write noticing."""

from collections import deque
from statistics import median

STEP_SECONDS = 0.25
"""What a step may take while anybody writes, unless writing alone takes a good part of it."""

SLOWDOWN = 2.5
"""So many times as long as a step of writing alone a step may take at any rate."""

LEAST = 16
"""Tokens of prompts that any step has room for, so that they go on: fewer save little time."""

_RECENT = 7
"""Steps whose median says how long the next one takes: a few that the system held up don't."""


class Pace:
    """How long recent steps took, and what follows for the next one.

    Time alone depends on it: what a sequence gives is the same for any cut of its prompt.
    """

    def __init__(self, step_seconds: float = STEP_SECONDS) -> None:
        self._target = step_seconds
        self._writing = deque[float](maxlen=_RECENT)
        """Seconds of steps that had no tokens of prompts."""
        self._token = deque[float](maxlen=_RECENT)
        """Seconds that a token of prompts added to a step."""

    @property
    def token_seconds(self) -> float | None:
        """Seconds that a token of prompts adds to a step; None while there was none."""
        return median(self._token) if self._token else None

    def room(self, writing: int, most: int) -> int:
        """Tokens of prompts for a step in which so many answers are written; at most ``most``."""
        if not writing:
            return most
        if not self._token:
            return min(LEAST, most)
        alone, token = self._alone, median(self._token)
        spare = max(self._target, SLOWDOWN * alone) - alone
        return most if spare >= token * most else max(int(spare / token), min(LEAST, most))

    def learn(self, writing: int, prompt: int, seconds: float, proposed: int = 0) -> float:
        """A step with so many answers written and tokens of prompts took so long.

        ``proposed``: tokens in it that answers might go on with. Returns the seconds of it that the
        prompts took.
        """
        if proposed:
            return min(seconds, prompt * (self.token_seconds or 0.0))
        if not prompt:
            self._writing.append(seconds)
            return 0.0
        alone = self._alone or seconds * writing / (writing + prompt)
        alone = min(alone, seconds)
        if prompt >= LEAST or not self._token:
            self._token.append((seconds - alone) / prompt)
        return seconds - alone if writing else seconds

    @property
    def _alone(self) -> float:
        return median(self._writing) if self._writing else 0.0
