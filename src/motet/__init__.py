"""Motet runs language models on ordinary machines: many sequences at once, each exact to the bit.

``Model`` and ``LLM`` are imported on first use, so that ``import motet`` stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from motet.errors import (
    BatchError,
    BusyError,
    CannotRewind,
    CapacityError,
    ContextLengthError,
    ConversationBusy,
    HubError,
    LLMClosed,
    ModelFileError,
    MotetError,
    NumericalError,
    OptionError,
    StateFileError,
    TimedOut,
    TokenizerError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from motet.async_llm import AsyncLLM, AsyncStream
    from motet.batch import Batch
    from motet.chat_formats import ToolCall, ToolCallDelta
    from motet.context import Context
    from motet.conversion.convert import convert
    from motet.conversion.quantize import quantize
    from motet.conversion.report import Conversion
    from motet.engine import (
        AsyncConversation,
        Chunk,
        Completion,
        Conversation,
        ConversationState,
        Load,
        SlotState,
        Stream,
    )
    from motet.llm import LLM
    from motet.memory import Memory
    from motet.model import Model
    from motet.output import Output
    from motet.packing import pack
    from motet.sampling import Sampling
    from motet.self_extend import AutoExtend, SelfExtend
    from motet.tokenizer import Tokenizer

__version__ = "0.1.0"

_LAZY = {
    "AsyncConversation": "motet.engine",
    "AsyncLLM": "motet.async_llm",
    "AsyncStream": "motet.async_llm",
    "AutoExtend": "motet.self_extend",
    "Batch": "motet.batch",
    "Chunk": "motet.engine",
    "Completion": "motet.engine",
    "Context": "motet.context",
    "Conversation": "motet.engine",
    "ConversationState": "motet.engine",
    "Conversion": "motet.conversion.report",
    "LLM": "motet.llm",
    "Load": "motet.engine",
    "Memory": "motet.memory",
    "Model": "motet.model",
    "Output": "motet.output",
    "Sampling": "motet.sampling",
    "SelfExtend": "motet.self_extend",
    "SlotState": "motet.engine",
    "Stream": "motet.engine",
    "Tokenizer": "motet.tokenizer",
    "ToolCall": "motet.chat_formats",
    "ToolCallDelta": "motet.chat_formats",
    "convert": "motet.conversion.convert",
    "pack": "motet.packing",
    "quantize": "motet.conversion.quantize",
}

__all__ = [
    "LLM",
    "AsyncConversation",
    "AsyncLLM",
    "AsyncStream",
    "AutoExtend",
    "Batch",
    "BatchError",
    "BusyError",
    "CannotRewind",
    "CapacityError",
    "Chunk",
    "Completion",
    "Context",
    "ContextLengthError",
    "Conversation",
    "ConversationBusy",
    "ConversationState",
    "Conversion",
    "HubError",
    "LLMClosed",
    "Load",
    "Memory",
    "Model",
    "ModelFileError",
    "MotetError",
    "NumericalError",
    "OptionError",
    "Output",
    "Sampling",
    "SelfExtend",
    "SlotState",
    "StateFileError",
    "Stream",
    "TimedOut",
    "Tokenizer",
    "TokenizerError",
    "ToolCall",
    "ToolCallDelta",
    "UnsupportedError",
    "convert",
    "pack",
    "quantize",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'motet' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
