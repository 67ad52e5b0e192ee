"""jina-bert-v2, which transformers does not have, against its formulas in float64."""

from math import erf
from pathlib import Path

import numpy as np
import pytest

from motet import Batch, Model
from motet.weights.gguf import GGUFFile
from tests.models.tiny import VOCAB, metadata, write
from tests.parity.common import KERNELS

HEADS, WIDTH, EPS = 6, 24, 1e-3
SLOPES = np.array([2**-2.0, 2**-4.0, 2**-6.0, 2**-8.0, 2**-1.0, 2**-3.0])
"""Of 6 heads: those of 4, then every other one of those of 8 (Press et al. 2021)."""


def expected(tensors: dict[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
    """States ``[T, d_model]`` (Günther et al. 2023, arXiv 2310.19923, §3)."""

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(axis=1, keepdims=True)
        out = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPS)
        return out * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    gelu = np.vectorize(lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))))
    away = np.abs(np.subtract.outer(np.arange(len(tokens)), np.arange(len(tokens))))
    x = norm(
        tensors["token_embd.weight"][tokens] + tensors["token_types.weight"][0], "token_embd_norm"
    )
    for i in range(2):

        def linear(x: np.ndarray, name: str, block: str = f"blk.{i}.") -> np.ndarray:
            return x @ tensors[f"{block}{name}.weight"].T + tensors.get(f"{block}{name}.bias", 0)

        q, k, v = (linear(x, f"attn_{n}").reshape(len(x), HEADS, -1).swapaxes(0, 1) for n in "qkv")
        scores = q @ k.swapaxes(1, 2) / np.sqrt(WIDTH / HEADS) - SLOPES[:, None, None] * away
        weights = np.exp(scores - scores.max(axis=2, keepdims=True))
        mixed = weights / weights.sum(axis=2, keepdims=True) @ v
        h = linear(mixed.swapaxes(0, 1).reshape(x.shape), "attn_output")
        x = norm(x + h, f"blk.{i}.attn_output_norm")
        h = linear(gelu(linear(x, "ffn_gate")) * linear(x, "ffn_up"), "ffn_down")
        x = norm(x + h, f"blk.{i}.layer_output_norm")
    return x


@pytest.mark.parametrize("kernels", KERNELS)
def test_states(kernels: str, tmp_path: Path) -> None:
    sizes = {"embedding_length": WIDTH, "attention__head_count": HEADS}
    keys = metadata("jina-bert-v2", **sizes, attention__layer_norm_epsilon=EPS)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (VOCAB, WIDTH),
        "token_types.weight": (2, WIDTH),
        **{f"token_embd_norm.{part}": (WIDTH,) for part in ("weight", "bias")},
    }
    for i in range(2):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes[f"blk.{i}.{name}.weight"] = WIDTH, WIDTH
            shapes[f"blk.{i}.{name}.bias"] = (WIDTH,)
        for name in ("attn_output_norm", "layer_output_norm"):
            shapes |= {f"blk.{i}.{name}.{part}": (WIDTH,) for part in ("weight", "bias")}
        shapes[f"blk.{i}.ffn_gate.weight"] = shapes[f"blk.{i}.ffn_up.weight"] = 24, WIDTH
        shapes[f"blk.{i}.ffn_down.weight"] = WIDTH, 24
        shapes[f"blk.{i}.ffn_down.bias"] = (WIDTH,)
    path = write(tmp_path / "m.gguf", keys, shapes)
    tokens = np.random.default_rng(4).integers(0, VOCAB, 90)
    with GGUFFile.open(path) as file:
        tensors = {
            name: file.read_rows(name, 0, info.rows, np.empty(info.nbytes, np.uint8))
            .view(np.float32)
            .reshape(info.shape)
            .astype(np.float64)
            for name, info in file.tensors.items()
        }
        model = Model(file, KERNELS[kernels]())
    batch = Batch()
    batch.extend(tokens, 0, logits="all")
    hidden = model.context(pooling="none").encode(batch).hidden
    assert hidden is not None
    np.testing.assert_allclose(hidden, expected(tensors, tokens), rtol=0, atol=3e-5)
