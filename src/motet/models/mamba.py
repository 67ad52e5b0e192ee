"""Mamba-1 and Falcon-Mamba (Gu, Dao 2023, arXiv 2312.00752; Zuo et al. 2024, arXiv 2410.05355)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from motet.kernels.slots import RecurrentState
from motet.models.family import View
from motet.models.keys import Keys
from motet.models.recurrent_config import MambaConfig, read_mamba
from motet.models.tensors import Expected, Shapes, gather, output_shape

ARRAYS = frozenset({"ssm_a", "ssm_d", "ssm_conv1d.weight"})


@dataclass(frozen=True, slots=True)
class Block:
    """One layer's tensors, by their GGUF names; ``ssm_a`` is transposed, ``[d_state, d_inner]``."""

    attn_norm: np.ndarray
    ssm_in: Any
    ssm_conv1d: np.ndarray
    ssm_conv1d_bias: np.ndarray | None
    ssm_x: Any
    ssm_dt: Any
    ssm_dt_bias: np.ndarray
    ssm_a: np.ndarray
    ssm_d: np.ndarray
    ssm_out: Any
    ssm_dt_norm: np.ndarray | None
    ssm_b_norm: np.ndarray | None
    ssm_c_norm: np.ndarray | None


class Mamba:
    """The ``mamba`` architecture: nothing but Mamba layers."""

    def __init__(self, config: MambaConfig, tensors: Mapping[str, Any], kernels: Any) -> None:
        self.config = config
        self.kernels = kernels
        self.layers = config.layer_specs()
        blocks = [gather_mamba(tensors, i) for i in range(config.n_layers)]
        self.blocks = [_unit_norms(b, config) for b in blocks] if config.dt_b_c_norm else blocks
        self.token_embd = tensors["token_embd.weight"]
        self.output_norm = tensors["output_norm.weight"]
        self.output = tensors.get("output.weight", self.token_embd)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> MambaConfig:
        """The settings."""
        return read_mamba(keys, n_vocab)

    @staticmethod
    def expected_tensors(config: MambaConfig) -> Expected:
        """Names and shapes."""
        d = config.d_model
        required: Shapes = {"token_embd.weight": (config.n_vocab, d), "output_norm.weight": (d,)}
        optional = output_shape(config)
        for i in range(config.n_layers):
            required |= mamba_shapes(config, i)
            optional[f"blk.{i}.ssm_conv1d.bias"] = (config.d_inner,)
        return Expected(required, optional, ARRAYS)

    def forward(self, tokens: np.ndarray, view: View, wanted: np.ndarray) -> np.ndarray:
        """Logits float32 ``[R, n_vocab]`` of the rows ``wanted`` (int64 ``[R]``) of ``tokens``.

        ``tokens``: int32 ``[T]``. ``view``: what each layer reads and writes of memory.
        """
        config, kernels = self.config, self.kernels
        x = kernels.embedding(self.token_embd, tokens)
        last = config.n_layers - 1
        for i, block in enumerate(self.blocks):
            h = kernels.rms_norm(x, block.attn_norm, config.norm_eps)
            h = mix(kernels, config, block, h, view.layer(i))
            if i == last:
                x, h = x[wanted], h[wanted]
            x += kernels.linear(h, block.ssm_out)[0]
        h = kernels.rms_norm(x, self.output_norm, config.norm_eps)
        return kernels.linear(h, self.output)[0]


def mix(
    kernels: Any, config: MambaConfig, block: Block, h: np.ndarray, state: RecurrentState
) -> np.ndarray:
    """A Mamba layer up to its output matrix: ``[T, d_model]``, normalised, to ``[T, d_inner]``."""
    tails, states = state.arrays
    inner, rank, n = config.d_inner, config.dt_rank, config.d_state
    (h,) = kernels.linear(h, block.ssm_in)
    x, z = h[:, :inner], h[:, inner:]
    x = kernels.causal_conv(x, block.ssm_conv1d, block.ssm_conv1d_bias, tails, state.runs, "silu")
    (h,) = kernels.linear(x, block.ssm_x)
    dt, b, c = h[:, :rank], h[:, rank : rank + n], h[:, rank + n :]
    dt = np.ascontiguousarray(dt)
    if block.ssm_dt_norm is not None:
        dt = kernels.rms_norm(dt, block.ssm_dt_norm, config.norm_eps)
        b = kernels.rms_norm(np.ascontiguousarray(b), block.ssm_b_norm, config.norm_eps)
        c = kernels.rms_norm(np.ascontiguousarray(c), block.ssm_c_norm, config.norm_eps)
    (dt,) = kernels.linear(dt, block.ssm_dt)
    return kernels.selective_scan(
        x, dt, block.ssm_dt_bias, block.ssm_a, b, c, block.ssm_d, states, state.runs, z
    )


def mamba_shapes(config: MambaConfig, layer: int) -> Shapes:
    """What every Mamba layer has; the convolution may have a bias, ``ssm_conv1d.bias``, too."""
    d, inner, rank, n = config.d_model, config.d_inner, config.dt_rank, config.d_state
    block = f"blk.{layer}."
    return {
        block + "attn_norm.weight": (d,),
        block + "ssm_in.weight": (2 * inner, d),
        block + "ssm_conv1d.weight": (inner, config.d_conv),
        block + "ssm_x.weight": (rank + 2 * n, inner),
        block + "ssm_dt.weight": (inner, rank),
        block + "ssm_dt.bias": (inner,),
        block + "ssm_a": (inner, n),
        block + "ssm_d": (inner,),
        block + "ssm_out.weight": (d, inner),
    }


def gather_mamba(tensors: Mapping[str, Any], layer: int) -> Block:
    """A layer's tensors, with the scan's rates as its kernel reads them."""
    block = gather(Block, tensors, layer)
    return replace(block, ssm_a=np.ascontiguousarray(block.ssm_a.T))


def _unit_norms(block: Block, config: MambaConfig) -> Block:
    """Falcon-Mamba's norms, which have no weights."""
    of_state = np.ones(config.d_state, np.float32)
    of_step = np.ones(config.dt_rank, np.float32)
    return replace(block, ssm_dt_norm=of_step, ssm_b_norm=of_state, ssm_c_norm=of_state)
