"""Shapes of real models: the keys of their GGUF files, and the name and shape of every tensor."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import gguf
import numpy as np

from benchmarks.shapes_gpt_oss import GptOss
from benchmarks.shapes_recurrent import Lfm2, Mamba2Hybrid, Qwen35, Rwkv7, near_one

Tensors = Iterator[tuple[str, tuple[int, ...]]]


class Shape(Protocol):
    """What the published model's configuration says. Values not given here follow from these."""

    @property
    def architecture(self) -> str: ...

    def metadata(self, writer: gguf.GGUFWriter) -> None:
        """The keys that llama.cpp's converter writes for the model."""
        ...

    def tensors(self) -> Tensors:
        """Name and shape of every tensor; without an output matrix it is the embedding."""
        ...

    def plain(self, name: str, dims: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """A tensor that is stored in float32."""
        ...


NORMS = {
    "gemma2": ["attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"],
    "gemma3": ["attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"],
    "llama": ["attn_norm", "ffn_norm"],
    "qwen2": ["attn_norm", "ffn_norm"],
    "qwen3": ["attn_norm", "ffn_norm"],
    "qwen3moe": ["attn_norm", "ffn_norm"],
}
HEAD_NORMS = ("gemma3", "qwen3", "qwen3moe")
"""Architectures that normalise each head's query and key."""


@dataclass(frozen=True)
class Attention:
    """Gemma 2, Gemma 3, Llama 3.2, Qwen 2 and Qwen 3; with ``experts``, ``used`` of which are a
    token's, each ``feed_forward`` wide."""

    architecture: str
    layers: int
    d_model: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    epsilon: float
    rope_base: float
    window: int = 0
    experts: int = 0
    used: int = 0

    def metadata(self, writer: gguf.GGUFWriter) -> None:
        """The keys that llama.cpp's converter writes for these models."""
        writer.add_context_length(self.context)
        writer.add_embedding_length(self.d_model)
        writer.add_block_count(self.layers)
        writer.add_feed_forward_length(self.feed_forward)
        writer.add_head_count(self.heads)
        writer.add_head_count_kv(self.kv_heads)
        writer.add_key_length(self.head_dim)
        writer.add_value_length(self.head_dim)
        writer.add_layer_norm_rms_eps(self.epsilon)
        writer.add_vocab_size(self.vocabulary)
        if self.architecture != "gemma2":
            writer.add_rope_freq_base(self.rope_base)
        if self.architecture == "gemma3":
            writer.add_rope_freq_base_swa(1e4)
        if self.architecture == "llama":
            writer.add_rope_dimension_count(self.head_dim)
        if self.window:
            writer.add_sliding_window(self.window)
        if self.experts:
            writer.add_expert_count(self.experts)
            writer.add_expert_used_count(self.used)
            writer.add_expert_feed_forward_length(self.feed_forward)
        if self.architecture == "gemma2":
            writer.add_attn_logit_softcapping(50.0)
            writer.add_final_logit_softcapping(30.0)

    def tensors(self) -> Tensors:
        """Name and shape of every tensor."""
        d, width, kv_width = (
            self.d_model,
            self.heads * self.head_dim,
            self.kv_heads * self.head_dim,
        )
        yield "token_embd.weight", (self.vocabulary, d)
        yield "output_norm.weight", (d,)
        if self.architecture == "llama":
            yield "rope_freqs.weight", (self.head_dim // 2,)
        for layer in range(self.layers):
            block = f"blk.{layer}."
            for norm in NORMS[self.architecture]:
                yield f"{block}{norm}.weight", (d,)
            yield block + "attn_q.weight", (width, d)
            yield block + "attn_k.weight", (kv_width, d)
            yield block + "attn_v.weight", (kv_width, d)
            yield block + "attn_output.weight", (d, width)
            if self.architecture == "qwen2":
                yield block + "attn_q.bias", (width,)
                yield block + "attn_k.bias", (kv_width,)
                yield block + "attn_v.bias", (kv_width,)
            if self.architecture in HEAD_NORMS:
                yield block + "attn_q_norm.weight", (self.head_dim,)
                yield block + "attn_k_norm.weight", (self.head_dim,)
            kind, count = ("_exps", (self.experts,)) if self.experts else ("", ())
            if self.experts:
                yield block + "ffn_gate_inp.weight", (self.experts, d)
            yield f"{block}ffn_gate{kind}.weight", (*count, self.feed_forward, d)
            yield f"{block}ffn_up{kind}.weight", (*count, self.feed_forward, d)
            yield f"{block}ffn_down{kind}.weight", (*count, d, self.feed_forward)

    def plain(self, name: str, dims: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Norm weights near 1, small biases, routers, or the frequency divisors of Llama 3's
        scaling."""
        if name.endswith("ffn_gate_inp.weight"):
            return (rng.standard_normal(dims) * self.d_model**-0.5).astype(np.float32)
        if name == "rope_freqs.weight":
            return self._llama3_divisors()
        if name.endswith(".bias"):
            return (0.1 * rng.standard_normal(dims)).astype(np.float32)
        return near_one(dims, rng)

    def _llama3_divisors(self) -> np.ndarray:
        """Float32 [head_dim / 2], as llama.cpp's converter computes them for Llama 3.2 (factor 32,
        low and high frequency factors 1 and 4, trained first on 8192 tokens)."""
        factor, low, high, trained = 32.0, 1.0, 4.0, 8192
        exponents = np.arange(0, self.head_dim, 2) / self.head_dim
        wavelengths = 2 * math.pi * self.rope_base**exponents
        smooth = np.clip((trained / wavelengths - low) / (high - low), 0.0, 1.0)
        return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


@dataclass(frozen=True)
class Mamba:
    """Mamba-1; with ``heads`` a Jamba-style hybrid of dense layers, attention in one of ``period``.

    Real Jambas are far larger than what a benchmark wants; this is their pattern at a small size.
    """

    architecture: str
    layers: int
    d_model: int
    vocabulary: int
    context: int
    d_state: int = 16
    d_conv: int = 4
    epsilon: float = 1e-5
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    feed_forward: int = 0
    period: int = 0

    @property
    def d_inner(self) -> int:
        return 2 * self.d_model

    @property
    def dt_rank(self) -> int:
        return -(-self.d_model // 16)

    def attends(self, layer: int) -> bool:
        return bool(self.period) and layer % self.period == self.period // 2

    def metadata(self, writer: gguf.GGUFWriter) -> None:
        """The keys that llama.cpp's converter writes for these models."""
        writer.add_context_length(self.context)
        writer.add_embedding_length(self.d_model)
        writer.add_feed_forward_length(self.feed_forward)
        writer.add_head_count(self.heads)
        if self.period:
            per_layer = [self.kv_heads if self.attends(i) else 0 for i in range(self.layers)]
            writer.add_head_count_kv(per_layer)
        writer.add_block_count(self.layers)
        writer.add_ssm_conv_kernel(self.d_conv)
        writer.add_ssm_inner_size(self.d_inner)
        writer.add_ssm_state_size(self.d_state)
        writer.add_ssm_time_step_rank(self.dt_rank)
        writer.add_layer_norm_rms_eps(self.epsilon)
        writer.add_vocab_size(self.vocabulary)

    def tensors(self) -> Tensors:
        """Name and shape of every tensor."""
        d = self.d_model
        yield "token_embd.weight", (self.vocabulary, d)
        yield "output_norm.weight", (d,)
        for layer in range(self.layers):
            block = f"blk.{layer}."
            yield block + "attn_norm.weight", (d,)
            yield from self._attention(block) if self.attends(layer) else self._scan(block)
            if self.feed_forward:
                yield block + "ffn_norm.weight", (d,)
                yield block + "ffn_gate.weight", (self.feed_forward, d)
                yield block + "ffn_up.weight", (self.feed_forward, d)
                yield block + "ffn_down.weight", (d, self.feed_forward)

    def plain(self, name: str, dims: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """As Mamba begins its training: rates −1 … −N, time steps of about 0.001 to 0.1."""
        if name.endswith("ssm_a"):
            return np.tile(-np.arange(1, dims[1] + 1, dtype=np.float32), (dims[0], 1))
        if name.endswith("ssm_dt.bias"):
            return rng.uniform(-6.9, -2.2, dims).astype(np.float32)
        if len(dims) == 2 or name.endswith(".bias"):
            return (rng.standard_normal(dims) * dims[-1] ** -0.5).astype(np.float32)
        return near_one(dims, rng)

    def _attention(self, block: str) -> Tensors:
        width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        yield block + "attn_q.weight", (width, self.d_model)
        yield block + "attn_k.weight", (kv_width, self.d_model)
        yield block + "attn_v.weight", (kv_width, self.d_model)
        yield block + "attn_output.weight", (self.d_model, width)

    def _scan(self, block: str) -> Tensors:
        inner, n, rank = self.d_inner, self.d_state, self.dt_rank
        yield block + "ssm_in.weight", (2 * inner, self.d_model)
        yield block + "ssm_conv1d.weight", (inner, self.d_conv)
        yield block + "ssm_conv1d.bias", (inner,)
        yield block + "ssm_x.weight", (rank + 2 * n, inner)
        yield block + "ssm_dt.weight", (inner, rank)
        yield block + "ssm_dt.bias", (inner,)
        yield block + "ssm_a", (inner, n)
        yield block + "ssm_d", (inner,)
        yield block + "ssm_out.weight", (self.d_model, inner)
        if self.period:
            yield block + "ssm_dt_norm.weight", (rank,)
            yield block + "ssm_b_norm.weight", (n,)
            yield block + "ssm_c_norm.weight", (n,)


@dataclass(frozen=True)
class DeepSeek2:
    """DeepSeek-V2-Lite: latent attention, and experts in all layers but the first."""

    layers: int
    d_model: int
    vocabulary: int
    context: int = 163840
    heads: int = 16
    latent: int = 512
    rotary: int = 64
    nope: int = 128
    """Channels of a head's query and key that are not rotated."""
    value: int = 128
    feed_forward: int = 10944
    experts: int = 64
    used: int = 6
    shared: int = 2
    expert_width: int = 1408

    architecture = "deepseek2"

    def metadata(self, writer: gguf.GGUFWriter) -> None:
        """The keys that llama.cpp's converter writes for the model."""
        writer.add_context_length(self.context)
        writer.add_embedding_length(self.d_model)
        writer.add_block_count(self.layers)
        writer.add_feed_forward_length(self.feed_forward)
        writer.add_head_count(self.heads)
        writer.add_head_count_kv(1)
        writer.add_key_length(self.latent + self.rotary)
        writer.add_value_length(self.latent)
        writer.add_key_length_mla(self.nope + self.rotary)
        writer.add_value_length_mla(self.value)
        writer.add_kv_lora_rank(self.latent)
        writer.add_rope_dimension_count(self.rotary)
        writer.add_rope_freq_base(1e4)
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(40.0)
        writer.add_rope_scaling_orig_ctx_len(4096)
        writer.add_rope_scaling_yarn_log_mul(0.0707)
        writer.add_layer_norm_rms_eps(1e-6)
        writer.add_vocab_size(self.vocabulary)
        writer.add_leading_dense_block_count(1)
        writer.add_expert_count(self.experts)
        writer.add_expert_used_count(self.used)
        writer.add_expert_feed_forward_length(self.expert_width)
        writer.add_expert_shared_count(self.shared)
        writer.add_expert_weights_scale(1.0)

    def tensors(self) -> Tensors:
        """Name and shape of every tensor."""
        d, heads, latent, n = self.d_model, self.heads, self.latent, self.experts
        yield "token_embd.weight", (self.vocabulary, d)
        yield "output_norm.weight", (d,)
        yield "output.weight", (self.vocabulary, d)
        for layer in range(self.layers):
            block = f"blk.{layer}."
            yield block + "attn_norm.weight", (d,)
            yield block + "attn_q.weight", (heads * (self.nope + self.rotary), d)
            yield block + "attn_kv_a_mqa.weight", (latent + self.rotary, d)
            yield block + "attn_kv_a_norm.weight", (latent,)
            yield block + "attn_k_b.weight", (heads, latent, self.nope)
            yield block + "attn_v_b.weight", (heads, self.value, latent)
            yield block + "attn_output.weight", (d, heads * self.value)
            yield block + "ffn_norm.weight", (d,)
            width, suffix = self.feed_forward, ""
            if layer:
                yield block + "ffn_gate_inp.weight", (n, d)
                yield block + "ffn_gate_exps.weight", (n, self.expert_width, d)
                yield block + "ffn_up_exps.weight", (n, self.expert_width, d)
                yield block + "ffn_down_exps.weight", (n, d, self.expert_width)
                width, suffix = self.shared * self.expert_width, "_shexp"
            yield block + f"ffn_gate{suffix}.weight", (width, d)
            yield block + f"ffn_up{suffix}.weight", (width, d)
            yield block + f"ffn_down{suffix}.weight", (d, width)

    def plain(self, name: str, dims: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Norm weights near 1, and the routers."""
        if len(dims) > 1:
            return (rng.standard_normal(dims) * dims[-1] ** -0.5).astype(np.float32)
        return near_one(dims, rng)


@dataclass(frozen=True)
class T5:
    """T5 1.0: an encoder and a decoder of as many layers each, with ReLU."""

    architecture: str
    layers: int
    d_model: int
    feed_forward: int
    heads: int
    head_dim: int
    vocabulary: int
    context: int = 512
    buckets: int = 32
    epsilon: float = 1e-6

    def metadata(self, writer: gguf.GGUFWriter) -> None:
        """The keys that llama.cpp's converter writes for these models."""
        writer.add_context_length(self.context)
        writer.add_embedding_length(self.d_model)
        writer.add_feed_forward_length(self.feed_forward)
        writer.add_block_count(self.layers)
        writer.add_head_count(self.heads)
        writer.add_key_length(self.head_dim)
        writer.add_value_length(self.head_dim)
        writer.add_layer_norm_eps(self.epsilon)
        writer.add_relative_attn_buckets_count(self.buckets)
        writer.add_layer_norm_rms_eps(self.epsilon)
        writer.add_decoder_start_token_id(0)
        writer.add_vocab_size(self.vocabulary)

    def tensors(self) -> Tensors:
        """Name and shape of every tensor."""
        d, width = self.d_model, self.heads * self.head_dim
        yield "token_embd.weight", (self.vocabulary, d)
        for half, attentions in (("enc", ["attn"]), ("dec", ["attn", "cross_attn"])):
            for layer in range(self.layers):
                block = f"{half}.blk.{layer}."
                for attention in attentions:
                    yield f"{block}{attention}_norm.weight", (d,)
                    for name in "qkv":
                        yield f"{block}{attention}_{name}.weight", (width, d)
                    yield f"{block}{attention}_o.weight", (d, width)
                if layer == 0:
                    yield block + "attn_rel_b.weight", (self.buckets, self.heads)
                yield block + "ffn_norm.weight", (d,)
                yield block + "ffn_up.weight", (self.feed_forward, d)
                yield block + "ffn_down.weight", (d, self.feed_forward)
            yield f"{half}.output_norm.weight", (d,)

    def plain(self, name: str, dims: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Norm weights near 1, and biases of scores."""
        if name.endswith("attn_rel_b.weight"):
            return rng.standard_normal(dims).astype(np.float32)
        return near_one(dims, rng)


MODELS: dict[str, Shape] = {
    "gemma2-2b": Attention("gemma2", 26, 2304, 9216, 8, 4, 256, 256000, 8192, 1e-6, 1e4, 4096),
    # A layer's work is the model's own; for engines that are in memory side by side.
    "gemma2-2b-6-layers": Attention(
        "gemma2", 6, 2304, 9216, 8, 4, 256, 32768, 8192, 1e-6, 1e4, 4096
    ),
    "gemma3-1b": Attention("gemma3", 26, 1152, 6912, 4, 1, 256, 262144, 32768, 1e-6, 1e6, 512),
    "llama-3.2-1b": Attention("llama", 16, 2048, 8192, 32, 8, 64, 128256, 131072, 1e-5, 5e5),
    "qwen2-1.5b": Attention("qwen2", 28, 1536, 8960, 12, 2, 128, 151936, 32768, 1e-6, 1e6),
    "qwen3-0.6b": Attention("qwen3", 28, 1024, 3072, 16, 8, 128, 151936, 40960, 1e-6, 1e6),
    "qwen3-4b": Attention("qwen3", 36, 2560, 9728, 32, 8, 128, 151936, 40960, 1e-6, 1e6),
    # Of 48 layers, as many as fit beside another engine.
    "qwen3-30b-a3b-3-layers": Attention(
        "qwen3moe", 3, 2048, 768, 32, 4, 128, 151936, 40960, 1e-6, 1e6, experts=128, used=8
    ),
    "lfm2-1.2b": Lfm2(),
    # For long contexts, where attention is most of the work.
    "llama-3.2-1b-1-layer": Attention(
        "llama", 1, 2048, 8192, 32, 8, 64, 32768, 131072, 1e-5, 5e5
    ),
    "mamba-130m": Mamba("mamba", 24, 768, 50280, 1 << 20),
    "mamba-1.4b": Mamba("mamba", 48, 2048, 50280, 1 << 20),
    "deepseek2-lite": DeepSeek2(27, 2048, 102400),
    # What a token reads and computes is the model's own, and it takes 2 GB, not 9.
    "deepseek2-lite-8-experts": DeepSeek2(27, 2048, 102400, experts=8),
    # Of 24 layers, as many as fit beside another engine.
    "gpt-oss-20b-2-layers": GptOss(2),
    "gpt-oss-20b-4-layers": GptOss(4),
    "jamba-like": Mamba(
        "jamba", 16, 1024, 65536, 1 << 18, heads=16, kv_heads=4, head_dim=64, feed_forward=4096,
        period=8, epsilon=1e-6,
    ),
    "qwen3.5-0.8b": Qwen35(24, 1024, 3584, 8, 2),
    "rwkv7-0.4b": Rwkv7(24, 1024, 4096, (64, 64, 32, 128)),
    "falcon-h1-0.5b": Mamba2Hybrid(
        "falcon-h1", 36, 1024, 32784, 16384, 2048, 8, 2, 64, inner=1536, state=128, scan_heads=24
    ),
    # As many layers as 4 GB less hold; what a token reads of one is the model's own.
    "granite-4.0-h-tiny-10-layers": Mamba2Hybrid(
        "granitehybrid", 10, 1536, 100352, 1 << 20, 512, 12, 4, 128, inner=3072, state=128,
        scan_heads=48, attends=(5,), experts=64, used=6, shared=1024,
    ),
    "t5-base": T5("t5", 12, 768, 3072, 12, 64, 32128),
}  # fmt: skip

_FLOAT32 = (
    "ssm_conv1d.weight",
    "shortconv.conv.weight",
    "ssm_dt.weight",
    "ssm_a",
    "ffn_gate_inp.weight",
    "attn_rel_b.weight",
    "ssm_norm.weight",
    "ssm_d",
    "time_mix_lerp_fused.weight",
    *(f"time_mix_{name}{i}.weight" for name in "wavg" for i in (1, 2)),
    ".bias",
)


def stays_float32(name: str, dims: tuple[int, ...]) -> bool:
    """Vectors, the small matrices of a scan, routers, and biases."""
    return len(dims) == 1 or name.endswith(_FLOAT32)
