"""Attention in layers of two kinds: those that see everything, and those that slide."""

from collections.abc import Callable
from typing import Literal

from motet.kernels.interface import Kernels
from motet.models.config import AttentionConfig
from motet.models.layers import Attention
from motet.models.rope import make_rope
from motet.models.tensors import TensorReader


def alternating(
    config: AttentionConfig,
    kernels: Kernels,
    *,
    qk_norms: bool | Literal["all"] = False,
    biases: bool = False,
    sinks: bool = False,
) -> Callable[[TensorReader, int], Attention]:
    """Makes the attention of layer i of its tensors: with the window, and the rotary embedding,
    of its kind. ``qk_norms``, ``biases``, ``sinks``: as for ``Attention``."""
    rope = make_rope(config.rope, "neox")
    sliding_rope = make_rope(config.sliding_rope, "neox") if config.sliding_rope else rope

    def attention(t: TensorReader, i: int) -> Attention:
        slides = config.sliding[i]
        return Attention(
            t,
            kernels,
            i,
            config,
            config.n_kv_heads,
            rope=sliding_rope if slides else rope,
            window=config.window if slides else 0,
            softcap=config.attention_softcap,
            qk_norms=qk_norms,
            biases=biases,
            sinks=sinks,
        )

    return attention
