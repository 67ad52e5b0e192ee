"""A small T5 in torch (version 1.1): gated GELU, positions by a bias on the scores alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.gemma import RMSNorm

if TYPE_CHECKING:
    from gguf import GGUFWriter

FARTHEST = 128  # distances from here on share the last bucket: fixed by the file format
NEIGHBOUR = 5.0  # on the score of a neighbour at first
START = 0  # the decoder's first token, which is also padding


@dataclass(frozen=True)
class T5Config:
    n_vocab: int
    context_length: int
    d_model: int = 128
    n_encoder: int = 2
    n_decoder: int = 2
    n_heads: int = 4
    head_dim: int = 32
    d_ff: int = 256
    n_buckets: int = 32
    norm_eps: float = 1e-6
    dropout: float = 0.05


def buckets(n_queries: int, n_keys: int, n_buckets: int, causal: bool) -> Tensor:
    """The bucket of each key's distance from each query, int64 [n_queries, n_keys].

    Half of the buckets are exact distances, the others grow by powers up to FARTHEST; where
    queries see both sides, either has half of all (Raffel et al. 2020, section 2.1, and its code).
    """
    ahead = torch.arange(n_keys) - torch.arange(n_queries)[:, None]
    if causal:
        side, distance = torch.zeros_like(ahead), (-ahead).clamp(min=0)
    else:
        n_buckets //= 2
        side, distance = (ahead > 0) * n_buckets, ahead.abs()
    exact = n_buckets // 2
    growth = (distance.clamp(min=1).float() / exact).log() / math.log(FARTHEST / exact)
    far = (exact + (growth * (n_buckets - exact)).long()).clamp(max=n_buckets - 1)
    return side + torch.where(distance < exact, distance, far)


class Attention(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        d, inner = config.d_model, config.n_heads * config.head_dim
        self.n_heads = config.n_heads
        self.norm = RMSNorm(d, config.norm_eps)
        self.q = nn.Linear(d, inner, bias=False)
        self.k = nn.Linear(d, inner, bias=False)
        self.v = nn.Linear(d, inner, bias=False)
        self.o = nn.Linear(inner, d, bias=False)
        nn.init.normal_(self.q.weight, std=(d * config.head_dim) ** -0.5)  # scores aren't scaled
        nn.init.normal_(self.k.weight, std=d**-0.5)
        nn.init.normal_(self.v.weight, std=d**-0.5)
        nn.init.normal_(self.o.weight, std=inner**-0.5)

    def forward(self, x: Tensor, bias: Tensor, memory: Tensor | None = None) -> Tensor:
        """x: [B, T, d_model]; bias, added to scores: [B or 1, heads or 1, T, S] -> as x.

        Keys are of x itself, or of ``memory`` [B, S, d_model].
        """
        y = self.norm(x)
        source = y if memory is None else memory
        q, k, v = (
            part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for part in (self.q(y), self.k(source), self.v(source))
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=1.0)
        return self.o(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        d = config.d_model
        self.norm = RMSNorm(d, config.norm_eps)
        self.gate = nn.Linear(d, config.d_ff, bias=False)
        self.up = nn.Linear(d, config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, d, bias=False)
        nn.init.normal_(self.gate.weight, std=d**-0.5)
        nn.init.normal_(self.up.weight, std=d**-0.5)
        nn.init.normal_(self.down.weight, std=config.d_ff**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return self.down(F.gelu(self.gate(y), approximate="tanh") * self.up(y))


class Layer(nn.Module):
    def __init__(self, config: T5Config, crosses: bool) -> None:
        super().__init__()
        self.attn = Attention(config)
        self.cross_attn = Attention(config) if crosses else None
        self.ffn = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, bias: Tensor, memory: Tensor | None = None, shown: Tensor | None = None
    ) -> Tensor:
        x = x + self.dropout(self.attn(x, bias))
        if self.cross_attn is not None:
            x = x + self.dropout(self.cross_attn(x, shown, memory))
        return x + self.dropout(self.ffn(x))


class Half(nn.Module):
    """Encoder or decoder; the bias by distance is the first layer's, and all layers use it."""

    def __init__(self, config: T5Config, n_layers: int, causal: bool) -> None:
        super().__init__()
        self.config, self.causal = config, causal
        self.relative = nn.Embedding(config.n_buckets, config.n_heads)
        nn.init.normal_(self.relative.weight, std=config.d_model**-0.5)
        # The first heads begin with their neighbours: what comes before a token is what copying
        # goes by, and else it takes long to be found.
        near = [(0, -1)] if causal else [(0, -1), (1, 1)]
        around = buckets(3, 3, config.n_buckets, causal)[1]
        for head, side in near:
            self.relative.weight.data[around[1 + side], head] = NEIGHBOUR
        self.layers = nn.ModuleList(Layer(config, crosses=causal) for _ in range(n_layers))
        self.output_norm = RMSNorm(config.d_model, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, shown: Tensor | None, memory: Tensor | None = None) -> Tensor:
        """shown: 0 or -inf, [B, 1, 1, S], of the encoder's tokens."""
        length = x.shape[1]
        ids = buckets(length, length, self.config.n_buckets, self.causal)
        bias = self.relative(ids).permute(2, 0, 1)[None]
        if self.causal:
            bias = bias + torch.full((length, length), float("-inf")).triu(1)
        else:
            bias = bias + shown
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x, bias, memory, shown)
        return self.output_norm(x)


