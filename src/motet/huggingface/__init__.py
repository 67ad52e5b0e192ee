"""Hugging Face directories: config.json, safetensors and a tokenizer, under GGUF's names."""

from motet.huggingface.adapter import AdapterDirectory
from motet.huggingface.directory import HuggingFaceDirectory

__all__ = ["AdapterDirectory", "HuggingFaceDirectory"]
