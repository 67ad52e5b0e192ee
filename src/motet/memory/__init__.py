"""What the sequences of a context hold, and the operations on it."""

from motet.memory.cache import Limits
from motet.memory.memory import Memory

__all__ = ["Limits", "Memory"]
