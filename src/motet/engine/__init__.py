"""One thread that owns a context and runs every caller's requests in shared batches."""

from motet.engine.completion import Chunk, Completion, Timings, Usage
from motet.engine.engine import Engine
from motet.engine.request import Request

__all__ = ["Chunk", "Completion", "Engine", "Request", "Timings", "Usage"]
