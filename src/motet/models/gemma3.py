"""Gemma 3, text (Gemma Team 2025, arXiv 2503.19786): five sliding layers to a global one, QK-norm.

Global layers have a rotary base, and a linear stretch, of their own.
"""

from dataclasses import replace

from motet.models.config import AttentionConfig, read_attention, read_sliding
from motet.models.gemma import Gemma, scaled_as_27b
from motet.models.keys import MAX_CONTEXT, Keys
from motet.models.rope import RopeConfig


class Gemma3(Gemma):
    """The ``gemma3`` architecture: layer i sees everything iff (i + 1) % 6 == 0."""

    post_norms = True
    qk_norms = True

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> AttentionConfig:
        """The settings. Without a window no layer slides, as the converter writes such models."""
        config = read_attention(keys, n_vocab, default_rope_base=None)
        config = scaled_as_27b(keys, config, 62)
        window = keys.integer("attention.sliding_window", 0, MAX_CONTEXT, 0)
        local_base = keys.positive("rope.freq_base_swa", 10000.0)
        sliding = read_sliding(keys, config.n_layers, 6)
        return replace(
            config,
            window=window,
            sliding=sliding if window else config.sliding,
            sliding_rope=RopeConfig(local_base, config.rope.dimension) if window else None,
            logit_softcap=keys.positive("final_logit_softcapping", 0.0, or_zero=True),
        )
