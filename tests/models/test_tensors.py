"""Tensors: each is expected by name and shape, used, or refused."""

from pathlib import Path

import numpy as np
import pytest

from motet.errors import ModelFileError, UnsupportedError
from motet.kernels import CPU
from motet.kernels.reference import Reference
from motet.models.family import Family
from tests.models.running import open_family
from tests.models.tiny import ARCHITECTURES, metadata, shapes, write


def test_missing_tensors_are_named(tmp_path: Path) -> None:
    keys = metadata("gemma2")
    tensors = shapes(keys)
    del tensors["blk.1.post_ffw_norm.weight"], tensors["blk.0.attn_q.weight"]
    path = write(tmp_path / "m.gguf", keys, tensors)
    with pytest.raises(
        ModelFileError, match=r"blk\.0\.attn_q\.weight, blk\.1\.post_ffw_norm\.weight"
    ):
        open_family(path, Reference())


def test_many_missing_tensors_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", metadata("llama"), {"token_embd.weight": (40, 16)})
    with pytest.raises(ModelFileError, match=r"output_norm\.weight, .* and 15 more"):
        open_family(path, Reference())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_unknown_tensor_is_refused(architecture: str, tmp_path: Path) -> None:
    keys = metadata(architecture)
    tensors = shapes(keys) | {"blk.0.attn_sinks.weight": (4,)}
    with pytest.raises(UnsupportedError, match=r"blk\.0\.attn_sinks\.weight"):
        open_family(write(tmp_path / "m.gguf", keys, tensors), Reference())


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("blk.0.attn_k.weight", (16, 16)),
        ("blk.1.ffn_norm.weight", (17,)),
        ("blk.1.ffn_norm.weight", (1, 16)),
        ("blk.0.ffn_down.weight", (24, 16)),
        ("rope_freqs.weight", (4,)),
        ("output.weight", (16, 40)),
        ("blk.0.attn_q.bias", (8,)),
    ],
)
def test_wrong_shape_is_named(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    keys = metadata("llama")
    path = write(tmp_path / "m.gguf", keys, shapes(keys) | {name: shape})
    with pytest.raises(ModelFileError) as caught:
        open_family(path, Reference())
    assert name in str(caught.value)
    assert str(list(shape)) in str(caught.value)


@pytest.mark.parametrize("name", ["blk.0.attn_k.weight", "blk.1.ffn_norm.weight"])
def test_integers_are_not_weights(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", metadata("llama"), types={name: np.int32})
    for kernels in (Reference(), CPU(1)):
        with pytest.raises(UnsupportedError, match=rf"{name}: .*I32"):
            open_family(path, kernels)


def family(tmp_path: Path, **optional: tuple[int, ...]) -> Family:
    keys = metadata("llama")
    return open_family(write(tmp_path / "m.gguf", keys, shapes(keys) | optional), Reference())


def test_output_is_the_embedding_unless_the_file_has_one(tmp_path: Path) -> None:
    tied = family(tmp_path)
    assert tied.output is tied.token_embd  # type: ignore[attr-defined]
    untied = family(tmp_path, **{"output.weight": (40, 16)})
    assert untied.output is not untied.token_embd  # type: ignore[attr-defined]
