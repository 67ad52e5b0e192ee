"""Tensors beside matrices by which these are multiplied, and tensors that hold several matrices."""

import re
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Quant

import motet
from motet import Model
from motet.errors import ModelFileError, UnsupportedError
from motet.evals.importance import _Observer, _Watched
from motet.kernels import CPU
from motet.kernels.reference import Reference
from motet.models.registry import declared
from motet.models.tensors import TensorLoader
from motet.weights.gguf import GGUFFile
from tests.models.running import OneSequence
from tests.models.tiny import metadata, shapes, write
from tests.weights.sources import ArraySource

SCALED = re.compile(
    r"blk\.\d+\.(attn_(q|k|v|output|qkv|gate)|ffn_(gate|up|down)(_shexp|_exps)?"
    r"|ssm_(in|out|alpha|beta))\.weight"
)
"""Matrices that llama.cpp has scales of."""
ARCHITECTURES = ["llama", "phi3", "qwen3moe", "qwen3next", "qwen35moe", "mamba2", "lfm2moe"]
TOKENS = np.arange(9)

Arrays = dict[str, np.ndarray]


def arrays_of(folder: Path, architecture: str) -> Arrays:
    with GGUFFile.open(write(folder / "m.gguf", metadata(architecture))) as file:
        return {n: file.raw(n).view(np.float32).reshape(i.shape) for n, i in file.tensors.items()}


def logits(architecture: str, arrays: Arrays, kernels: CPU | Reference) -> np.ndarray:
    source = ArraySource(metadata(architecture), arrays)
    family = declared(source)
    loaded = type(family)(family.config, TensorLoader(source, kernels), kernels)
    return OneSequence(loaded, len(TOKENS)).feed(TOKENS)


def with_scales(arrays: Arrays) -> tuple[Arrays, Arrays]:
    """Beside them, and in them. Powers of two, so that nothing is rounded otherwise."""
    rng = np.random.default_rng(3)
    beside, within = dict(arrays), dict(arrays)
    for name in filter(SCALED.fullmatch, arrays):
        count = arrays[name].shape[0] if arrays[name].ndim > 2 else 1
        scales = np.exp2(rng.integers(-2, 3, count)).astype(np.float32)
        stem = name.removesuffix("weight")
        beside |= {f"{stem}scale": scales, f"{stem}input_scale": scales + 1}
        within[name] = arrays[name] * (scales[:, None, None] if count > 1 else scales)
    return beside, within


