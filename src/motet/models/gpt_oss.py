"""gpt-oss (OpenAI 2025, arXiv 2508.10925): experts, and attention with sinks."""

from dataclasses import replace

from motet.kernels.interface import Kernels
from motet.kernels.routing import Routing
from motet.models.alternating import alternating
from motet.models.config import AttentionConfig, read_attention, read_sliding
from motet.models.decoder import Decoder
from motet.models.experts import MixtureOfExperts
from motet.models.keys import MAX_CONTEXT, MAX_WIDTH, Keys
from motet.models.layers import Block
from motet.models.tensors import TensorReader


class GptOss(Decoder[AttentionConfig]):
    """The ``gpt-oss`` architecture: even layers slide; every product has a bias."""

    def __init__(self, config: AttentionConfig, tensors: TensorReader, kernels: Kernels) -> None:
        attention = alternating(config, kernels, biases=True, sinks=True)
        routing = Routing(config.n_experts_used, scores="logits", weights="softmax")

        def block(t: TensorReader, i: int) -> Block:
            experts = MixtureOfExperts(t, kernels, config, "clamped_swiglu", routing, biases=True)
            mixer = attention(t, i)
            return Block(t, kernels, config, mixer, experts, ffn_norm="post_attention_norm")

        super().__init__(config, tensors, kernels, block)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> AttentionConfig:
        """The settings. YaRN's ramp ends between channels, which no key of the file says."""
        config = read_attention(keys, n_vocab, experts=True)
        if not config.n_experts:
            raise keys.wrong("expert_count", 0, "a number of experts from 1")
        return replace(
            config,
            d_ff=keys.integer("expert_feed_forward_length", 1, MAX_WIDTH, config.d_ff),
            window=keys.integer("attention.sliding_window", 1, MAX_CONTEXT),
            sliding=read_sliding(keys, config.n_layers, 2),
            rope=replace(config.rope, whole_channels=False),
        )
