"""T5 (Raffel et al. 2020, arXiv 1910.10683), T5 1.1, Flan-T5, UMT5: an encoder and a decoder that
attends to its output; and T5's encoder alone.

RMS norms before each part, scores without a scale, and a learned bias by distance.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from motet.arrays import Float32, Int32, Int64
from motet.kernels.bias import PositionBias
from motet.kernels.interface import Kernels
from motet.models.bias import relative_buckets
from motet.models.config import MAX_LAYERS, HeadsConfig, read_heads, read_sizes
from motet.models.encoder import EncoderAttention
from motet.models.family import View, Whole
from motet.models.keys import Keys
from motet.models.layers import MLP, Attention, Block, FeedForward, GatedMLP
from motet.models.pooled_heads import read_classifier
from motet.models.tensors import EMBEDDING, OUTPUT, TensorReader
from motet.spec import CrossAttention

_MAX_BUCKETS = 255
"""More would reach beyond the distance from which on all share one."""


@dataclass(frozen=True, kw_only=True)
class T5Config(HeadsConfig):
    """``n_layers``: those of the encoder and, after them, those of the decoder."""

    n_encoder_layers: int
    buckets: int
    """Kinds of distances, each of which has a bias for each head."""

    @property
    def positional(self) -> str:
        return "relative"


class T5Encoder:
    """The ``t5encoder`` architecture, and the first half of ``t5``."""

    def __init__(self, config: T5Config, tensors: TensorReader, kernels: Kernels) -> None:
        self.config = config
        self.kernels = kernels
        d = config.d_model
        self.token_embd = tensors.matrix(EMBEDDING, config.n_vocab, d)
        self.encoder_norm = tensors.array("enc.output_norm.weight", d)
        self.pooled_heads = read_classifier(tensors, kernels, d)
        bias = _biases(tensors, config, "enc", both=True)

        def block(i: int) -> Block:
            t = tensors.block(i, "enc")
            attention = EncoderAttention(
                t, kernels, config, config.n_heads, bias=bias(i), output="attn_o"
            )
            return Block(t, kernels, config, attention, _feed_forward(t, kernels, config))

        self.blocks: list[Any] = [block(i) for i in range(config.n_encoder_layers)]
        self.caches = ((),) * config.n_encoder_layers

    @property
    def encoder_blocks(self) -> list[Any]:
        """The first of ``blocks``."""
        return self.blocks[: self.config.n_encoder_layers]

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> T5Config:
        """The settings; the decoder's stand beside the encoder's, of which it may be alone."""
        keys.take("attention.layer_norm_epsilon", 0.0)  # the converter writes both
        sizes = read_sizes(keys, n_vocab, causal=keys.architecture == "t5")
        heads = read_heads(keys, sizes)
        keys.only("attention.head_count_kv", heads.n_heads, "heads that share keys and values")
        return T5Config(
            **vars(replace(heads, attention_scale=1.0)),
            n_encoder_layers=heads.n_layers,
            buckets=keys.integer("attention.relative_buckets_count", 4, _MAX_BUCKETS),
        )

    def encode(self, tokens: Int32, view: Whole, wanted: Int64 | None) -> Float32:
        """See ``EncoderFamily``."""
        x = self.kernels.embedding(self.token_embd, tokens)
        last = self.encoder_blocks[-1]
        for block in self.encoder_blocks:
            x = block.forward(x, view, wanted if block is last else None)
        return self.kernels.rms_norm(x, self.encoder_norm, self.config.norm_eps)


class T5(T5Encoder):
    """The ``t5`` architecture; ``blocks`` are the encoder's and, after them, the decoder's."""

    def __init__(self, config: T5Config, tensors: TensorReader, kernels: Kernels) -> None:
        super().__init__(config, tensors, kernels)
        d, first = config.d_model, config.n_encoder_layers
        bias = _biases(tensors, config, "dec", both=False)
        self.blocks += [
            DecoderBlock(tensors.block(i, "dec"), kernels, first + i, config, bias(i))
            for i in range(config.n_layers - first)
        ]
        self._cross = [block.cross for block in self.decoder_blocks]
        self.caches = (*self.caches, *(block.caches for block in self.decoder_blocks))
        self.output_norm = tensors.array("dec.output_norm.weight", d)
        output = tensors.optional_matrix(OUTPUT, config.n_vocab, d)
        self.output = output or self.token_embd
        # A head that is the embedding takes states divided by √d, as Mesh TensorFlow trained it.
        self._head_scale = d**-0.5 if output is None else 1.0

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> T5Config:
        """The settings. The decoder has as many layers as the encoder where no key says else."""
        config = T5Encoder.read_config(keys, n_vocab)
        encoder = config.n_encoder_layers
        decoder = keys.integer("decoder_block_count", 1, MAX_LAYERS, encoder)
        start = keys.integer("decoder_start_token_id", 0, n_vocab - 1)
        return replace(config, n_layers=encoder + decoder, decoder_start=start)

    def remember(self, states: Float32, view: View) -> None:
        """See ``EncoderDecoderFamily``."""
        for cross in self._cross:
            cross.remember(states, view)

    @property
    def decoder_blocks(self) -> list[Any]:
        """The rest of ``blocks``."""
        return self.blocks[self.config.n_encoder_layers :]

    def forward(self, tokens: Int32, view: View, wanted: Int64) -> Float32:
        """See ``DecoderFamily``."""
        x = self.kernels.embedding(self.token_embd, tokens)
        last = self.decoder_blocks[-1]
        for block in self.decoder_blocks:
            x = block.forward(x, view, wanted if block is last else None)
        return self.kernels.rms_norm(x, self.output_norm, self.config.norm_eps)

    def head(self, hidden: Float32) -> Float32:
        """Logits ``[R, n_vocab]`` of what ``forward`` gave."""
        (logits,) = self.kernels.linear(hidden, self.output)
        if self._head_scale != 1.0:
            logits *= self._head_scale
        return logits


class DecoderBlock:
    """A layer that attends to the tokens before, then to what was encoded, then sees each token."""

    def __init__(
        self, t: TensorReader, kernels: Kernels, layer: int, config: T5Config, bias: PositionBias
    ) -> None:
        d = config.d_model
        self._kernels, self._eps = kernels, config.norm_eps
        self.attn_norm = t.array("attn_norm.weight", d)
        self.attention = Attention(
            t, kernels, layer, config, config.n_heads, bias=bias, output="attn_o"
        )
        self.cross_attn_norm = t.array("cross_attn_norm.weight", d)
        self.cross = CrossMixer(t, kernels, layer, config, cache=len(self.attention.caches))
        self.ffn_norm = t.array("ffn_norm.weight", d)
        self.feed_forward = _feed_forward(t, kernels, config)
        self.caches = (*self.attention.caches, *self.cross.caches)

    def forward(self, x: Float32, view: View, wanted: Int64 | None) -> Float32:
        """The residual ``[T, d_model]``, which is overwritten, to ``[R, d_model]``."""
        norm, eps = self._kernels.rms_norm, self._eps
        x += self.attention.forward(norm(x, self.attn_norm, eps), view, None)
        h = self.cross.forward(norm(x, self.cross_attn_norm, eps), view, wanted)
        if wanted is not None:
            x = x[wanted]
        x += h
        x += self.feed_forward.forward(norm(x, self.ffn_norm, eps))
        return x


class CrossMixer:
    """Softmax attention over what an encoder made of a text. ``cache``: which of the layer's."""

    def __init__(
        self, t: TensorReader, kernels: Kernels, layer: int, config: T5Config, *, cache: int
    ) -> None:
        d, heads = config.d_model, config.n_heads
        self.caches = (
            CrossAttention(heads, config.head_dim, config.value_dim, config.context_length),
        )
        self._layer, self._cache, self._kernels = layer, cache, kernels
        self._k_shape, self._v_shape = (-1, heads, config.head_dim), (-1, heads, config.value_dim)
        self._scale = config.attention_scale
        self.q = t.matrix("cross_attn_q.weight", heads * config.head_dim, d)
        self.k = t.matrix("cross_attn_k.weight", heads * config.head_dim, d)
        self.v = t.matrix("cross_attn_v.weight", heads * config.value_dim, d)
        self.output = t.matrix("cross_attn_o.weight", d, heads * config.value_dim)
        # The first T5 files have a bias here that was trained for nothing: no score takes it.
        t.optional_array("cross_attn_rel_b.weight", config.buckets, heads)

    def remember(self, states: Float32, view: View) -> None:
        """Write keys and values of an encoder's final states ``[T, d_model]``."""
        k, v = self._kernels.linear(states, self.k, self.v)
        kv = view.cache(self._layer, self._cache)
        self._kernels.store(k.reshape(self._k_shape), v.reshape(self._v_shape), kv)

    def forward(self, h: Float32, view: View, wanted: Int64 | None) -> Float32:
        """``[T, d_model]`` to ``[R, d_model]``."""
        kernels = self._kernels
        (q,) = kernels.linear(h, self.q)
        kv = view.cache(self._layer, self._cache)
        h = kernels.cross_attention(q.reshape(self._k_shape), kv, scale=self._scale)
        return kernels.linear(h if wanted is None else h[wanted], self.output)[0]


def _feed_forward(t: TensorReader, kernels: Kernels, config: T5Config) -> FeedForward:
    """Gated by GELU in its tanh form (T5 1.1), or plain with ReLU (T5)."""
    if t.has("ffn_gate.weight"):
        return GatedMLP(t, kernels, config, "gelu_tanh")
    return MLP(t, kernels, config, "relu")


def _biases(
    tensors: TensorReader, config: T5Config, half: str, *, both: bool
) -> Callable[[int], PositionBias]:
    """The bias of each layer: its own (UMT5), or the first one's."""
    name = "attn_rel_b.weight"
    shape = config.buckets, config.n_heads

    def read(t: TensorReader) -> PositionBias:
        return relative_buckets(t.array(name, *shape), both=both)

    shared = read(tensors.block(0, half))

    def of(i: int) -> PositionBias:
        t = tensors.block(i, half)
        return read(t) if i and t.has(name) else shared

    return of
