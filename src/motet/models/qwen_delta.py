"""Qwen 3 Next and Qwen 3.5 (Qwen Team 2025, 2026): Gated DeltaNet, and attention with a gate."""

from dataclasses import dataclass, replace

from motet.kernels.interface import Kernels
from motet.kernels.routing import Routing
from motet.models.config import (
    MAX_LAYERS,
    HeadsConfig,
    RotaryConfig,
    read_heads,
    read_kv_heads,
    read_sizes,
)
from motet.models.decoder import Decoder
from motet.models.delta import DeltaSizes, GatedDeltaNet
from motet.models.experts import Mixture, feed_forward
from motet.models.keys import MAX_HEADS, MAX_WIDTH, Keys
from motet.models.layers import Attention, Block
from motet.models.rope import make_rope, read_rope
from motet.models.tensors import TensorReader


@dataclass(frozen=True, kw_only=True)
class QwenDeltaConfig(HeadsConfig, RotaryConfig):
    """Layers by the delta rule and attention layers mixed."""

    n_kv_heads: int
    recurrent: tuple[bool, ...]
    """Which layers are by the delta rule."""
    delta: DeltaSizes
    mixture: Mixture | None


class Qwen3Next(Decoder[QwenDeltaConfig]):
    """The ``qwen3next`` architecture: experts, and one that every token goes to, with a gate."""

    tiled = False

    def __init__(self, config: QwenDeltaConfig, tensors: TensorReader, kernels: Kernels) -> None:
        rope = make_rope(config.rope, "neox")

        def block(t: TensorReader, i: int) -> Block:
            if config.recurrent[i]:
                mixer = GatedDeltaNet(t, kernels, i, config, config.delta, tiled=self.tiled)
            else:
                mixer = Attention(
                    t, kernels, i, config, config.n_kv_heads, rope=rope, qk_norms=True, gated=True
                )
            feed = feed_forward(t, kernels, config, config.mixture, i)
            return Block(t, kernels, config, mixer, feed, ffn_norm="post_attention_norm")

        super().__init__(config, tensors, kernels, block)
        tensors.skip_blocks(config.n_layers, config.draft_layers)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> QwenDeltaConfig:
        """The settings."""
        return _read_mixture(keys, n_vocab)


class Qwen35(Qwen3Next):
    """The ``qwen35`` architecture: one network, and value heads in another order."""

    tiled = True

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> QwenDeltaConfig:
        """The settings."""
        _read_sections(keys)
        return _read(keys, read_heads(keys, read_sizes(keys, n_vocab, drafts=True)))


class Qwen35Moe(Qwen35):
    """The ``qwen35moe`` architecture: as ``qwen35``, with Qwen 3 Next's experts."""

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> QwenDeltaConfig:
        """The settings."""
        _read_sections(keys)
        return _read_mixture(keys, n_vocab)


def _read_sections(keys: Keys) -> None:
    """Channels that turn with a picture's time, height and width: all are the same in a text."""
    keys.take("rope.dimension_sections", [])


def _read_mixture(keys: Keys, n_vocab: int) -> QwenDeltaConfig:
    keys.integer("expert_count", 1, MAX_WIDTH)
    width = keys.integer("expert_feed_forward_length", 1, MAX_WIDTH)
    keys.take("feed_forward_length", 0)  # of layers without experts, which there are not
    sizes = read_sizes(keys, n_vocab, experts=True, drafts=True)
    mixture = Mixture(
        routing=Routing(sizes.n_experts_used, weights="normalised"),
        d_ff=width,
        shared_d_ff=keys.integer("expert_shared_feed_forward_length", 1, MAX_WIDTH),
        shared_gate=True,
    )
    return replace(_read(keys, read_heads(keys, sizes, d_ff=width)), mixture=mixture)


def _read(keys: Keys, heads: HeadsConfig) -> QwenDeltaConfig:
    if heads.value_dim != heads.head_dim:
        raise keys.wrong("attention.value_length", heads.value_dim, "attention.key_length")
    return QwenDeltaConfig(
        **vars(heads),
        n_kv_heads=read_kv_heads(keys, heads.n_heads),
        rope=read_rope(keys, heads.head_dim, 10000.0),
        recurrent=_read_recurrent(keys, heads.n_layers, heads.draft_layers),
        delta=_read_delta(keys),
        mixture=None,
    )


def _read_recurrent(keys: Keys, n_layers: int, draft_layers: int) -> tuple[bool, ...]:
    interval = keys.integer("full_attention_interval", 1, MAX_LAYERS, 4)
    if keys.has("attention.recurrent_layers"):
        return keys.flags("attention.recurrent_layers", n_layers + draft_layers)[:n_layers]
    return tuple((i + 1) % interval != 0 for i in range(n_layers))


def _read_delta(keys: Keys) -> DeltaSizes:
    heads = keys.integer("ssm.time_step_rank", 1, MAX_HEADS)
    key_heads = keys.integer("ssm.group_count", 1, MAX_HEADS)
    inner = keys.integer("ssm.inner_size", 1, MAX_WIDTH)
    keys.divides("ssm.group_count", key_heads, "ssm.time_step_rank", heads)
    keys.divides("ssm.time_step_rank", heads, "ssm.inner_size", inner)
    return DeltaSizes(
        heads=heads,
        key_heads=key_heads,
        key_dim=keys.integer("ssm.state_size", 1, MAX_WIDTH),
        value_dim=inner // heads,
        taps=keys.integer("ssm.conv_kernel", 2, MAX_WIDTH),
    )
