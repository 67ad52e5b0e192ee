"""What encoders have in common: attention both ways, blocks normed after each part, the embedding.

T is the number of tokens in a micro-batch of whole sequences, R of the rows wanted of it:
``wanted``, int64 ``[R]``, or None for all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from motet.arrays import Float32, Int32, Int64
from motet.errors import ModelFileError
from motet.kernels.bias import PositionBias
from motet.kernels.interface import Kernels
from motet.kernels.rope import Rope
from motet.models.config import LAYER_EPS, HeadsConfig, read_heads, read_kv_heads, read_sizes
from motet.models.family import Whole
from motet.models.keys import Keys
from motet.models.layers import FeedForward, read_qkv
from motet.models.norms import layer_norm_of_sum, loose_layer_norm
from motet.models.pooled_heads import read_classifier
from motet.models.tensors import EMBEDDING, POSITIONS, TensorReader


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(HeadsConfig):
    """An encoder, whose every layer attends to whole sequences with the same sizes."""

    n_kv_heads: int
    position: str
    """How tokens know where they stand: "learned", "rotary" or "alibi"."""
    pair_separator: int | None = None
    """The token that ends a text: what follows it in a sequence is a second text, of token type 1
    (Devlin et al. 2018, §3); None where all are of type 0."""

    @property
    def positional(self) -> str:
        return self.position


C = TypeVar("C", bound=EncoderConfig)


def read_encoder(keys: Keys, n_vocab: int, position: str) -> EncoderConfig:
    """The keys that encoders of BERT's kind have."""
    heads = read_heads(keys, read_sizes(keys, n_vocab, eps=LAYER_EPS, causal=False))
    key = "classifier.pair_separator_token_id"
    return EncoderConfig(
        **vars(heads),
        n_kv_heads=read_kv_heads(keys, heads.n_heads),
        position=position,
        pair_separator=keys.integer(key, 0, n_vocab - 1) if keys.has(key) else None,
    )


class EncoderAttention:
    """Softmax attention over whole sequences; nothing is kept of them.

    ``window``: tokens farther away are not seen; 0 for all. q, k and v come from three matrices or
    from one, with biases or without. ``qk_norms``: an RMS norm over each head's query and key.
    ``output``: the name of the matrix after them.
    """

    caches = ()

    def __init__(
        self,
        t: TensorReader,
        kernels: Kernels,
        config: HeadsConfig,
        kv_heads: int,
        *,
        rope: Rope | None = None,
        bias: PositionBias | None = None,
        window: int = 0,
        qk_norms: bool = False,
        output: str = "attn_output",
    ) -> None:
        self._kernels = kernels
        self._q_shape = -1, config.n_heads, config.head_dim
        self._k_shape = -1, kv_heads, config.head_dim
        self._v_shape = -1, kv_heads, config.value_dim
        self._scale, self._window = config.attention_scale, window
        self._rope, self._bias, self._eps = rope, bias, config.norm_eps
        d, heads = config.d_model, config.n_heads
        rows = heads * config.head_dim, kv_heads * config.head_dim, kv_heads * config.value_dim
        self.qkv, self.qkv_bias = read_qkv(t, rows, d, fused=t.has("attn_qkv.weight"))
        self.output = t.matrix(f"{output}.weight", d, heads * config.value_dim)
        self.output_bias = t.optional_array(f"{output}.bias", d)
        self.q_norm = t.array("attn_q_norm.weight", config.head_dim) if qk_norms else None
        self.k_norm = t.array("attn_k_norm.weight", config.head_dim) if qk_norms else None

    def forward(self, h: Float32, view: Whole, wanted: Int64 | None) -> Float32:
        """``[T, d_model]`` to ``[R, d_model]``."""
        kernels = self._kernels
        q, k, v = kernels.linear(h, *self.qkv, biases=self.qkv_bias)
        q, k, v = q.reshape(self._q_shape), k.reshape(self._k_shape), v.reshape(self._v_shape)
        if self.q_norm is not None and self.k_norm is not None:
            q = kernels.rms_norm(q, self.q_norm, self._eps)
            k = kernels.rms_norm(k, self.k_norm, self._eps)
        h = kernels.encoder_attention(
            q,
            k,
            v,
            view.starts,
            scale=self._scale,
            window=self._window,
            rope=self._rope,
            bias=self._bias,
        )
        h = h if wanted is None else h[wanted]
        return kernels.linear(h, self.output, biases=(self.output_bias,))[0]


