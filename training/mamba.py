"""A small Mamba in torch, and the mixer that Jamba shares."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.gemma import RMSNorm
from training.scan import selective_scan

if TYPE_CHECKING:
    from gguf import GGUFWriter

DT_RANGE = (1e-3, 0.1)  # time steps of a fresh mixer, as in the Mamba paper


@dataclass(frozen=True)
class MixerConfig:
    d_model: int = 128
    d_inner: int = 256
    d_state: int = 8
    d_conv: int = 4
    dt_rank: int = 8

    def add_metadata(self, writer: GGUFWriter) -> None:
        writer.add_ssm_conv_kernel(self.d_conv)
        writer.add_ssm_inner_size(self.d_inner)
        writer.add_ssm_state_size(self.d_state)
        writer.add_ssm_time_step_rank(self.dt_rank)


@dataclass(frozen=True)
class MambaConfig:
    n_vocab: int
    context_length: int
    mixer: MixerConfig = field(default_factory=MixerConfig)
    n_layers: int = 6
    norm_eps: float = 1e-5
    dropout: float = 0.05


class Mixer(nn.Module):
    """Mamba's mixer; ``inner_norm_eps`` gives it Jamba's norms of dt, B and C."""

    def __init__(self, config: MixerConfig, inner_norm_eps: float | None = None) -> None:
        super().__init__()
        self.config = c = config
        self.input = nn.Linear(c.d_model, 2 * c.d_inner, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(c.d_inner, c.d_conv))
        self.conv_bias = nn.Parameter(torch.zeros(c.d_inner))
        self.x = nn.Linear(c.d_inner, c.dt_rank + 2 * c.d_state, bias=False)
        self.dt = nn.Linear(c.dt_rank, c.d_inner)
        self.log_a = nn.Parameter(torch.arange(1.0, c.d_state + 1).log().repeat(c.d_inner, 1))
        self.d = nn.Parameter(torch.ones(c.d_inner))
        self.output = nn.Linear(c.d_inner, c.d_model, bias=False)
        self.norms = nn.ModuleDict()
        if inner_norm_eps is not None:
            for name, size in (("dt", c.dt_rank), ("b", c.d_state), ("c", c.d_state)):
                self.norms[name] = RMSNorm(size, inner_norm_eps)

    def reset_parameters(self) -> None:
        """What the Mamba paper starts from: slow and fast channels, A = -1, -2, … -d_state."""
        c = self.config
        nn.init.uniform_(self.conv_weight, -(c.d_conv**-0.5), c.d_conv**-0.5)
        nn.init.uniform_(self.dt.weight, -(c.dt_rank**-0.5), c.dt_rank**-0.5)
        low, high = (math.log(value) for value in DT_RANGE)
        step = torch.exp(low + (high - low) * torch.rand(c.d_inner))
        self.dt.bias.data = step + torch.log(-torch.expm1(-step))  # softplus undone
        self.log_a.data = torch.arange(1.0, c.d_state + 1).log().repeat(c.d_inner, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, T, d_model] -> [B, T, d_model]."""
        c = self.config
        x, gate = self.input(x).float().chunk(2, -1)
        padded = F.pad(x, (0, 0, c.d_conv - 1, 0))
        length = x.shape[1]
        mixed = self.conv_bias.expand_as(x)
        for k in range(c.d_conv):
            mixed = torch.addcmul(mixed, padded[:, k : k + length], self.conv_weight[:, k])
        x = F.silu(mixed)
        dt, b, cc = self.x(x).float().split([c.dt_rank, c.d_state, c.d_state], -1)
        if self.norms:
            dt, b, cc = self.norms["dt"](dt), self.norms["b"](b), self.norms["c"](cc)
        dt = F.softplus(self.dt(dt).float())
        y = selective_scan(x, dt, -self.log_a.exp().t(), b, cc)
        return self.output((y + self.d * x) * F.silu(gate))

    def named_weights(self) -> dict[str, Tensor]:
        """Every tensor of a layer's mixer under the name llama.cpp gives it."""
        return {
            "ssm_in.weight": self.input.weight,
            "ssm_conv1d.weight": self.conv_weight,
            "ssm_conv1d.bias": self.conv_bias,
            "ssm_x.weight": self.x.weight,
            "ssm_dt.weight": self.dt.weight,
            "ssm_dt.bias": self.dt.bias,
            "ssm_a": -self.log_a.exp(),
            "ssm_d": self.d,
            "ssm_out.weight": self.output.weight,
            **{f"ssm_{name}_norm.weight": norm.weight for name, norm in self.norms.items()},
        }


def initialize(model: nn.Module, embedding: nn.Embedding) -> None:
    """Small matrices, an embedding whose tied head gives logits of size 1, and fresh mixers."""
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            nn.init.normal_(parameter, std=0.04)
    nn.init.normal_(embedding.weight, std=embedding.embedding_dim**-0.5)
    for module in model.modules():
        if isinstance(module, Mixer):
            module.reset_parameters()


class Layer(nn.Module):
    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        self.norm = RMSNorm(config.mixer.d_model, config.norm_eps)
        self.mixer = Mixer(config.mixer)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.mixer(self.norm(x)))


class Mamba(nn.Module):
    """tokens int64 [B, T] -> logits float32 [B, T, n_vocab]."""

    architecture = "mamba"

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.n_vocab, config.mixer.d_model)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.output_norm = RMSNorm(config.mixer.d_model, config.norm_eps)
        initialize(self, self.embedding)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return F.linear(self.output_norm(x), self.embedding.weight).float()

    def auxiliary_loss(self) -> float:
        return 0.0

    def add_metadata(self, writer: GGUFWriter) -> None:
        """Write the configuration under the names llama.cpp gives it."""
        c = self.config
        writer.add_context_length(c.context_length)
        writer.add_embedding_length(c.mixer.d_model)
        writer.add_feed_forward_length(0)
        writer.add_head_count(0)
        writer.add_block_count(c.n_layers)
        writer.add_layer_norm_rms_eps(c.norm_eps)
        writer.add_ssm_dt_b_c_rms(False)
        c.mixer.add_metadata(writer)

    def named_weights(self) -> dict[str, Tensor]:
        """Every tensor under the name llama.cpp gives it; the head is tied to the embedding."""
        weights = {
            "token_embd.weight": self.embedding.weight,
            "output_norm.weight": self.output_norm.weight,
        }
        for i, layer in enumerate(self.layers):
            weights[f"blk.{i}.attn_norm.weight"] = layer.norm.weight
            for name, weight in layer.mixer.named_weights().items():
                weights[f"blk.{i}.{name}"] = weight
        return weights
