"""What every sequence remembers, and the operations on it."""

from motet.memory.memory import Memory

__all__ = ["Memory"]
