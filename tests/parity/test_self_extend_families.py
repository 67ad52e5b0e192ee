"""Self-Extend in every family with positions to group, against the paper's formula.

A model is run twice: as it is, and with attention in float64 by a matrix of relative positions, in
a context that knows nothing of Self-Extend. What a family does else is the same in both; its parity
tests hold it to other implementations.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet import Model
from motet.arrays import Float32
from motet.kernels.bias import PositionBias
from motet.kernels.interface import PagedKV
from motet.kernels.reference import Reference
from motet.kernels.rope import Rope
from motet.self_extend import AutoExtend, SelfExtend
from motet.weights.gguf import GGUFFile
from tests.models.tiny import DECODERS, NOT_EXTENDED, metadata, write
from tests.parity.common import tolerance
from tests.parity.extend_reference import Extension, capped, turned
from tests.parity.test_self_extend import TRAINED, decode, extension, load, tokens_of
from tests.shared import SHARED

SOME_SEE_ALL = {"gemma3": {"block_count": 6}, "phi3": {"attention__sliding_window": None}}
"""Changes by which not every layer slides."""
FAMILIES = [name for name in DECODERS if name not in {*NOT_EXTENDED} - {*SOME_SEE_ALL} | {"mpt"}]
"""MPT has biases instead, and a decoder of its own in float64: ``test_self_extend.py``."""
SETTINGS = {SelfExtend(3, 20): 102, SelfExtend(5, 9, scale="log"): 200, AutoExtend(): 200}
GOLDENS = ("gemma4", "gemma4moe", "gptoss", "qwen3", "qwen35", "smollm3", "olmo3", "deepseek3")


class Formula(Reference):
    """Attends to one sequence, given whole, as ``extension`` says where layers see everything."""

    def __init__(self, extension: Extension) -> None:
        super().__init__()
        self.relative, self.factors = extension.relative(), extension.factors()
        self.kept: dict[int, tuple[Float32, Float32]] = {}
        """Keys and values, for layers that read others'."""

    def attention(
        self,
        q: Float32,
        k: Float32 | None,
        v: Float32 | None,
        kv: PagedKV,
        *,
        scale: float,
        window: int = 0,
        softcap: float = 0.0,
        rope: Rope | None = None,
        bias: PositionBias | None = None,
        latent: int = 0,
        sinks: Float32 | None = None,
    ) -> Float32:
        assert bias is None and kv.extended is None
        if k is not None:
            self.kept[id(kv.pages)] = k, k[..., -latent:] if v is None else v
        k, v = self.kept[id(kv.pages)]
        count, heads, kv_heads = len(q), q.shape[1], k.shape[1]
        distance = np.arange(count)[:, None] - np.arange(count)
        seen = (distance >= 0) & (distance < (window or count))
        relative, factors = distance * (distance > 0), np.ones(count)
        if rope is not None and not window:
            relative, factors = self.relative, self.factors
        out = np.empty((count, heads, v.shape[2]))
        for head in range(heads):
            of = head * kv_heads // heads
            pair = q[:, head].astype(np.float64), k[:, of].astype(np.float64)
            if rope is None:
                scores = pair[0] @ pair[1].T
            else:
                interleaved = rope.pairing == "normal"
                scores = turned(*pair, relative, rope.inv_freq, rope.scale, interleaved)
            weights = np.exp(capped(scores * factors[:, None] * scale, softcap)) * seen
            total = weights.sum(axis=1, keepdims=True)
            total += 0 if sinks is None else np.exp(np.float64(sinks[head]))
            out[:, head] = weights / total @ v[:, of]
        return out.reshape(count, -1).astype(np.float32)


def by_formula(path: Path, tokens: np.ndarray, by: Extension) -> np.ndarray:
    model = Model(GGUFFile.open(path), Formula(by))
    model.config = replace(model.config, context_length=len(tokens))
    return decode(model.context(ubatch=len(tokens)), tokens)


def check(path: Path, setting: SelfExtend | AutoExtend, allowed: float) -> None:
    model, count = load(path), SETTINGS[setting]
    tokens = tokens_of(model, count)
    ours = decode(model.context(self_extend=setting), tokens)
    exact = by_formula(path, tokens, extension(setting, count))
    np.testing.assert_allclose(ours, exact, rtol=0, atol=allowed)
    plain = by_formula(path, tokens, Extension(count, np.ones(count, int)))
    begins = TRAINED if isinstance(setting, AutoExtend) else setting.window
    np.testing.assert_allclose(plain[:begins], exact[:begins], rtol=0, atol=allowed)
    assert np.abs(plain[begins + 1 :] - exact[begins + 1 :]).max() > 0.01  # what it is about


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("architecture", FAMILIES)
def test_tiny_models(architecture: str, setting: SelfExtend | AutoExtend, tmp_path: Path) -> None:
    changes: dict[str, Any] = SOME_SEE_ALL.get(architecture, {})
    path = write(tmp_path / "model.gguf", metadata(architecture, **changes))
    check(path, setting, tolerance(architecture))


@pytest.mark.parametrize("name", GOLDENS)
def test_golden_models(name: str) -> None:
    check(SHARED / "parity" / name / "model.gguf", SelfExtend(3, 20), tolerance(name))
