"""Qwen 2 to 3 (Yang et al. 2024, 2025, arXiv 2407.10671, 2505.09388): Llama and a little more."""

from dataclasses import replace

from motet.models.config import AttentionConfig, read_attention
from motet.models.keys import MAX_WIDTH, Keys
from motet.models.llama import Llama


class Qwen2(Llama):
    """The ``qwen2`` architecture: biases on q, k and v, and rows as Hugging Face has them."""

    pairing = "neox"

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> AttentionConfig:
        """The settings. GGUF does not say which layers would slide, so a window is refused."""
        return read_attention(keys, n_vocab)


class Qwen3(Qwen2):
    """The ``qwen3`` architecture: norms on each head's query and key instead of biases."""

    qk_norms = True
    yes_or_no = True  # rerankers answer by the head's rows of "yes" and "no"


class Qwen3Moe(Qwen3):
    """The ``qwen3moe`` architecture: experts, each of a width of its own."""

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> AttentionConfig:
        """The settings."""
        config = read_attention(keys, n_vocab, experts=True)
        width = keys.integer("expert_feed_forward_length", 1, MAX_WIDTH, config.d_ff)
        return replace(config, d_ff=width)
