"""One thread that owns a context and runs every caller's requests in shared batches."""

from motet.engine.completion import Chunk, Completion, Timings, Usage
from motet.engine.conversations import (
    AnswerState,
    AsyncConversation,
    Conversation,
    ConversationState,
    SlotState,
)
from motet.engine.embedding import Embedder, Slice, VectorRequest, VectorSink
from motet.engine.engine import Engine
from motet.engine.load import Load
from motet.engine.options import GenerationOptions
from motet.engine.request import Request, Sink
from motet.engine.stream import Stream

__all__ = [
    "AnswerState",
    "AsyncConversation",
    "Chunk",
    "Completion",
    "Conversation",
    "ConversationState",
    "Embedder",
    "Engine",
    "GenerationOptions",
    "Load",
    "Request",
    "Sink",
    "Slice",
    "SlotState",
    "Stream",
    "Timings",
    "Usage",
    "VectorRequest",
    "VectorSink",
]
