"""Tensors: each is expected by name and shape, used, or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Quant

from motet.errors import ModelFileError, MotetError, UnsupportedError
from motet.kernels import CPU
from motet.kernels.reference import Reference, ReferenceMatrix
from motet.model import Model
from motet.models.experts import MixtureOfExperts
from motet.models.family import Family
from motet.weights.gguf import GGUFFile
from tests.models.running import OneSequence, logits, open_family
from tests.models.tiny import ARCHITECTURES, DECODERS, metadata, shapes, write


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
    tensors = shapes(keys) | {"blk.0.attn_unheard_of.weight": (4,)}
    with pytest.raises(UnsupportedError, match=r"blk\.0\.attn_unheard_of\.weight"):
        open_family(write(tmp_path / "m.gguf", keys, tensors), Reference())


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("blk.0.attn_k.weight", (16, 16)),
        ("blk.1.ffn_norm.weight", (17,)),
        ("blk.1.ffn_norm.weight", (16, 1)),
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


@pytest.mark.parametrize("architecture", DECODERS)
def test_outermost_axes_of_one_say_nothing(architecture: str, tmp_path: Path) -> None:
    keys = metadata(architecture)
    plain = write(tmp_path / "plain.gguf", keys)
    padded = {name: (1,) * (4 - len(shape)) + shape for name, shape in shapes(keys).items()}
    ones = write(tmp_path / "ones.gguf", keys, padded)
    tokens = np.arange(7)
    assert np.array_equal(logits(ones, CPU(1), tokens), logits(plain, CPU(1), tokens))


@pytest.mark.parametrize("shape", [(24, 16, 1), (16, 24, 1, 1), (2, 1, 24, 16), (24, 1, 16)])
def test_other_axes_of_one_do(shape: tuple[int, ...], tmp_path: Path) -> None:
    keys, name = metadata("llama"), "blk.0.ffn_gate.weight"
    path = write(tmp_path / "m.gguf", keys, shapes(keys) | {name: shape})
    with pytest.raises(ModelFileError, match=name):
        open_family(path, Reference())


def family(tmp_path: Path, **optional: tuple[int, ...]) -> Family[Any]:
    keys = metadata("llama")
    return open_family(write(tmp_path / "m.gguf", keys, shapes(keys) | optional), Reference())


def test_output_is_the_embedding_unless_the_file_has_one(tmp_path: Path) -> None:
    tied = family(tmp_path)
    assert tied.output is tied.token_embd  # type: ignore[attr-defined]
    untied = family(tmp_path, **{"output.weight": (40, 16)})
    assert untied.output is not untied.token_embd  # type: ignore[attr-defined]


def test_experts_are_a_matrix_each(tmp_path: Path) -> None:
    keys = metadata("jamba")
    path = write(tmp_path / "m.gguf", keys)
    feed = open_family(path, Reference()).blocks[1].feed_forward  # type: ignore[attr-defined]
    assert isinstance(feed, MixtureOfExperts)
    with GGUFFile.open(path) as file:
        stored = file.raw("blk.1.ffn_up_exps.weight").view(np.float32).reshape(4, 24, 16)
        packed = [m.weights for m in feed.up if isinstance(m, ReferenceMatrix)]
        assert np.array_equal(np.stack(packed), stored)


def test_a_scan_reads_plain_arrays(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", metadata("mamba"))
    mixer = open_family(path, CPU(1)).blocks[0].mixer  # type: ignore[attr-defined]
    assert mixer.conv.shape == (24, 4)
    assert mixer.a.shape == (5, 24) and mixer.a.flags.c_contiguous
    assert all(a.dtype == np.float32 for a in (mixer.conv, mixer.a, mixer.d))
    with GGUFFile.open(path) as file:
        stored = file.raw("blk.0.ssm_a").view(np.float32)
        assert np.array_equal(mixer.a.T, stored)


def test_a_tensor_in_parts(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", metadata("mamba2"))
    parts = open_family(path, Reference()).blocks[1].mixer.z_xbc_dt  # type: ignore[attr-defined]
    assert [part.rows for part in parts] == [24, 24 + 2 * 2 * 5, 6]
    with GGUFFile.open(path) as file:
        stored = file.raw("blk.1.ssm_in.weight").view(np.float32)
        assert np.array_equal(np.concatenate([part.weights for part in parts]), stored)


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        ({"blk.1.ffn_down_exps.weight": None}, ModelFileError, "blk.1.ffn_down_exps.weight"),
        ({"blk.1.ffn_gate_inp.weight": None}, ModelFileError, "blk.1.ffn_gate.weight"),
        ({"blk.0.ffn_gate_exps.weight": (4, 24, 16)}, UnsupportedError, "blk.0.ffn_gate_exps"),
        ({"blk.1.ffn_gate.weight": (24, 16)}, UnsupportedError, "blk.1.ffn_gate.weight"),
        ({"blk.1.ffn_up_exps.weight": (5, 24, 16)}, ModelFileError, "blk.1.ffn_up_exps.weight"),
        ({"blk.1.ssm_in.weight": (48, 16)}, UnsupportedError, "blk.1.ssm_in.weight"),
        ({"blk.0.ssm_dt_norm.weight": None}, ModelFileError, "blk.0.ssm_dt_norm.weight"),
        ({"blk.2.ssm_a": (5, 24)}, ModelFileError, "blk.2.ssm_a"),
    ],
)
def test_layers_of_a_hybrid_are_of_one_kind(
    change: dict[str, tuple[int, ...] | None],
    error: type[MotetError],
    named: str,
    tmp_path: Path,
) -> None:
    keys = metadata("jamba")
    tensors = {name: shape for name, shape in (shapes(keys) | change).items() if shape}
    with pytest.raises(error) as caught:
        open_family(write(tmp_path / "m.gguf", keys, tensors), Reference())
    assert named in str(caught.value)


def test_experts_need_their_count(tmp_path: Path) -> None:
    tensors = shapes(metadata("jamba"))
    keys = metadata("jamba", expert_count=None, expert_used_count=None)
    with pytest.raises(ModelFileError, match=r"blk\.1\.ffn_gate_inp\.weight .*\[0, 16\]"):
        open_family(write(tmp_path / "m.gguf", keys, tensors), Reference())


def test_old_mixtral_files_are_told_what_is_unknown(tmp_path: Path) -> None:
    """They have a tensor for each expert."""
    keys = metadata("llama", expert_count=2, expert_used_count=1)
    tensors = shapes(keys)
    for block in (0, 1):
        for name in ("gate", "up", "down"):
            count, *shape = tensors.pop(f"blk.{block}.ffn_{name}_exps.weight")
            tensors |= {f"blk.{block}.ffn_{name}.{e}.weight": tuple(shape) for e in range(count)}
    path = write(tmp_path / "m.gguf", keys, tensors)
    lacks, knows = r"lacks blk\.0\.ffn_gate_exps\.weight", r"blk\.0\.ffn_gate\.0\.weight"
    with pytest.raises(ModelFileError, match=f"{lacks}.*; it has tensors that .*: {knows}"):
        open_family(path, Reference())


@pytest.mark.parametrize("architecture", ["mamba", "mamba2", "jamba"])
def test_matrices_that_cannot_be_quantised_stay_float(architecture: str, tmp_path: Path) -> None:
    """As quantised files have it: Q8_0 where a row is whole blocks, F16 elsewhere."""
    sizes = {"embedding_length": 32, "ssm__inner_size": 64, "feed_forward_length": None}
    if architecture == "mamba2":
        sizes["ssm__time_step_rank"] = 8
    if architecture == "jamba":
        sizes["feed_forward_length"] = 40  # so ffn_down's rows are no whole blocks
    keys = metadata(architecture, **sizes)
    types = {
        name: Quant.Q8_0 if shape[-1] % 32 == 0 else np.float16
        for name, shape in shapes(keys).items()
        if len(shape) > 1 and not name.endswith(("ssm_a", "ssm_d", "conv1d.weight", "norm.weight"))
    }
    assert set(types.values()) == (
        {Quant.Q8_0} if architecture == "mamba2" else {Quant.Q8_0, np.float16}
    )
    path = write(tmp_path / "m.gguf", keys, types=types)
    tokens = np.arange(30)
    np.testing.assert_allclose(
        OneSequence(open_family(path, CPU(1)), 64).feed(tokens),
        OneSequence(open_family(path, Reference()), 64).feed(tokens),
        atol=0.02,
    )


def test_layers_that_draft_are_left_out_and_told(tmp_path: Path) -> None:
    plain = metadata("deepseek2")
    keys = metadata("deepseek2", block_count=4, nextn_predict_layers=1)
    extra = {"blk.3.nextn.eh_proj.weight": (16, 32), "blk.3.attn_norm.weight": (16,)}
    path = write(tmp_path / "drafts.gguf", keys, shapes(plain) | extra)
    seen: list[tuple[int, int]] = []
    model = Model.load(path, 1, progress=lambda done, total: seen.append((done, total)))
    assert len(model.caches) == 3 and model.config.draft_layers == 1
    assert seen[-1][0] == seen[-1][1]
    assert model.fingerprint.weights == Model.load(write(tmp_path / "m", plain)).fingerprint.weights
    tokens = np.arange(9)
    expected = logits(tmp_path / "m", CPU(1), tokens)
    assert np.array_equal(logits(path, CPU(1), tokens), expected)
    wrong = shapes(plain) | {"blk.4.attn_norm.weight": (16,)}
    with pytest.raises(UnsupportedError, match=r"blk\.4\.attn_norm"):
        open_family(write(tmp_path / "w", keys, wrong), Reference())


def test_keys_and_values_of_every_head_are_refused(tmp_path: Path) -> None:
    keys = metadata("deepseek2")
    path = write(tmp_path / "m.gguf", keys, shapes(keys) | {"blk.1.attn_kv_b.weight": (40, 8)})
    with pytest.raises(
        UnsupportedError, match=r"blk\.1\.attn_kv_b\.weight .*convert the model again"
    ):
        open_family(path, Reference())
