"""SmolLM3 (Hugging Face 2025): Llama, a quarter of whose layers know no positions (NoPE)."""

from motet.models.config import AttentionConfig, read_attention
from motet.models.keys import Keys
from motet.models.llama import Llama


class SmolLM3(Llama):
    """The ``smollm3`` architecture: layer i is rotated unless (i + 1) % 4 == 0."""

    no_rope_every = 4

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> AttentionConfig:
        """The settings."""
        return read_attention(keys, n_vocab)
