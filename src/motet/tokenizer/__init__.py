"""Text to ids and back, with the vocabulary and the chat template that a model file brings."""

from motet.tokenizer.decoder import IncrementalDecoder
from motet.tokenizer.tokenizer import Tokenizer, from_gguf

__all__ = ["IncrementalDecoder", "Tokenizer", "from_gguf"]
