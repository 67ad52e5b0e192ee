"""What all decoders of residual blocks have in common: embedding, blocks, final norm, head."""

from collections.abc import Callable
from typing import Generic, TypeVar

from motet.arrays import Float32, Int32, Int64
from motet.kernels.interface import Kernels
from motet.models.config import Config
from motet.models.family import View
from motet.models.layers import Block
from motet.models.norms import NormKind, rms_norm
from motet.models.pooled_heads import read_classifier
from motet.models.tensors import EMBEDDING, OUTPUT, POSITIONS, TensorReader

C = TypeVar("C", bound=Config)


class Decoder(Generic[C]):
    """Embedding, blocks, a norm, and an output head, which may be the embedding itself.

    ``block`` makes layer i of its tensors. ``norm``: the kind of the last one, ``output_norm`` its
    name. ``embedding_scale`` multiplies embeddings. ``learned_positions``: a vector for each
    position is added to them.
    ``output_bias``: whether the head may have one. Logits are divided by ``logit_scale``, and
    capped to ± ``logit_softcap``, if that is not 0. ``yes_or_no``: whether a classifier's numbers
    are made shares of 1.
    """

    def __init__(
        self,
        config: C,
        tensors: TensorReader,
        kernels: Kernels,
        block: Callable[[TensorReader, int], Block],
        *,
        norm: NormKind = rms_norm,
        output_norm: str = "output_norm",
        embedding_scale: float = 1.0,
        learned_positions: bool = False,
        output_bias: bool = False,
        logit_softcap: float = 0.0,
        logit_scale: float = 1.0,
        yes_or_no: bool = False,
    ) -> None:
        self.config = config
        self.kernels = kernels
        self._embedding_scale = embedding_scale
        self._logit_softcap, self._logit_scale = logit_softcap, logit_scale
        vocab, d = config.n_vocab, config.d_model
        self.token_embd = tensors.matrix(EMBEDDING, vocab, d)
        self.position_embd = (
            tensors.matrix(POSITIONS, config.context_length, d) if learned_positions else None
        )
        self.output_norm = norm(tensors, kernels, output_norm, d, config.norm_eps)
        self.output = tensors.optional_matrix(OUTPUT, vocab, d) or self.token_embd
        self.pooled_heads = read_classifier(tensors, kernels, d, shares=yes_or_no)
        self.output_bias = tensors.optional_array("output.bias", vocab) if output_bias else None
        self.blocks = [block(tensors.block(i), i) for i in range(config.n_layers)]
        self.caches = tuple(block.caches for block in self.blocks)

    def forward(self, tokens: Int32, view: View, wanted: Int64) -> Float32:
        """Final normalised states ``[R, d_model]`` of the rows ``wanted`` of ``tokens`` ``[T]``.

        Of the last block, only these are computed.
        """
        x = self.embed(tokens, view)
        last = self.blocks[-1]
        for block in self.blocks:
            x = block.forward(x, view, wanted if block is last else None)
        return self.output_norm(x)

    def embed(self, tokens: Int32, view: View) -> Float32:
        """What goes into the first block, ``[T, d_model]``."""
        x = self.kernels.embedding(self.token_embd, tokens)
        if self._embedding_scale != 1.0:
            x *= self._embedding_scale
        if self.position_embd is not None:
            x += self.kernels.embedding(self.position_embd, view.positions)
        return x

    def head(self, hidden: Float32) -> Float32:
        """Logits ``[R, n_vocab]`` of what ``forward`` gave."""
        (logits,) = self.kernels.linear(hidden, self.output)
        if self.output_bias is not None:
            logits += self.output_bias
        if self._logit_scale != 1.0:
            logits /= self._logit_scale
        if self._logit_softcap:
            logits = self.kernels.softcap(logits, self._logit_softcap)
        return logits
