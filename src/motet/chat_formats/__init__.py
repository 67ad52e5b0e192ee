"""What chat models write beside text: thoughts and calls of tools, in each template's own form."""

from motet.chat_formats.calls import ToolCall, ToolCallDelta, joined
from motet.chat_formats.choosing import chat_format
from motet.chat_formats.feed import Content, Reasoning, control
from motet.chat_formats.format import ChatFormat
from motet.chat_formats.forms import Thought
from motet.chat_formats.reader import Reader
from motet.chat_formats.tools import Tool, ToolChoice, read_choice, read_tools

__all__ = [
    "ChatFormat",
    "Content",
    "Reader",
    "Reasoning",
    "Thought",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolChoice",
    "chat_format",
    "control",
    "joined",
    "read_choice",
    "read_tools",
]
