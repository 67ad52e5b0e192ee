"""Granite 3 and 4, dense (IBM 2024): Llama with four scales."""

from dataclasses import replace

from motet.models.config import AttentionConfig, read_attention, read_scales
from motet.models.keys import Keys
from motet.models.llama import Llama


class Granite(Llama):
    """The ``granite`` architecture: of embeddings, of what layers add, of scores and of logits."""

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> AttentionConfig:
        """The settings."""
        config = read_attention(keys, n_vocab, experts=True)
        scale = keys.positive("attention.scale", config.attention_scale)
        return replace(config, attention_scale=scale, scales=read_scales(keys))
