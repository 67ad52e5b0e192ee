"""Gemma 2 (Gemma Team 2024, arXiv 2408.00118): sliding layers, soft caps, norms on both sides."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from motet.models.config import AttentionConfig, read_common, read_sliding
from motet.models.family import View
from motet.models.keys import Keys
from motet.models.rope import make_rope
from motet.models.tensors import Expected, decoder_shapes, gather, output_shape

_LAYERS_27B = 46
"""The 27B model divides scores by sqrt(d / heads), not by sqrt(head_dim); the file doesn't say."""


@dataclass(frozen=True, slots=True)
class Block:
    """One layer's tensors, by their GGUF names. Norm weights are stored as 1 + Gemma's."""

    attn_norm: np.ndarray
    attn_q: Any
    attn_k: Any
    attn_v: Any
    attn_output: Any
    post_attention_norm: np.ndarray
    ffn_norm: np.ndarray
    ffn_gate: Any
    ffn_up: Any
    ffn_down: Any
    post_ffw_norm: np.ndarray


class Gemma2:
    """The ``gemma2`` architecture: even layers slide, odd ones see everything."""

    def __init__(self, config: AttentionConfig, tensors: Mapping[str, Any], kernels: Any) -> None:
        self.config = config
        self.kernels = kernels
        self.layers = config.layer_specs()
        self.blocks = [gather(Block, tensors, i) for i in range(config.n_layers)]
        self.windows = [config.window if slides else 0 for slides in config.sliding]
        self.token_embd = tensors["token_embd.weight"]
        self.embedding_scale = np.float32(math.sqrt(config.d_model))
        self.output_norm = tensors["output_norm.weight"]
        self.output = tensors.get("output.weight", self.token_embd)
        self.rope = make_rope(config.rope, "neox")

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> AttentionConfig:
        """The settings. Files older than the keys for window and caps mean Gemma 2's own."""
        config = read_common(keys, n_vocab)
        scale = config.attention_scale
        if config.n_layers == _LAYERS_27B:
            scale = 1 / math.sqrt(config.d_model // config.n_heads)
        return replace(
            config,
            attention_scale=scale,
            window=keys.integer("attention.sliding_window", 1, (1 << 31) - 1, 4096),
            sliding=read_sliding(keys, config.n_layers, 2),
            attention_softcap=keys.positive("attn_logit_softcapping", 50.0),
            logit_softcap=keys.positive("final_logit_softcapping", 30.0),
        )

    @staticmethod
    def expected_tensors(config: AttentionConfig) -> Expected:
        """Names and shapes."""
        required = decoder_shapes(config)
        for i in range(config.n_layers):
            required[f"blk.{i}.post_attention_norm.weight"] = (config.d_model,)
            required[f"blk.{i}.post_ffw_norm.weight"] = (config.d_model,)
        return Expected(required, output_shape(config))

    def forward(self, tokens: np.ndarray, view: View, wanted: np.ndarray) -> np.ndarray:
        """Logits float32 ``[R, n_vocab]`` of the rows ``wanted`` (int64 ``[R]``) of ``tokens``.

        ``tokens``: int32 ``[T]``. ``view``: what each layer reads and writes of memory.
        """
        kernels, eps = self.kernels, self.config.norm_eps
        x = kernels.embedding(self.token_embd, tokens)
        x *= self.embedding_scale
        last = self.config.n_layers - 1
        for i, block in enumerate(self.blocks):
            attended = self._attend(block, x, view.layer(i), self.windows[i])
            if i == last:
                x, attended = x[wanted], attended[wanted]
            h = kernels.linear(attended, block.attn_output)[0]
            x += kernels.rms_norm(h, block.post_attention_norm, eps)
            h = kernels.rms_norm(x, block.ffn_norm, eps)
            h = kernels.gated(*kernels.linear(h, block.ffn_gate, block.ffn_up), "gelu_tanh")
            h = kernels.linear(h, block.ffn_down)[0]
            x += kernels.rms_norm(h, block.post_ffw_norm, eps)
        h = kernels.rms_norm(x, self.output_norm, eps)
        return kernels.softcap(kernels.linear(h, self.output)[0], self.config.logit_softcap)

    def _attend(self, block: Block, x: np.ndarray, kv: Any, window: int) -> np.ndarray:
        config, kernels = self.config, self.kernels
        h = kernels.rms_norm(x, block.attn_norm, config.norm_eps)
        q, k, v = kernels.linear(h, block.attn_q, block.attn_k, block.attn_v)
        return kernels.attention(
            q.reshape(len(x), config.n_heads, config.head_dim),
            k.reshape(len(x), config.n_kv_heads, config.head_dim),
            v.reshape(len(x), config.n_kv_heads, config.value_dim),
            kv,
            scale=config.attention_scale,
            window=window,
            softcap=config.attention_softcap,
            rope=self.rope,
        )
