"""Which format a chat template is of."""

from motet.chat_formats.format import ChatFormat
from motet.chat_formats.forms import find_form, find_thinking
from motet.chat_formats.harmony import HarmonyFormat
from motet.chat_formats.lark import Spelling
from motet.tokenizer import Tokenizer

_HARMONY = "<|start|>assistant", "<|channel|>final<|message|>"


def chat_format(template: str, tokenizer: Tokenizer) -> ChatFormat:
    """The format that the marks of a chat template tell of."""
    spelling = Spelling(tokenizer)
    if all(mark in template for mark in _HARMONY):
        return HarmonyFormat(spelling)
    return ChatFormat(find_thinking(template), find_form(template), spelling)
