"""A small Jamba in torch: Mamba layers, an attention layer now and then, experts on every other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.gemma import RMSNorm
from training.mamba import Mixer, MixerConfig, initialize

if TYPE_CHECKING:
    from gguf import GGUFWriter

BALANCE = 0.01  # weight of the loss that keeps every expert in use


@dataclass(frozen=True)
class JambaConfig:
    n_vocab: int
    context_length: int
    mixer: MixerConfig = field(default_factory=MixerConfig)
    n_layers: int = 6
    attention_every: int = 3  # layers 2, 5, …
    experts_every: int = 2  # layers 1, 3, …
    n_heads: int = 4
    n_kv_heads: int = 2
    head_dim: int = 32
    d_ff: int = 192
    n_experts: int = 4
    n_experts_used: int = 2
    norm_eps: float = 1e-6
    dropout: float = 0.05

    def is_attention(self, layer: int) -> bool:
        return (layer + 1) % self.attention_every == 0

    def has_experts(self, layer: int) -> bool:
        return (layer + 1) % self.experts_every == 0


class Attention(nn.Module):
    """Causal attention that knows no positions: the Mamba layers below tell the order."""

    def __init__(self, config: JambaConfig) -> None:
        super().__init__()
        self.config = c = config
        d = c.mixer.d_model
        self.q = nn.Linear(d, c.n_heads * c.head_dim, bias=False)
        self.k = nn.Linear(d, c.n_kv_heads * c.head_dim, bias=False)
        self.v = nn.Linear(d, c.n_kv_heads * c.head_dim, bias=False)
        self.output = nn.Linear(c.n_heads * c.head_dim, d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, T, d_model] -> [B, T, d_model]."""
        heads = (*x.shape[:2], -1, self.config.head_dim)
        groups = self.config.n_heads // self.config.n_kv_heads
        q = self.q(x).view(heads).transpose(1, 2)
        k = self.k(x).view(heads).transpose(1, 2).repeat_interleave(groups, 1)
        v = self.v(x).view(heads).transpose(1, 2).repeat_interleave(groups, 1)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def named_weights(self) -> dict[str, Tensor]:
        return {
            "attn_q.weight": self.q.weight,
            "attn_k.weight": self.k.weight,
            "attn_v.weight": self.v.weight,
            "attn_output.weight": self.output.weight,
        }


class FeedForward(nn.Module):
    def __init__(self, config: JambaConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.mixer.d_model, config.d_ff, bias=False)
        self.up = nn.Linear(config.mixer.d_model, config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, config.mixer.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))

    def named_weights(self) -> dict[str, Tensor]:
        return {
            "ffn_gate.weight": self.gate.weight,
            "ffn_up.weight": self.up.weight,
            "ffn_down.weight": self.down.weight,
        }


class Experts(nn.Module):
    """A softmax over all experts; the likeliest few answer, with their shares as they are."""

    def __init__(self, config: JambaConfig) -> None:
        super().__init__()
        d, n = config.mixer.d_model, config.n_experts
        self.used = config.n_experts_used
        self.router = nn.Parameter(torch.empty(n, d))
        self.gate = nn.Parameter(torch.empty(n, config.d_ff, d))
        self.up = nn.Parameter(torch.empty(n, config.d_ff, d))
        self.down = nn.Parameter(torch.empty(n, d, config.d_ff))
        self.imbalance: Tensor | float = 0.0  # of the latest tokens; 1 when all experts share alike

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, T, d_model] -> [B, T, d_model]."""
        tokens = x.flatten(0, 1).float()
        with torch.autocast("cpu", enabled=False):
            shares = F.linear(tokens, self.router).softmax(-1)
        weights, chosen = shares.topk(self.used, -1)
        result = torch.zeros_like(tokens)
        counts = []
        for e in range(len(self.router)):
            rows, rank = (chosen == e).nonzero(as_tuple=True)
            counts.append(len(rows))
            own = tokens[rows]
            hidden = F.silu(F.linear(own, self.gate[e])) * F.linear(own, self.up[e])
            answer = F.linear(hidden, self.down[e]).float() * weights[rows, rank, None]
            result = result.index_add(0, rows, answer)
        load = torch.tensor(counts) / (len(tokens) * self.used)
        self.imbalance = len(counts) * (load * shares.mean(0)).sum()
        return result.view_as(x)

    def named_weights(self) -> dict[str, Tensor]:
        return {
            "ffn_gate_inp.weight": self.router,
            "ffn_gate_exps.weight": self.gate,
            "ffn_up_exps.weight": self.up,
            "ffn_down_exps.weight": self.down,
        }


class Layer(nn.Module):
    def __init__(self, config: JambaConfig, index: int) -> None:
        super().__init__()
        d = config.mixer.d_model
        attention = config.is_attention(index)
        self.mixer_norm = RMSNorm(d, config.norm_eps)
        self.mixer = Attention(config) if attention else Mixer(config.mixer, config.norm_eps)
        self.ffn_norm = RMSNorm(d, config.norm_eps)
        self.ffn = Experts(config) if config.has_experts(index) else FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.mixer(self.mixer_norm(x)))
        return x + self.dropout(self.ffn(self.ffn_norm(x)))


class Jamba(nn.Module):
    """tokens int64 [B, T] -> logits float32 [B, T, n_vocab]."""

    architecture = "jamba"

    def __init__(self, config: JambaConfig) -> None:
        super().__init__()
        self.config = config
        d = config.mixer.d_model
        self.embedding = nn.Embedding(config.n_vocab, d)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.n_layers))
        self.output_norm = RMSNorm(d, config.norm_eps)
        initialize(self, self.embedding)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return F.linear(self.output_norm(x), self.embedding.weight).float()

    def auxiliary_loss(self) -> Tensor:
        """Of the latest tokens: what uneven use of the experts costs."""
        imbalances = [
            layer.ffn.imbalance for layer in self.layers if isinstance(layer.ffn, Experts)
        ]
        return BALANCE * torch.stack(imbalances).mean()

    def add_metadata(self, writer: GGUFWriter) -> None:
        """Write the configuration under the names llama.cpp gives it; no key-value heads: Mamba."""
        c = self.config
        kv_heads = [c.n_kv_heads if c.is_attention(i) else 0 for i in range(c.n_layers)]
        writer.add_block_count(c.n_layers)
        writer.add_context_length(c.context_length)
        writer.add_embedding_length(c.mixer.d_model)
        writer.add_feed_forward_length(c.d_ff)
        writer.add_head_count(c.n_heads)
        writer.add_head_count_kv(kv_heads)
        writer.add_layer_norm_rms_eps(c.norm_eps)
        writer.add_expert_count(c.n_experts)
        writer.add_expert_used_count(c.n_experts_used)
        c.mixer.add_metadata(writer)

    def named_weights(self) -> dict[str, Tensor]:
        """Every tensor under the name llama.cpp gives it; the head is tied to the embedding."""
        weights = {
            "token_embd.weight": self.embedding.weight,
            "output_norm.weight": self.output_norm.weight,
        }
        for i, layer in enumerate(self.layers):
            own = {
                "attn_norm.weight": layer.mixer_norm.weight,
                **layer.mixer.named_weights(),
                "ffn_norm.weight": layer.ffn_norm.weight,
                **layer.ffn.named_weights(),
            }
            weights |= {f"blk.{i}.{name}": weight for name, weight in own.items()}
        return weights