class T5(nn.Module):
    """tokens int64 [B, S], which are no padding, bool [B, S], and the answer's tokens from START
    on, int64 [B, T] -> logits float32 [B, T, n_vocab]."""

    architecture = "t5"

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.n_vocab, config.d_model)
        nn.init.normal_(self.embedding.weight, std=0.3)
        self.encoder = Half(config, config.n_encoder, causal=False)
        self.decoder = Half(config, config.n_decoder, causal=True)

    def forward(self, tokens: Tensor, real: Tensor, answer: Tensor) -> Tensor:
        shown = torch.zeros(real.shape).masked_fill(~real, float("-inf"))[:, None, None]
        memory = self.encoder(self.embedding(tokens), shown)
        y = self.decoder(self.embedding(answer), shown, memory)
        return F.linear(y * self.config.d_model**-0.5, self.embedding.weight).float()

    def add_metadata(self, writer: GGUFWriter) -> None:
        """Write the configuration under the names llama.cpp gives it."""
        c = self.config
        writer.add_context_length(c.context_length)
        writer.add_embedding_length(c.d_model)
        writer.add_feed_forward_length(c.d_ff)
        writer.add_block_count(c.n_encoder)
        writer.add_decoder_block_count(c.n_decoder)
        writer.add_head_count(c.n_heads)
        writer.add_key_length(c.head_dim)
        writer.add_value_length(c.head_dim)
        writer.add_layer_norm_eps(c.norm_eps)
        writer.add_relative_attn_buckets_count(c.n_buckets)
        writer.add_layer_norm_rms_eps(c.norm_eps)
        writer.add_decoder_start_token_id(START)

    def named_weights(self) -> dict[str, Tensor]:
        """Every weight under the name llama.cpp gives it; the head is tied to the embedding."""
        weights = {"token_embd": self.embedding.weight}
        for side, half in (("enc", self.encoder), ("dec", self.decoder)):
            weights[f"{side}.blk.0.attn_rel_b"] = half.relative.weight
            weights[f"{side}.output_norm"] = half.output_norm.weight
            for i, layer in enumerate(half.layers):
                for part, module in layer.named_children():
                    for name, inner in module.named_children():
                        weights[f"{side}.blk.{i}.{part}_{name}"] = inner.weight
        return {f"{name}.weight": weight for name, weight in weights.items()}
