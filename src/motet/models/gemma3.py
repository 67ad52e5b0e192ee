"""Gemma 3, text (Gemma Team 2025, arXiv 2503.19786): five sliding layers to a global one, QK-norm.

Global layers have a rotary base, and a linear stretch, of their own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from motet.kernels.rope import Rope
from motet.models.config import AttentionConfig, RopeConfig, read_common, read_sliding
from motet.models.family import View
from motet.models.keys import Keys
from motet.models.rope import make_rope
from motet.models.tensors import Expected, decoder_shapes, gather, output_shape

_LAYERS_27B = 62
"""The 27B model divides scores by sqrt(d / heads), not by sqrt(head_dim); the file doesn't say."""


@dataclass(frozen=True, slots=True)
class Block:
    """One layer's tensors, by their GGUF names. Norm weights are stored as 1 + Gemma's."""

    attn_norm: np.ndarray
    attn_q: Any
    attn_k: Any
    attn_v: Any
    attn_q_norm: np.ndarray
    attn_k_norm: np.ndarray
    attn_output: Any
    post_attention_norm: np.ndarray
    ffn_norm: np.ndarray
    ffn_gate: Any
    ffn_up: Any
    ffn_down: Any
    post_ffw_norm: np.ndarray


class Gemma3:
    """The ``gemma3`` architecture: layer i sees everything iff (i + 1) % 6 == 0."""

    def __init__(self, config: AttentionConfig, tensors: Mapping[str, Any], kernels: Any) -> None:
        self.config = config
        self.kernels = kernels
        self.layers = config.layer_specs()
        self.blocks = [gather(Block, tensors, i) for i in range(config.n_layers)]
        self.windows = [config.window if slides else 0 for slides in config.sliding]
        rope = make_rope(config.rope, "neox")
        sliding_rope = make_rope(config.sliding_rope or config.rope, "neox")
        self.ropes = [sliding_rope if slides else rope for slides in config.sliding]
        self.token_embd = tensors["token_embd.weight"]
        self.embedding_scale = np.float32(math.sqrt(config.d_model))
        self.output_norm = tensors["output_norm.weight"]
        self.output = tensors.get("output.weight", self.token_embd)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> AttentionConfig:
        """The settings. Without a window no layer slides, as the converter writes such models."""
        config = read_common(keys, n_vocab, default_rope_base=None)
        scale = config.attention_scale
        if config.n_layers == _LAYERS_27B:
            scale = 1 / math.sqrt(config.d_model // config.n_heads)
        window = keys.integer("attention.sliding_window", 0, (1 << 31) - 1, 0)
        local_base = keys.positive("rope.freq_base_swa", 10000.0)
        sliding = read_sliding(keys, config.n_layers, 6)
        return replace(
            config,
            attention_scale=scale,
            window=window,
            sliding=sliding if window else config.sliding,
            sliding_rope=RopeConfig(local_base, config.rope.dimension) if window else None,
            logit_softcap=keys.positive("final_logit_softcapping", 0.0, or_zero=True),
        )

    @staticmethod
    def expected_tensors(config: AttentionConfig) -> Expected:
        """Names and shapes."""
        required = decoder_shapes(config)
        for i in range(config.n_layers):
            required[f"blk.{i}.attn_q_norm.weight"] = (config.head_dim,)
            required[f"blk.{i}.attn_k_norm.weight"] = (config.head_dim,)
            required[f"blk.{i}.post_attention_norm.weight"] = (config.d_model,)
            required[f"blk.{i}.post_ffw_norm.weight"] = (config.d_model,)
        return Expected(required, output_shape(config))

    def forward(self, tokens: np.ndarray, view: View, wanted: np.ndarray) -> np.ndarray:
        """Logits float32 ``[R, n_vocab]`` of the rows ``wanted`` (int64 ``[R]``) of ``tokens``.

        ``tokens``: int32 ``[T]``. ``view``: what each layer reads and writes of memory.
        """
        config, kernels, eps = self.config, self.kernels, self.config.norm_eps
        x = kernels.embedding(self.token_embd, tokens)
        x *= self.embedding_scale
        last = config.n_layers - 1
        for i, block in enumerate(self.blocks):
            attended = self._attend(block, x, view.layer(i), self.windows[i], self.ropes[i])
            if i == last:
                x, attended = x[wanted], attended[wanted]
            h = kernels.linear(attended, block.attn_output)[0]
            x += kernels.rms_norm(h, block.post_attention_norm, eps)
            h = kernels.rms_norm(x, block.ffn_norm, eps)
            h = kernels.gated(*kernels.linear(h, block.ffn_gate, block.ffn_up), "gelu_tanh")
            h = kernels.linear(h, block.ffn_down)[0]
            x += kernels.rms_norm(h, block.post_ffw_norm, eps)
        h = kernels.rms_norm(x, self.output_norm, eps)
        logits = kernels.linear(h, self.output)[0]
        return kernels.softcap(logits, config.logit_softcap) if config.logit_softcap else logits

    def _attend(self, block: Block, x: np.ndarray, kv: Any, window: int, rope: Rope) -> np.ndarray:
        config, kernels, eps = self.config, self.kernels, self.config.norm_eps
        h = kernels.rms_norm(x, block.attn_norm, eps)
        q, k, v = kernels.linear(h, block.attn_q, block.attn_k, block.attn_v)
        q = q.reshape(len(x), config.n_heads, config.head_dim)
        k = k.reshape(len(x), config.n_kv_heads, config.head_dim)
        return kernels.attention(
            kernels.rms_norm(q, block.attn_q_norm, eps),
            kernels.rms_norm(k, block.attn_k_norm, eps),
            v.reshape(len(x), config.n_kv_heads, config.value_dim),
            kv,
            scale=config.attention_scale,
            window=window,
            rope=rope,
        )
