"""Gemma 4, text (Google 2026): heads of two sizes, and last layers that keep no keys.

E2B and E4B have per-layer embeddings, 26B-A4B has experts beside each MLP.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from motet.arrays import Float32, Int32, Int64
from motet.kernels.interface import Kernels
from motet.models.config import (
    HeadsConfig,
    RotaryConfig,
    read_heads,
    read_kv_heads_by_layer,
    read_sizes,
)
from motet.models.decoder import Decoder
from motet.models.family import View
from motet.models.gemma4_layers import GELU, Gemma4Block, MLPBesideExperts, NormedAttention
from motet.models.keys import MAX_CONTEXT, MAX_HEAD_WIDTH, MAX_WIDTH, Keys
from motet.models.layers import Block, GatedMLP
from motet.models.per_layer_embeddings import PerLayerEmbeddings, ViewWithInputs
from motet.models.rope import RopeConfig, make_rope, read_rope
from motet.models.shared_kv import every_row, owners
from motet.models.tensors import TensorReader


@dataclass(frozen=True, kw_only=True)
class Gemma4Config(HeadsConfig, RotaryConfig):
    """Heads and rotary embedding are those of layers that see everything, but for what slides."""

    sliding: tuple[bool, ...]
    """Which layers see only the last ``window`` tokens."""
    window: int
    sliding_head_dim: int
    sliding_rope: RopeConfig
    kv_heads: tuple[int, ...]
    owners: tuple[int, ...]
    """The layer whose keys and values each layer reads: see ``shared_kv.owners``."""
    widths: tuple[int, ...]
    """Channels of each layer's MLP."""
    expert_width: int
    """Channels of an expert; 0 where there are none."""
    given: int
    """Numbers that each layer is given of each token; 0 for none."""
    logit_softcap: float

    @property
    def own_layers(self) -> int:
        """How many layers, the first ones, keep keys and values."""
        return sum(owner == layer for layer, owner in enumerate(self.owners))


class Gemma4(Decoder[Gemma4Config]):
    """The ``gemma4`` architecture. Scores are not scaled, norm weights are as they are used."""

    def __init__(self, config: Gemma4Config, tensors: TensorReader, kernels: Kernels) -> None:
        divisors = tensors.array("rope_freqs.weight", config.rope.dimension // 2)
        rope = make_rope(config.rope, "neox", divisors)
        sliding_rope = make_rope(config.sliding_rope, "neox")

        def block(t: TensorReader, i: int) -> Gemma4Block:
            slides = config.sliding[i]
            attention = NormedAttention(
                t,
                kernels,
                i,
                replace(config, head_dim=config.sliding_head_dim) if slides else config,
                config.kv_heads[i],
                rope=sliding_rope if slides else rope,
                window=config.window if slides else 0,
                owner=config.owners[i],
            )
            ffn_norm = "ffn_norm"
            feed = GatedMLP(t, kernels, replace(config, d_ff=config.widths[i]), GELU)
            if config.n_experts:
                feed = MLPBesideExperts(t, kernels, config, feed, config.expert_width)
                ffn_norm = None
            return Gemma4Block(
                t, kernels, config, i, attention, feed, given=config.given, ffn_norm=ffn_norm
            )

        super().__init__(
            config,
            tensors,
            kernels,
            block,
            embedding_scale=math.sqrt(config.d_model),
            logit_softcap=config.logit_softcap,
        )
        given = config.given
        self.per_layer = PerLayerEmbeddings(tensors, kernels, config, given) if given else None

    @property
    def own_blocks(self) -> Sequence[Block]:
        """Layers that keep keys and values."""
        return self.blocks[: self.config.own_layers]

    @property
    def sharing_blocks(self) -> Sequence[Block]:
        """Those after them, which read them."""
        return self.blocks[self.config.own_layers :]

    def forward(self, tokens: Int32, view: View, wanted: Int64) -> Float32:
        """As in ``Decoder``; nor are other rows computed in layers that keep no keys."""
        x = self.embed(tokens, view)
        seen = ViewWithInputs(view, self.per_layer and self.per_layer.inputs(tokens, x))
        last = self.blocks[-1]
        for block in self.own_blocks:
            x = block.forward(x, seen, wanted if block is last else None)
        if not len(wanted):
            return self.output_norm(x[:0])
        if self.sharing_blocks and not every_row(wanted, len(tokens)):
            x, seen = x[wanted], seen.of_rows(self.kernels, wanted)
        for block in self.sharing_blocks:
            x = block.forward(x, seen, None)
        return self.output_norm(x)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> Gemma4Config:
        """The settings."""
        sizes = read_sizes(keys, n_vocab, experts=True)
        layers = sizes.n_layers
        widths = keys.integers("feed_forward_length", layers, 1, MAX_WIDTH)
        heads = read_heads(keys, sizes, d_ff=max(widths))
        swa = keys.integer("attention.key_length_swa", 1, MAX_HEAD_WIDTH)
        for name, size in (("value_length", heads.head_dim), ("value_length_swa", swa)):
            keys.only(f"attention.{name}", size, "values of another size than keys")
        rotated = keys.integer("rope.dimension_count_swa", 2, swa)
        if rotated % 2:
            raise keys.wrong("rope.dimension_count_swa", rotated, f"an even number up to {swa}")
        sliding = keys.flags("attention.sliding_window_pattern", layers)
        kv_heads = read_kv_heads_by_layer(keys, heads, least=1)
        sharing = keys.integer("attention.shared_kv_layers", 0, layers - 1, 0)
        experts = heads.n_experts > 0
        return Gemma4Config(
            **vars(replace(heads, attention_scale=1.0)),
            rope=read_rope(keys, heads.head_dim, None),
            sliding=sliding,
            window=keys.integer("attention.sliding_window", 1, MAX_CONTEXT),
            sliding_head_dim=swa,
            sliding_rope=RopeConfig(keys.positive("rope.freq_base_swa"), rotated),
            kv_heads=kv_heads,
            owners=owners(tuple(zip(sliding, kv_heads, strict=True)), sharing),
            widths=widths,
            expert_width=keys.integer("expert_feed_forward_length", 1, MAX_WIDTH) if experts else 0,
            given=keys.integer("embedding_length_per_layer_input", 0, MAX_WIDTH, 0),
            logit_softcap=keys.positive("final_logit_softcapping", 0.0, or_zero=True),
        )
