"""What RWKV's generations have in common: the two ends of a model, and half of a layer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from motet.arrays import Float32, Int32, Int64
from motet.kernels.interface import Kernels
from motet.kernels.interface_recurrent import Runs
from motet.models.config import LAYER_EPS, Config, read_sizes
from motet.models.keys import MAX_HEAD_WIDTH, MAX_WIDTH, Keys
from motet.models.norms import Norm, layer_norm
from motet.models.pooled_heads import PooledHead
from motet.models.tensors import EMBEDDING, OUTPUT, TensorReader
from motet.spec import CacheSpec, Recurrent

HEAD_NORM_EPS = 64e-5
"""Of the norm over each head; no key has it. 1e-5 · head_size_divisor², 8 in every model."""


@dataclass(frozen=True, kw_only=True)
class RwkvConfig(Config):
    """Sizes, in channels."""

    head_size: int
    d_ff: int

    @property
    def n_heads(self) -> int:
        """Heads of the state."""
        return self.d_model // self.head_size

    @property
    def caches(self) -> tuple[CacheSpec, ...]:
        """Of a layer: the inputs of both mixes one token ago, and the heads' states."""
        last = (self.d_model,)
        return (Recurrent((last, last, (self.n_heads, self.head_size, self.head_size))),)


class _Layer(Protocol):
    @property
    def caches(self) -> tuple[CacheSpec, ...]: ...


C = TypeVar("C", bound=RwkvConfig)
L = TypeVar("L", bound=_Layer)


class Rwkv(Generic[C, L]):
    """A norm after the embedding, layers, a norm and a head of its own."""

    def __init__(
        self,
        config: C,
        tensors: TensorReader,
        kernels: Kernels,
        block: Callable[[TensorReader, int], L],
    ) -> None:
        self.config = config
        self.kernels = kernels
        self.pooled_heads: dict[str, PooledHead] = {}
        vocab, d = config.n_vocab, config.d_model
        self.token_embd = tensors.matrix(EMBEDDING, vocab, d)
        sizes = d, config.norm_eps
        self.token_embd_norm = layer_norm(tensors, kernels, "token_embd_norm", *sizes)
        self.output_norm = layer_norm(tensors, kernels, "output_norm", *sizes)
        self.output = tensors.matrix(OUTPUT, vocab, d)
        self.blocks = [block(tensors.block(i), i) for i in range(config.n_layers)]
        self.caches = tuple(block.caches for block in self.blocks)

    def embed(self, tokens: Int32) -> Float32:
        """What the first layer is given, ``[T, d_model]``."""
        return self.token_embd_norm(self.kernels.embedding(self.token_embd, tokens))

    def head(self, hidden: Float32) -> Float32:
        """Logits ``[R, n_vocab]`` of what ``forward`` gave."""
        return self.kernels.linear(hidden, self.output)[0]


class ChannelMix(Protocol):
    """A layer's feed-forward network, which sees the token before too."""

    def forward(self, h: Float32, shifted: Float32) -> Float32:
        """``[R, d_model]`` to the same. ``shifted``: of the token before."""
        ...


def mix_channels(
    kernels: Kernels,
    norm: Norm,
    mix: ChannelMix,
    x: Float32,
    tails: Float32,
    runs: Runs,
    wanted: Int64 | None,
) -> Float32:
    """A layer's second half: the residual ``[T, d_model]``, overwritten, to ``[R, d_model]``.

    ``tails``: the normalised token before.
    """
    h = norm(x)
    shifted = kernels.token_shift(h, tails, runs)
    if wanted is not None:
        x, h, shifted = x[wanted], h[wanted], shifted[wanted]
    x += mix.forward(h, shifted)
    return x


def read_rwkv(keys: Keys, n_vocab: int) -> RwkvConfig:
    """The keys that all of them have."""
    # llama.cpp wants the key; the number of heads follows from their size.
    keys.only("attention.head_count", 0, "attention heads, which it does not have")
    keys.only("token_shift_count", 2, "another number of token shifts a layer")
    sizes = read_sizes(keys, n_vocab, eps=LAYER_EPS)
    head_size = keys.integer("wkv.head_size", 1, MAX_HEAD_WIDTH)
    keys.divides("wkv.head_size", head_size, "embedding_length", sizes.d_model)
    d_ff = keys.integer("feed_forward_length", 1, MAX_WIDTH)
    return RwkvConfig(**vars(sizes), head_size=head_size, d_ff=d_ff)
