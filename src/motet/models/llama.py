"""Llama 1 to 3, Mistral and Mixtral: RMSNorm, rotary attention with grouped heads, SwiGLU.

Touvron et al. 2023 (arXiv 2302.13971, 2307.09288), Grattafiori et al. 2024 (2407.21783), Jiang et
al. 2023 (2310.06825) and 2024 (2401.04088).
"""

from dataclasses import replace

from motet.kernels.interface import Kernels
from motet.kernels.routing import Routing
from motet.models.config import AttentionConfig, read_attention
from motet.models.decoder import Decoder
from motet.models.experts import MixtureOfExperts
from motet.models.keys import MAX_CONTEXT, Keys
from motet.models.layers import Attention, Block, GatedMLP, Temperature
from motet.models.rope import make_rope
from motet.models.tensors import TensorReader


class Llama(Decoder[AttentionConfig]):
    """The ``llama`` architecture. Its converter interleaves the rotary pairs of q and k."""

    pairing = "normal"
    qk_norms = False
    no_rope_every = 0
    """Of so many layers the last one is not rotated; 0: all are."""
    yes_or_no = False
    """Whether a classifier's numbers are shares of 1."""

    def __init__(self, config: AttentionConfig, tensors: TensorReader, kernels: Kernels) -> None:
        divisors = tensors.optional_array("rope_freqs.weight", config.rope.dimension // 2)
        rope = make_rope(config.rope, self.pairing, divisors)

        def block(t: TensorReader, i: int) -> Block:
            attention = Attention(
                t,
                kernels,
                i,
                config,
                config.n_kv_heads,
                rope=None if self.no_rope_every and (i + 1) % self.no_rope_every == 0 else rope,
                window=config.window,
                qk_norms=self.qk_norms,
                biases=True,
                temperature=self.temperature(config),
            )
            if config.n_experts:
                routing = Routing(config.n_experts_used, weights="normalised")
                feed = MixtureOfExperts(t, kernels, config, "silu", routing)
            else:
                feed = GatedMLP(t, kernels, config, "silu", biases=True)
            return Block(t, kernels, config, attention, feed, scale=config.scales.residual)

        super().__init__(
            config,
            tensors,
            kernels,
            block,
            embedding_scale=config.scales.embedding,
            output_bias=True,
            logit_scale=config.scales.logit,
            yes_or_no=self.yes_or_no,
        )

    def temperature(self, config: AttentionConfig) -> Temperature | None:
        """What queries are multiplied by."""
        return None

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> AttentionConfig:
        """The settings; Mistral's sliding window, where the file gives one, is on every layer."""
        config = read_attention(keys, n_vocab, experts=True)
        # Names the layout that the interleaved pairs come from; no other has been written.
        keys.only("tensor_data_layout", "Meta AI original pth", "an unknown order of q and k rows")
        window = keys.integer("attention.sliding_window", 0, MAX_CONTEXT, 0)
        return replace(config, window=window, sliding=(window > 0,) * config.n_layers)
