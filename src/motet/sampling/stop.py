"""Stop strings on streamed text: nothing that may become part of one is let out."""

from collections.abc import Sequence

from motet import checks


class StopStrings:
    """Passes text on until one of ``stops`` appears; ``found`` is that one, None before.

    The result does not depend on how the text was cut into pieces: the stop string that is complete
    first wins, of two that end together the longer.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = checks.texts("stops", stops, "a stop string")
        self.found: str | None = None
        self._held = ""

    def push(self, text: str) -> str:
        """The part of the text so far that is now known to stand before any stop string."""
        if self.found is not None:
            return ""
        text = self._held + text
        matches = [(start + len(stop), start, stop) for stop, start in self._find(text)]
        if matches:
            _, start, self.found = min(matches)
            self._held = ""
            return text[:start]
        held = max((_overlap(text, stop) for stop in self.stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """What was held back, once the text has ended."""
        held, self._held = self._held, ""
        return held

    def _find(self, text: str) -> list[tuple[str, int]]:
        return [(stop, start) for stop in self.stops if (start := text.find(stop)) >= 0]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that begins ``stop`` without completing it."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
