"""Text to ids and back, with the vocabulary and the chat template that a model file brings."""

from motet.tokenizer.decoder import IncrementalDecoder
from motet.tokenizer.reading import from_gguf
from motet.tokenizer.tokenizer import Tokenizer

__all__ = ["IncrementalDecoder", "Tokenizer", "from_gguf"]
