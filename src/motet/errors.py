"""Every error a user of Motet can meet."""

_SHOWN = 80
"""Characters of a value that an error shows."""


def shown(value: object) -> str:
    """A value as an error shows it: of what is long, the beginning."""
    try:
        text = _shown(value)
    except RecursionError:
        text = "nested too deeply to be shown"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _shown(value: object) -> str:
    if isinstance(value, list):
        items: list[object] = value
        text = repr(items[:_SHOWN])
        return text[:-1] + ", ...]" if len(items) > _SHOWN else text
    return repr(value[: 2 * _SHOWN] if isinstance(value, str | bytes) else value)


class MotetError(Exception):
    """What was wrong, with the value and the place; ``hint`` says what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class OptionError(MotetError):
    """An argument, option or environment variable has a value that Motet cannot use."""


class ModelFileError(MotetError):
    """A model file is malformed, truncated or contradicts itself."""


class StateFileError(MotetError):
    """A state file is damaged, is none, or is of another model or of other settings."""


class HubError(MotetError):
    """A model on the hub, or in its cache, can't be had: it isn't there, isn't open, or the hub is
    out of reach."""


class UnsupportedError(MotetError):
    """A sound model file asks for something that Motet does not do."""


class TokenizerError(MotetError):
    """A vocabulary or chat template is unusable, or text cannot be tokenized with it."""


class BatchError(MotetError):
    """A batch contradicts itself or the memory; ``entry`` is the offending entry, if one is."""

    def __init__(self, message: str, *, entry: int | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.entry = entry


class CapacityError(MotetError):
    """More was asked for than the context or the machine holds; nothing was changed."""


class ContextLengthError(CapacityError):
    """A prompt of so many ``tokens`` is too long for a context that holds ``limit``."""

    def __init__(self, message: str, *, tokens: int, limit: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.tokens = tokens
        self.limit = limit


class BusyError(CapacityError):
    """As many requests wait as may; in ``retry_after`` seconds there may be room for another."""

    def __init__(self, message: str, *, retry_after: float, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class TimedOut(MotetError):
    """A request took longer than its ``timeout`` allows, and was ended."""


class LLMClosed(MotetError):
    """The LLM was closed; answers that were under way ended with this."""


class ConversationBusy(MotetError):
    """A conversation, or a sequence, is in use: an answer is under way, or it is being saved."""


class CannotRewind(MotetError):
    """``position`` can't be reached exactly; ``nearest`` is the closest earlier one that can."""

    def __init__(
        self, message: str, *, seq: int, position: int, nearest: int, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.seq = seq
        self.position = position
        self.nearest = nearest


class NumericalError(MotetError):
    """A value left the range of the type that has to hold it, or is not a number.

    ``entries``: of a batch, those whose logits are concerned, where that is known.
    """

    def __init__(self, message: str, *, entries: tuple[int, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.entries = entries