class PostNormBlock:
    """A layer as BERT has it: each part is added to its input, and the sum is normed."""

    caches = ()

    def __init__(
        self,
        t: TensorReader,
        kernels: Kernels,
        config: HeadsConfig,
        attention: EncoderAttention,
        feed_forward: FeedForward,
    ) -> None:
        self.attention = attention
        self.feed_forward = feed_forward
        d, eps = config.d_model, config.norm_eps
        self.attn_output_norm = layer_norm_of_sum(t, kernels, "attn_output_norm", d, eps)
        self.layer_output_norm = layer_norm_of_sum(t, kernels, "layer_output_norm", d, eps)

    def forward(self, x: Float32, view: Whole, wanted: Int64 | None) -> Float32:
        """``[T, d_model]`` to ``[R, d_model]``."""
        h = self.attention.forward(x, view, wanted)
        x = self.attn_output_norm(h, x if wanted is None else x[wanted])
        return self.layer_output_norm(self.feed_forward.forward(x), x)


class EncoderBlock(Protocol):
    """A layer of an encoder."""

    def forward(self, x: Float32, view: Whole, wanted: Int64 | None) -> Float32:
        """``[T, d_model]`` to ``[R, d_model]``."""
        ...


class Encoder(Generic[C]):
    """Embedding of tokens, of their types, and of positions where these are learned; norm; blocks.

    ``block`` makes layer i of its tensors. ``output_norm``: whether a norm follows the last one.
    """

    def __init__(
        self,
        config: C,
        tensors: TensorReader,
        kernels: Kernels,
        block: Callable[[TensorReader, int], EncoderBlock],
        *,
        output_norm: bool = False,
        activation: str = "tanh",
    ) -> None:
        self.config = config
        self.kernels = kernels
        d, eps = config.d_model, config.norm_eps
        self.token_embd = tensors.matrix(EMBEDDING, config.n_vocab, d)
        self.type_embd = None
        types = tensors.rows("token_types.weight") if tensors.has("token_types.weight") else 0
        if types:
            self.type_embd = tensors.array("token_types.weight", types, d)
        if config.pair_separator is not None and types < 2:
            raise ModelFileError(
                "classifier.pair_separator_token_id tells two texts apart, but token_types.weight"
                f" has {types} rows"
            )
        self.position_embd = None
        if config.position == "learned":
            rows = config.context_length
            self.position_embd = tensors.matrix(POSITIONS, rows, d)
        self.token_embd_norm = loose_layer_norm(tensors, kernels, "token_embd_norm", d, eps)
        self.output_norm = (
            loose_layer_norm(tensors, kernels, "output_norm", d, eps) if output_norm else None
        )
        self.pooled_heads = read_classifier(
            tensors, kernels, d, activation=activation, norm_eps=config.norm_eps
        )
        self.blocks = [block(tensors.block(i), i) for i in range(config.n_layers)]
        self.caches = ((),) * config.n_layers

    def encode(self, tokens: Int32, view: Whole, wanted: Int64 | None) -> Float32:
        """See ``EncoderFamily``."""
        x = self.kernels.embedding(self.token_embd, tokens)
        if self.type_embd is not None:
            x += self.type_embd[self._types(tokens, view)]
        if self.position_embd is not None:
            x += self.kernels.embedding(self.position_embd, view.positions)
        x = self.token_embd_norm(x)
        last = self.blocks[-1]
        for block in self.blocks:
            x = block.forward(x, view, wanted if block is last else None)
        return x if self.output_norm is None else self.output_norm(x)

    def _types(self, tokens: Int32, view: Whole) -> int | Int64:
        """The type of all tokens, or int64 ``[T]``: 1 after a sequence's first separator."""
        if self.config.pair_separator is None:
            return 0
        separates = tokens == self.config.pair_separator
        before = separates.cumsum() - separates
        begin, end = view.starts[:-1], view.starts[1:]
        return (before > before[begin].repeat(end - begin)).astype("int64")
