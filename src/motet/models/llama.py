"""Llama 1 to 3, Mistral and Qwen2: RMSNorm, rotary attention with grouped heads, SwiGLU.

Touvron et al. 2023 (arXiv 2302.13971, 2307.09288), Grattafiori et al. 2024 (2407.21783), Jiang et
al. 2023 (2310.06825), Yang et al. 2024 (2407.10671).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from motet.models.config import AttentionConfig, read_common
from motet.models.family import View
from motet.models.keys import Keys
from motet.models.rope import make_rope
from motet.models.tensors import Expected, decoder_shapes, gather, output_shape


@dataclass(frozen=True, slots=True)
class Block:
    """One layer's tensors, by their GGUF names; matrices are packed, biases may be absent."""

    attn_norm: np.ndarray
    attn_q: Any
    attn_k: Any
    attn_v: Any
    attn_output: Any
    ffn_norm: np.ndarray
    ffn_gate: Any
    ffn_up: Any
    ffn_down: Any
    attn_q_bias: np.ndarray | None
    attn_k_bias: np.ndarray | None
    attn_v_bias: np.ndarray | None
    attn_output_bias: np.ndarray | None
    ffn_gate_bias: np.ndarray | None
    ffn_up_bias: np.ndarray | None
    ffn_down_bias: np.ndarray | None


class Llama:
    """The ``llama`` architecture. Its converter interleaves the rotary pairs of q and k."""

    pairing = "normal"

    def __init__(self, config: AttentionConfig, tensors: Mapping[str, Any], kernels: Any) -> None:
        self.config = config
        self.kernels = kernels
        self.layers = config.layer_specs()
        self.blocks = [gather(Block, tensors, i) for i in range(config.n_layers)]
        self.token_embd = tensors["token_embd.weight"]
        self.output_norm = tensors["output_norm.weight"]
        self.output = tensors.get("output.weight", self.token_embd)
        self.output_bias = tensors.get("output.bias")
        self.rope = make_rope(config.rope, self.pairing, tensors.get("rope_freqs.weight"))

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> AttentionConfig:
        """The settings; Mistral's sliding window, where the file gives one, is on every layer."""
        config = read_common(keys, n_vocab)
        # Names the layout that the interleaved pairs come from; no other has been written.
        keys.only("tensor_data_layout", "Meta AI original pth", "an unknown order of q and k rows")
        window = keys.integer("attention.sliding_window", 0, (1 << 31) - 1, 0)
        return replace(config, window=window, sliding=(window > 0,) * config.n_layers)

    @staticmethod
    def expected_tensors(config: AttentionConfig) -> Expected:
        """Names and shapes. Biases are used where the file has them."""
        optional = output_shape(config) | {
            "output.bias": (config.n_vocab,),
            "rope_freqs.weight": (config.rope.dimension // 2,),
        }
        required = decoder_shapes(config)
        for name, shape in required.items():
            if len(shape) == 2 and name.startswith("blk."):
                optional[name.removesuffix("weight") + "bias"] = shape[:1]
        return Expected(required, optional)

    def forward(self, tokens: np.ndarray, view: View, wanted: np.ndarray) -> np.ndarray:
        """Logits float32 ``[R, n_vocab]`` of the rows ``wanted`` (int64 ``[R]``) of ``tokens``.

        ``tokens``: int32 ``[T]``. ``view``: what each layer reads and writes of memory.
        """
        config, kernels = self.config, self.kernels
        x = kernels.embedding(self.token_embd, tokens)
        last = config.n_layers - 1
        for i, block in enumerate(self.blocks):
            attended = self._attend(block, x, view.layer(i))
            if i == last:
                x, attended = x[wanted], attended[wanted]
            x += _biased(kernels.linear(attended, block.attn_output)[0], block.attn_output_bias)
            h = kernels.rms_norm(x, block.ffn_norm, config.norm_eps)
            gate, up = kernels.linear(h, block.ffn_gate, block.ffn_up)
            gate, up = _biased(gate, block.ffn_gate_bias), _biased(up, block.ffn_up_bias)
            h = kernels.gated(gate, up, "silu")
            x += _biased(kernels.linear(h, block.ffn_down)[0], block.ffn_down_bias)
        h = kernels.rms_norm(x, self.output_norm, config.norm_eps)
        return _biased(kernels.linear(h, self.output)[0], self.output_bias)

    def _attend(self, block: Block, x: np.ndarray, kv: Any) -> np.ndarray:
        config, kernels = self.config, self.kernels
        h = kernels.rms_norm(x, block.attn_norm, config.norm_eps)
        q, k, v = kernels.linear(h, block.attn_q, block.attn_k, block.attn_v)
        return kernels.attention(
            _biased(q, block.attn_q_bias).reshape(len(x), config.n_heads, config.head_dim),
            _biased(k, block.attn_k_bias).reshape(len(x), config.n_kv_heads, config.head_dim),
            _biased(v, block.attn_v_bias).reshape(len(x), config.n_kv_heads, config.value_dim),
            kv,
            scale=config.attention_scale,
            window=config.window,
            rope=self.rope,
        )


class Qwen2(Llama):
    """The ``qwen2`` architecture: biases on q, k and v, and rows as Hugging Face has them."""

    pairing = "neox"

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> AttentionConfig:
        """The settings. GGUF does not say which layers would slide, so a window is refused."""
        return read_common(keys, n_vocab)


def _biased(x: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    if bias is not None:
        x += bias
    return x
