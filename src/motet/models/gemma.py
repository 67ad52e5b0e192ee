"""Gemma 1 (Gemma Team 2024, arXiv 2403.08295): a scaled embedding, GeGLU, and a tied output."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from motet.models.config import AttentionConfig, read_common
from motet.models.family import View
from motet.models.keys import Keys
from motet.models.rope import make_rope
from motet.models.tensors import Expected, decoder_shapes, gather, output_shape


@dataclass(frozen=True, slots=True)
class Block:
    """One layer's tensors, by their GGUF names. Norm weights are stored as 1 + Gemma's."""

    attn_norm: np.ndarray
    attn_q: Any
    attn_k: Any
    attn_v: Any
    attn_output: Any
    ffn_norm: np.ndarray
    ffn_gate: Any
    ffn_up: Any
    ffn_down: Any


class Gemma:
    """The ``gemma`` architecture."""

    def __init__(self, config: AttentionConfig, tensors: Mapping[str, Any], kernels: Any) -> None:
        self.config = config
        self.kernels = kernels
        self.layers = config.layer_specs()
        self.blocks = [gather(Block, tensors, i) for i in range(config.n_layers)]
        self.token_embd = tensors["token_embd.weight"]
        self.embedding_scale = np.float32(math.sqrt(config.d_model))
        self.output_norm = tensors["output_norm.weight"]
        self.output = tensors.get("output.weight", self.token_embd)
        self.rope = make_rope(config.rope, "neox")

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> AttentionConfig:
        """The settings; nothing beyond what every family has."""
        return read_common(keys, n_vocab)

    @staticmethod
    def expected_tensors(config: AttentionConfig) -> Expected:
        """Names and shapes."""
        return Expected(decoder_shapes(config), output_shape(config))

    def forward(self, tokens: np.ndarray, view: View, wanted: np.ndarray) -> np.ndarray:
        """Logits float32 ``[R, n_vocab]`` of the rows ``wanted`` (int64 ``[R]``) of ``tokens``.

        ``tokens``: int32 ``[T]``. ``view``: what each layer reads and writes of memory.
        """
        config, kernels = self.config, self.kernels
        x = kernels.embedding(self.token_embd, tokens)
        x *= self.embedding_scale
        last = config.n_layers - 1
        for i, block in enumerate(self.blocks):
            attended = self._attend(block, x, view.layer(i))
            if i == last:
                x, attended = x[wanted], attended[wanted]
            x += kernels.linear(attended, block.attn_output)[0]
            h = kernels.rms_norm(x, block.ffn_norm, config.norm_eps)
            h = kernels.gated(*kernels.linear(h, block.ffn_gate, block.ffn_up), "gelu_tanh")
            x += kernels.linear(h, block.ffn_down)[0]
        h = kernels.rms_norm(x, self.output_norm, config.norm_eps)
        return kernels.linear(h, self.output)[0]

    def _attend(self, block: Block, x: np.ndarray, kv: Any) -> np.ndarray:
        config, kernels = self.config, self.kernels
        h = kernels.rms_norm(x, block.attn_norm, config.norm_eps)
        q, k, v = kernels.linear(h, block.attn_q, block.attn_k, block.attn_v)
        return kernels.attention(
            q.reshape(len(x), config.n_heads, config.head_dim),
            k.reshape(len(x), config.n_kv_heads, config.head_dim),
            v.reshape(len(x), config.n_kv_heads, config.value_dim),
            kv,
            scale=config.attention_scale,
            rope=self.rope,
        )
