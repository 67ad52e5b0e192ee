"""Gemma 2 (Gemma Team 2024, arXiv 2408.00118): sliding layers, soft caps, norms on both sides."""

from dataclasses import replace

from motet.models.config import AttentionConfig, read_attention, read_sliding
from motet.models.gemma import Gemma, scaled_as_27b
from motet.models.keys import MAX_CONTEXT, Keys


class Gemma2(Gemma):
    """The ``gemma2`` architecture: even layers slide, odd ones see everything."""

    post_norms = True

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> AttentionConfig:
        """The settings. Files older than the keys for window and caps mean Gemma 2's own."""
        config = scaled_as_27b(keys, read_attention(keys, n_vocab), 46)
        return replace(
            config,
            window=keys.integer("attention.sliding_window", 1, MAX_CONTEXT, 4096),
            sliding=read_sliding(keys, config.n_layers, 2),
            attention_softcap=keys.positive("attn_logit_softcapping", 50.0),
            logit_softcap=keys.positive("final_logit_softcapping", 30.0),
        )