@pytest.mark.parametrize("kernels", [CPU(1), Reference()], ids=["cpu", "reference"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_scale_beside_a_matrix_is_in_it(
    architecture: str, kernels: CPU | Reference, tmp_path: Path
) -> None:
    """Once; and what a file says of its inputs' scale changes nothing."""
    arrays = arrays_of(tmp_path, architecture)
    beside, within = with_scales(arrays)
    assert len(beside) >= len(arrays) + 8
    found = logits(architecture, beside, kernels)
    assert np.array_equal(found, logits(architecture, within, kernels))
    assert not np.allclose(found, logits(architecture, arrays, kernels), atol=0.1)


@pytest.mark.parametrize(
    ("name", "shape", "error"),
    [
        ("blk.0.attn_q.scale", (2,), ModelFileError),
        ("blk.0.ffn_up_exps.scale", (1,), ModelFileError),
        ("blk.0.attn_norm.scale", (1,), UnsupportedError),
        ("blk.0.ffn_gate_up_exps.scale", (4,), UnsupportedError),
    ],
)
def test_a_scale_that_fits_nothing_is_refused(
    name: str, shape: tuple[int, ...], error: type[Exception], tmp_path: Path
) -> None:
    arrays = arrays_of(tmp_path, "qwen3moe") | {name: np.ones(shape, np.float32)}
    with pytest.raises(error, match=re.escape(name)):
        declared(ArraySource(metadata("qwen3moe"), arrays))


@pytest.mark.parametrize("architecture", ["llama", "qwen3moe"])
def test_packed_files_have_scales(architecture: str, tmp_path: Path) -> None:
    keys = metadata(architecture, embedding_length=64)
    sizes = shapes(keys)
    types = {n: Quant.NVFP4 for n, s in sizes.items() if len(s) > 1 and s[-1] % 64 == 0}
    scales = {f"{n.removesuffix('weight')}scale": s[:-2] or (1,) for n, s in sizes.items()
              if SCALED.fullmatch(n)}  # fmt: skip
    path = write(tmp_path / "m.gguf", keys, sizes | scales, types)
    packed = motet.pack(path, tmp_path / "m.packed", threads=1)
    found, again = Model.load(path, 1), Model.load(packed, 1)
    assert found.fingerprint == again.fingerprint and found.nbytes == again.nbytes
    rows = []
    for model in (found, again):
        batch = motet.Batch()
        batch.extend(TOKENS.tolist(), 0, logits="all")
        rows.append(model.context().decode(batch).logits)
    assert np.array_equal(*rows)


def fused(arrays: Arrays) -> Arrays:
    """Gates and what they are multiplied by in one tensor, as llama.cpp's converter can do it."""
    out = dict(arrays)
    for name in list(arrays):
        if name.endswith("ffn_gate_exps.weight"):
            parts = out.pop(name), out.pop(name.replace("gate", "up"))
            out[name.replace("gate", "gate_up")] = np.concatenate(parts, axis=1)
    return out


@pytest.mark.parametrize("architecture", ["qwen3next", "qwen35moe", "qwen3moe", "deepseek2"])
def test_gates_and_ups_of_experts_in_one_tensor(architecture: str, tmp_path: Path) -> None:
    arrays = arrays_of(tmp_path, architecture)
    together = fused(arrays)
    assert len(together) < len(arrays)
    for kernels in (CPU(1), Reference()):
        expected = logits(architecture, arrays, kernels)
        assert np.array_equal(logits(architecture, together, kernels), expected)


def test_gates_and_ups_of_gemma4_in_two(tmp_path: Path) -> None:
    """As files of NVFP4 have them, with a scale of each expert that is its share's factor too."""
    arrays = arrays_of(tmp_path, "gemma4")
    apart = dict(arrays)
    for name in filter(re.compile(r".*ffn_gate_up_exps\.weight").fullmatch, arrays):
        both = apart.pop(name)
        for part, half in zip(("gate", "up"), np.split(both, 2, axis=1), strict=True):
            stem = name.replace("gate_up", part).removesuffix("weight")
            apart[f"{stem}weight"] = half * np.float32(4)
            apart[f"{stem}scale"] = np.full(len(half), 0.25, np.float32)
    assert len(apart) > len(arrays)
    for kernels in (CPU(1), Reference()):
        expected = logits("gemma4", arrays, kernels)
        assert np.array_equal(logits("gemma4", apart, kernels), expected)


def as_early_files_have_it(arrays: Arrays, groups: int, keys: int, values: int) -> Arrays:
    """Of each key head q, k, v and z one after the other."""
    out = dict(arrays)
    for name in list(arrays):
        if name.endswith("attn_qkv.weight") and name.replace("qkv", "gate") in arrays:
            qkv, z = out.pop(name), out.pop(name.replace("qkv", "gate"))
            rows = [
                np.concatenate([
                    qkv[g * keys : (g + 1) * keys],
                    qkv[(groups + g) * keys : (groups + g + 1) * keys],
                    qkv[2 * groups * keys + g * values :][:values],
                    z[g * values : (g + 1) * values],
                ])
                for g in range(groups)
            ]  # fmt: skip
            out[name.replace("attn_qkv", "ssm_in")] = np.concatenate(rows)
    return out


def test_early_files_of_qwen3next(tmp_path: Path) -> None:
    """Their q, k, v and z stand in one tensor; packed too."""
    keys = metadata("qwen3next")
    groups, n, inner = (
        keys[f"qwen3next.ssm.{name}"] for name in ("group_count", "state_size", "inner_size")
    )
    arrays = arrays_of(tmp_path, "qwen3next")
    early = as_early_files_have_it(arrays, groups, n, inner // groups)
    assert len(early) < len(arrays)
    for kernels in (CPU(1), Reference()):
        expected = logits("qwen3next", arrays, kernels)
        assert np.array_equal(logits("qwen3next", early, kernels), expected)
    wrong = early | {name: arrays[name] for name in arrays if name.endswith("attn_gate.weight")}
    with pytest.raises(UnsupportedError, match=r"attn_gate\.weight"):
        declared(ArraySource(keys, wrong))


def test_importance_of_tensors_in_parts() -> None:
    """Of experts' halves and of rows in another order the input is seen once."""
    rng = np.random.default_rng(0)
    sizes = {"both": (3, 64, 32), "down": (3, 32, 32), "mixed": (24, 32)}
    arrays = {f"{n}.weight": rng.standard_normal(s).astype(np.float32) for n, s in sizes.items()}
    source = _Watched(ArraySource({}, arrays))
    kernels = _Observer(source, 1)
    loader = TensorLoader(source, kernels)
    gate, up = loader.expert_pairs("both.weight", 3, 32, 32)
    down = loader.experts("down.weight", 3, 32, 32)
    parts = loader.stacked("mixed.weight", (16, 8), 32, [*range(8, 24), *range(8)])
    x = rng.standard_normal((5, 32)).astype(np.float32)
    ids = np.array([[0], [2], [2], [0], [2]], np.int32)
    kernels.experts(x, ids, np.ones((5, 1), np.float32), gate, up, down, "silu")
    kernels.linear(x, *parts)
    entries = kernels.entries()
    for name, counts in {"both": [2, 0, 3], "down": [2, 0, 3], "mixed": [5]}.items():
        assert entries[f"{name}.weight"].counts.tolist() == counts
    sums = entries["both.weight"].sums
    for expert in range(3):
        seen = x[ids[:, 0] == expert]
        np.testing.assert_allclose(sums[expert], (seen**2).sum(axis=0), rtol=1e-5)
    np.testing.assert_allclose(entries["mixed.weight"].sums[0], (x**2).sum(axis=0), rtol=1e-5)
