"""Ministral 3 (Mistral AI 2025): Llama stretched by YaRN, whose scores sharpen beyond its trained
length."""

from dataclasses import dataclass

from motet.models.config import AttentionConfig, read_attention
from motet.models.keys import Keys
from motet.models.layers import Temperature
from motet.models.llama import Llama
from motet.models.rope import rising


@dataclass(frozen=True, kw_only=True)
class Ministral3Config(AttentionConfig):
    """Llama's, with what queries are multiplied by."""

    temperature_scale: float
    """Queries at position p are multiplied by 1 + this · ln(1 + ⌊p ÷ original context⌋)."""


class Ministral3(Llama):
    """The ``mistral3`` architecture."""

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> Ministral3Config:
        """The settings."""
        config = read_attention(keys, n_vocab)
        scale = keys.positive("attention.temperature_scale", 0.0, or_zero=True)
        return Ministral3Config(**vars(config), temperature_scale=scale)

    def temperature(self, config: AttentionConfig) -> Temperature | None:
        """As Llama 4 has it, from the length on that YaRN stretches."""
        assert isinstance(config, Ministral3Config)
        scale, original = config.temperature_scale, config.rope.original_context
        return rising(scale, original) if scale and original else None
