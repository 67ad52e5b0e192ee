"""Qwen 2 and 2.5 (Yang et al. 2024, arXiv 2407.10671): Llama with biases on q, k and v."""

from motet.models.config import AttentionConfig, read_attention
from motet.models.keys import Keys
from motet.models.llama import Llama


class Qwen2(Llama):
    """The ``qwen2`` architecture: rows of q and k as Hugging Face has them."""

    pairing = "neox"

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> AttentionConfig:
        """The settings. GGUF does not say which layers would slide, so a window is refused."""
        return read_attention(keys, n_vocab)
