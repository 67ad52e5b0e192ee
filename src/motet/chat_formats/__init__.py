"""What chat models write beside text: thoughts and calls of tools, in each template's own form."""

from motet.chat_formats.calls import ToolCall, ToolCallDelta

__all__ = ["ToolCall", "ToolCallDelta"]
