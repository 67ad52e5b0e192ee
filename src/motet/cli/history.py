"""What was typed at the chat prompt, kept for the next time."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from prompt_toolkit.history import FileHistory, History, InMemoryHistory


def kept_history(note: Callable[[str], None]) -> History:
    """In the user's state directory; of this session alone where that cannot be, and ``note`` is
    told why."""
    try:
        return _Kept(_history_file(), note)
    except (OSError, RuntimeError) as error:  # the latter where the user has no home
        note(f"the input history is not kept: {error}")
        return InMemoryHistory()


class _Kept(FileHistory):
    """A file that may turn out not to be readable, or not writable."""

    def __init__(self, file: Path, note: Callable[[str], None]) -> None:
        super().__init__(str(file))
        self._note = note
        self._failed = False

    def load_history_strings(self) -> Iterable[str]:
        try:
            return list(super().load_history_strings())
        except OSError as error:
            self._fail(error)
            return []

    def store_string(self, string: str) -> None:
        if self._failed:
            return
        try:
            super().store_string(string)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self._failed = True
        self._note(f"the input history is not kept: {error}")


def _history_file() -> Path:
    """In the XDG state directory, readable by its owner only; OSError where it cannot be made."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    folder = base / "motet"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / "history"
    file.touch(mode=0o600)
    return file
