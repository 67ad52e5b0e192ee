"""Shapes of models of today whose layers are recurrent, all or some: see ``shapes.Shape``."""

from collections.abc import Iterator
from dataclasses import dataclass

import gguf
import numpy as np

Tensors = Iterator[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Rwkv7:
    """RWKV-7; ``ranks`` are those of decay, rate, value and gate."""

    layers: int
    d_model: int
    feed_forward: int
    ranks: tuple[int, int, int, int]
    vocabulary: int = 65536
    head_size: int = 64

    architecture = "rwkv7"

    def metadata(self, writer: gguf.GGUFWriter) -> None:
        """The keys that llama.cpp's converter writes for the model."""
        writer.add_context_length(1 << 20)
        writer.add_embedding_length(self.d_model)
        writer.add_block_count(self.layers)
        writer.add_layer_norm_eps(1e-5)
        writer.add_wkv_head_size(self.head_size)
        decay, rate, value, gate = self.ranks
        writer.add_decay_lora_rank(decay)
        writer.add_iclr_lora_rank(rate)
        writer.add_value_residual_mix_lora_rank(value)
        writer.add_gate_lora_rank(gate)
        writer.add_feed_forward_length(self.feed_forward)
        writer.add_head_count(0)
        writer.add_vocab_size(self.vocabulary)

    def tensors(self) -> Tensors:
        """Name and shape of every tensor."""
        d = self.d_model
        yield "token_embd.weight", (self.vocabulary, d)
        yield from _norm("token_embd_norm", d)
        yield from _norm("output_norm", d)
        yield "output.weight", (self.vocabulary, d)
        for layer in range(self.layers):
            block = f"blk.{layer}."
            for norm in ("attn_norm", "attn_norm_2", "time_mix_ln"):
                yield from _norm(block + norm, d)
            yield block + "time_mix_lerp_fused.weight", (6, 1, 1, d)
            for name, rank in zip("wavg", self.ranks, strict=True):
                rank = self.ranks[1] if name == "v" and not layer else rank
                if name != "g":
                    yield f"{block}time_mix_{name}0.weight", (d,)
                yield f"{block}time_mix_{name}1.weight", (rank, d)
                yield f"{block}time_mix_{name}2.weight", (d, rank)
            for name in ("k_k", "k_a", "r_k"):
                yield f"{block}time_mix_{name}.weight", (d,)
            for name in ("receptance", "key", "value", "output"):
                yield f"{block}time_mix_{name}.weight", (d, d)
            yield block + "channel_mix_lerp_k.weight", (d,)
            yield block + "channel_mix_key.weight", (self.feed_forward, d)
            yield block + "channel_mix_value.weight", (d, self.feed_forward)

    def plain(self, name: str, dims: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Shares of the token before from 0 to 1, channels that forget slowly and fast."""
        if "lerp" in name:
            return rng.uniform(0, 1, dims).astype(np.float32)
        if name.endswith("time_mix_w0.weight"):
            return rng.uniform(-6, 0, dims).astype(np.float32)
        if len(dims) != 1 or name.endswith((".bias", "r_k.weight", "a0.weight", "v0.weight")):
            return (rng.standard_normal(dims) * dims[-1] ** -0.5).astype(np.float32)
        return near_one(dims, rng)


@dataclass(frozen=True)
class Mamba2Hybrid:
    """Falcon-H1: attention and Mamba-2 side by side; Granite 4.0-H: attention in some layers.

    Granite's have ``experts``, of which ``used`` are taken, beside a ``shared`` network.
    """

    architecture: str
    layers: int
    d_model: int
    vocabulary: int
    context: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    state: int
    scan_heads: int
    groups: int = 1
    conv: int = 4
    attends: tuple[int, ...] = ()
    experts: int = 0
    used: int = 0
    shared: int = 0

    @property
    def _parallel(self) -> bool:
        return self.architecture == "falcon-h1"

    def metadata(self, writer: gguf.GGUFWriter) -> None:
        """The keys that llama.cpp's converter writes for these models."""
        writer.add_context_length(self.context)
        writer.add_embedding_length(self.d_model)
        writer.add_feed_forward_length(self.feed_forward)
        writer.add_block_count(self.layers)
        writer.add_head_count(self.heads)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_vocab_size(self.vocabulary)
        writer.add_ssm_conv_kernel(self.conv)
        writer.add_ssm_inner_size(self.inner)
        writer.add_ssm_state_size(self.state)
        writer.add_ssm_time_step_rank(self.scan_heads)
        writer.add_ssm_group_count(self.groups)
        if self._parallel:
            writer.add_head_count_kv(self.kv_heads)
            writer.add_key_length(self.head_dim)
            writer.add_value_length(self.head_dim)
            writer.add_rope_freq_base(1e11)
            return
        attends = [self.kv_heads if i in self.attends else 0 for i in range(self.layers)]
        writer.add_head_count_kv(attends)
        writer.add_rope_scaling_finetuned(False)
        writer.add_attention_scale(1 / self.head_dim)
        writer.add_embedding_scale(12.0)
        writer.add_residual_scale(0.22)
        writer.add_logit_scale(6.0)
        writer.add_expert_count(self.experts)
        writer.add_expert_used_count(self.used)
        writer.add_expert_shared_feed_forward_length(self.shared)

    def tensors(self) -> Tensors:
        """Name and shape of every tensor."""
        d = self.d_model
        yield "token_embd.weight", (self.vocabulary, d)
        yield "output_norm.weight", (d,)
        if self._parallel:
            yield "output.weight", (self.vocabulary, d)
        for layer in range(self.layers):
            block = f"blk.{layer}."
            yield block + "attn_norm.weight", (d,)
            if self._parallel or layer in self.attends:
                yield from self._attention(block)
            if self._parallel or layer not in self.attends:
                yield from self._scan(block)
            yield (block + "ffn_norm" if self._parallel else block + "ffn_norm.weight"), (d,)
            yield from self._network(block)

    def plain(self, name: str, dims: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """As Mamba-2 begins its training: rates −1 … −16, time steps of about 0.001 to 0.1."""
        if name.endswith("ssm_a"):
            return -rng.uniform(1, 16, dims).astype(np.float32)
        if name.endswith("ssm_dt.bias"):
            return rng.uniform(-6.9, -2.2, dims).astype(np.float32)
        if name.endswith((".bias", "ssm_conv1d.weight", "ffn_gate_inp.weight")):
            return (rng.standard_normal(dims) * dims[-1] ** -0.5).astype(np.float32)
        return near_one(dims, rng)

    def _attention(self, block: str) -> Tensors:
        width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        yield block + "attn_q.weight", (width, self.d_model)
        yield block + "attn_k.weight", (kv_width, self.d_model)
        yield block + "attn_v.weight", (kv_width, self.d_model)
        yield block + "attn_output.weight", (self.d_model, width)

    def _scan(self, block: str) -> Tensors:
        inner, heads = self.inner, self.scan_heads
        convolved = inner + 2 * self.groups * self.state
        yield block + "ssm_in.weight", (inner + convolved + heads, self.d_model)
        yield block + "ssm_conv1d.weight", (convolved, self.conv)
        yield block + "ssm_conv1d.bias", (convolved,)
        yield block + "ssm_dt.bias", (heads,)
        yield block + "ssm_a", (heads, 1)
        yield block + "ssm_d", (heads, 1)
        if not self._parallel:
            yield block + "ssm_norm.weight", (self.groups, inner // self.groups)
        yield block + "ssm_out.weight", (self.d_model, inner)

    def _network(self, block: str) -> Tensors:
        d, width, n = self.d_model, self.feed_forward, self.experts
        if n:
            yield block + "ffn_gate_inp.weight", (n, d)
            yield block + "ffn_gate_exps.weight", (n, width, d)
            yield block + "ffn_up_exps.weight", (n, width, d)
            yield block + "ffn_down_exps.weight", (n, d, width)
        suffix, width = ("_shexp", self.shared) if n else ("", width)
        yield f"{block}ffn_gate{suffix}.weight", (width, d)
        yield f"{block}ffn_up{suffix}.weight", (width, d)
        yield f"{block}ffn_down{suffix}.weight", (d, width)


@dataclass(frozen=True)
class Qwen35:
    """Qwen 3.5, dense: the gated delta rule in all but every fourth layer, which attends."""

    layers: int
    d_model: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int = 256
    vocabulary: int = 248320
    context: int = 262144
    key_heads: int = 16
    value_heads: int = 16
    state: int = 128
    """Channels of a key and of a value."""
    taps: int = 4
    period: int = 4

    architecture = "qwen35"

    @property
    def convolved(self) -> int:
        return (2 * self.key_heads + self.value_heads) * self.state

    def metadata(self, writer: gguf.GGUFWriter) -> None:
        """The keys that llama.cpp's converter writes for the model."""
        writer.add_context_length(self.context)
        writer.add_embedding_length(self.d_model)
        writer.add_block_count(self.layers)
        writer.add_feed_forward_length(self.feed_forward)
        writer.add_head_count(self.heads)
        writer.add_head_count_kv(self.kv_heads)
        writer.add_key_length(self.head_dim)
        writer.add_value_length(self.head_dim)
        writer.add_layer_norm_rms_eps(1e-6)
        writer.add_rope_freq_base(1e7)
        writer.add_rope_dimension_count(self.head_dim // 4)
        writer.add_rope_dimension_sections([11, 11, 10, 0])
        writer.add_ssm_conv_kernel(self.taps)
        writer.add_ssm_state_size(self.state)
        writer.add_ssm_group_count(self.key_heads)
        writer.add_ssm_time_step_rank(self.value_heads)
        writer.add_ssm_inner_size(self.value_heads * self.state)
        writer.add_full_attention_interval(self.period)
        writer.add_vocab_size(self.vocabulary)

    def tensors(self) -> Tensors:
        """Name and shape of every tensor."""
        d, values = self.d_model, self.value_heads * self.state
        yield "token_embd.weight", (self.vocabulary, d)
        yield "output_norm.weight", (d,)
        for layer in range(self.layers):
            block = f"blk.{layer}."
            yield block + "attn_norm.weight", (d,)
            yield block + "post_attention_norm.weight", (d,)
            if (layer + 1) % self.period == 0:
                yield block + "attn_q.weight", (2 * self.heads * self.head_dim, d)
                yield block + "attn_k.weight", (self.kv_heads * self.head_dim, d)
                yield block + "attn_v.weight", (self.kv_heads * self.head_dim, d)
                yield block + "attn_q_norm.weight", (self.head_dim,)
                yield block + "attn_k_norm.weight", (self.head_dim,)
                yield block + "attn_output.weight", (d, self.heads * self.head_dim)
            else:
                yield block + "attn_qkv.weight", (self.convolved, d)
                yield block + "attn_gate.weight", (values, d)
                yield block + "ssm_beta.weight", (self.value_heads, d)
                yield block + "ssm_alpha.weight", (self.value_heads, d)
                yield block + "ssm_conv1d.weight", (self.convolved, self.taps)
                yield block + "ssm_a", (self.value_heads,)
                yield block + "ssm_dt.bias", (self.value_heads,)
                yield block + "ssm_norm.weight", (self.state,)
                yield block + "ssm_out.weight", (d, values)
            yield block + "ffn_gate.weight", (self.feed_forward, d)
            yield block + "ffn_up.weight", (self.feed_forward, d)
            yield block + "ffn_down.weight", (d, self.feed_forward)

    def plain(self, name: str, dims: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """As it begins its training: rates −1 to −16, time steps of about 0.001 to 0.1."""
        if name.endswith("ssm_a"):
            return -rng.uniform(1, 16, dims).astype(np.float32)
        if name.endswith("ssm_dt.bias"):
            return rng.uniform(-6.9, -2.2, dims).astype(np.float32)
        if name.endswith("ssm_conv1d.weight"):
            return (rng.standard_normal(dims) * dims[-1] ** -0.5).astype(np.float32)
        return near_one(dims, rng)


@dataclass(frozen=True)
class Lfm2:
    """LFM2-1.2B: short convolutions, attention in six of its layers."""

    layers: int = 16
    d_model: int = 2048
    feed_forward: int = 8192
    heads: int = 32
    kv_heads: int = 8
    attends: tuple[int, ...] = (2, 5, 8, 10, 12, 14)
    taps: int = 3
    vocabulary: int = 65536
    context: int = 128000

    architecture = "lfm2"

    def metadata(self, writer: gguf.GGUFWriter) -> None:
        """The keys that llama.cpp's converter writes for the model."""
        writer.add_context_length(self.context)
        writer.add_embedding_length(self.d_model)
        writer.add_block_count(self.layers)
        writer.add_feed_forward_length(self.feed_forward)
        writer.add_head_count(self.heads)
        counts = [self.kv_heads if i in self.attends else 0 for i in range(self.layers)]
        writer.add_head_count_kv(counts)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_freq_base(1e6)
        writer.add_shortconv_l_cache(self.taps)
        writer.add_vocab_size(self.vocabulary)

    def tensors(self) -> Tensors:
        """Name and shape of every tensor."""
        d, head = self.d_model, self.d_model // self.heads
        yield "token_embd.weight", (self.vocabulary, d)
        yield "token_embd_norm.weight", (d,)
        for layer in range(self.layers):
            block = f"blk.{layer}."
            yield block + "attn_norm.weight", (d,)
            yield block + "ffn_norm.weight", (d,)
            if layer in self.attends:
                yield block + "attn_q.weight", (d, d)
                yield block + "attn_k.weight", (self.kv_heads * head, d)
                yield block + "attn_v.weight", (self.kv_heads * head, d)
                yield block + "attn_q_norm.weight", (head,)
                yield block + "attn_k_norm.weight", (head,)
                yield block + "attn_output.weight", (d, d)
            else:
                yield block + "shortconv.in_proj.weight", (3 * d, d)
                yield block + "shortconv.conv.weight", (d, self.taps)
                yield block + "shortconv.out_proj.weight", (d, d)
            yield block + "ffn_gate.weight", (self.feed_forward, d)
            yield block + "ffn_up.weight", (self.feed_forward, d)
            yield block + "ffn_down.weight", (d, self.feed_forward)

    def plain(self, name: str, dims: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Norm weights near 1, and convolutions."""
        if name.endswith("conv.weight"):
            return (rng.standard_normal(dims) * dims[-1] ** -0.5).astype(np.float32)
        return near_one(dims, rng)


def _norm(name: str, width: int) -> Tensors:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def near_one(dims: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A norm's weights."""
    return (1.0 + 0.1 * rng.standard_normal(dims)).astype(np.float32)
