"""Gemma 4: what its keys may be, and layers that keep no keys of their own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import motet
from motet import Batch, Model, SelfExtend
from motet.errors import ModelFileError, UnsupportedError
from motet.kernels import CPU
from motet.kernels.reference import Reference
from motet.models.shared_kv import owners
from motet.spec import FullAttention, SlidingAttention
from motet.weights.gguf import GGUFFile
from tests.models.test_config import read
from tests.models.tiny import VOCAB, declare, load, metadata, shapes, write

TOKENS = np.random.default_rng(1).integers(0, VOCAB, 150).tolist()
UNUSED = {
    "blk.2.attn_k.weight": (16, 16),
    "blk.2.attn_v.weight": (16, 16),
    "blk.3.attn_k_norm.weight": (16,),
}
"""What published files have of keys and values in layers that read others'."""


def decoded(model: Model, wanted: Any, **options: Any) -> np.ndarray:
    """Logits of TOKENS at the positions ``wanted``, all given at once."""
    batch = Batch()
    for position, token in enumerate(TOKENS):
        batch.add(token, position, logits=position in wanted)
    return model.context(**options).decode(batch).logits


def test_layers_of_two_kinds() -> None:
    config = read("gemma4")
    assert (config.own_layers, config.owners) == (2, (0, 1, 0, 1))
    assert (config.attention_scale, config.d_ff, config.expert_width) == (1.0, 32, 12)
    family, tensors = declare(config)
    assert family.caches == ((SlidingAttention(2, 8, 8, 8),), (FullAttention(1, 16, 16),), (), ())
    assert tensors["per_layer_token_embd.weight"] == (VOCAB, 4 * 16)
    assert tensors["blk.0.ffn_gate_up_exps.weight"] == (4, 24, 16)
    assert tensors["blk.2.attn_q.weight"] == (32, 16)
    assert tensors["blk.3.ffn_up.weight"] == (32, 16)
    assert not any("attn_k" in name for name in tensors if name.startswith(("blk.2", "blk.3")))
    dense = {"expert_count": 0, "expert_used_count": None, "expert_feed_forward_length": None}
    plain = read("gemma4", **dense, embedding_length_per_layer_input=0)
    names = declare(plain)[1]
    assert not any("exps" in n or "per_layer" in n or "inp" in n for n in names)


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("attention__key_length_swa", None),
        ("attention__sliding_window_pattern", None),
        ("attention__sliding_window_pattern", [True, False]),
        ("attention__sliding_window", 0),
        ("attention__shared_kv_layers", 4),
        ("attention__head_count_kv", [2, 0, 2, 1]),
        ("attention__head_count_kv", [2, 3, 2, 3]),
        ("rope__freq_base_swa", None),
        ("rope__dimension_count_swa", 7),
        ("rope__dimension_count_swa", 10),
        ("rope__dimension_count_swa", None),
        ("feed_forward_length", [24, 24, 32]),
        ("feed_forward_length", [24, 24, 32, 0]),
        ("expert_feed_forward_length", None),
        ("embedding_length_per_layer_input", -1),
        ("final_logit_softcapping", -1.0),
    ],
)
def test_wrong_values_are_named(change: str, value: Any) -> None:
    with pytest.raises(ModelFileError, match="gemma4." + change.replace("__", ".")):
        read("gemma4", **{change: value})


@pytest.mark.parametrize("name", ["value_length", "value_length_swa"])
def test_values_of_another_size_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"gemma4\.attention\.{name} is 6"):
        read("gemma4", **{f"attention__{name}": 6})


def test_owners() -> None:
    assert owners("abab", 0) == (0, 1, 2, 3)
    assert owners("aabab", 2) == (0, 1, 2, 1, 2)
    for kinds, sharing in (("ab", 1), ("aaab", 2)):
        with pytest.raises(ModelFileError, match=rf"layer {len(kinds) - 1} has no keys"):
            owners(kinds, sharing)
    with pytest.raises(ModelFileError, match="layer 2 has no keys of its own"):
        read("gemma4", attention__head_count_kv=[2, 1, 1, 1])  # not those that layer 0 keeps


def test_what_layers_have_beside_others_keys_is_not_used(tmp_path: Path) -> None:
    keys = metadata("gemma4")
    plain = Model.load(write(tmp_path / "a.gguf", keys), 1)
    path = write(tmp_path / "b.gguf", keys, shapes(keys) | UNUSED)
    more, done = Model.load(path, 1), list[tuple[int, int]]()
    Model.load(path, 1, progress=lambda *counts: done.append(counts))
    assert done[-1][0] == done[-1][1]
    packed = Model.load(motet.pack(path, tmp_path / "b.packed", threads=1), 1)
    # Random numbers come in the order of the tensors, so that only the shared ones are the same.
    assert more.nbytes == plain.nbytes == packed.nbytes
    assert np.array_equal(decoded(more, range(150)), decoded(packed, range(150)))
    for name in UNUSED:
        tensors = shapes(keys) | {name.replace("attn_", "attn_x_"): UNUSED[name]}
        with pytest.raises(UnsupportedError, match="attn_x_"):
            Model.load(write(tmp_path / "c.gguf", keys, tensors), 1)


@pytest.mark.parametrize("kernels", [Reference, CPU])
@pytest.mark.parametrize("extended", [None, SelfExtend(4, 20), SelfExtend(2, 40, "log")])
def test_rows_are_the_same_whichever_are_wanted(
    tmp_path: Path, kernels: type, extended: SelfExtend | None
) -> None:
    """Layers that keep no keys are computed for the wanted rows alone."""
    path = write(tmp_path / "m.gguf", metadata("gemma4", context_length=100))
    model = Model(GGUFFile.open(path), kernels())
    options = {"self_extend": extended, "context_length": 150}
    every = decoded(model, range(150), **options)
    if kernels is Reference:
        rows = decoded(model, [3, 70, 71, 149], **options, ubatch=64)
        np.testing.assert_allclose(rows, every[[3, 70, 71, 149]], atol=1e-4)
        return
    for wanted in ([149], [3, 70, 71, 149], range(100)):
        for ubatch in (7, 64, 512):
            rows = decoded(model, wanted, **options, ubatch=ubatch)
            assert np.array_equal(rows, every[list(wanted)])


def test_no_other_rows_are_computed(tmp_path: Path) -> None:
    model = load(tmp_path, "gemma4")
    counts = []
    for block in model.family.blocks:

        def counted(x: Any, view: Any, wanted: Any, forward: Any = block.forward) -> Any:
            counts.append(len(x))
            return forward(x, view, wanted)

        block.forward = counted
    decoded(model, [149], ubatch=100)
    assert counts == [100, 100, 50, 50, 1, 1]


def test_the_embedding_of_layers_stays_packed(tmp_path: Path) -> None:
    """A row is unpacked when its token comes."""
    from gguf import GGMLQuantizationType

    keys = metadata("gemma4", embedding_length_per_layer_input=32)
    name = "per_layer_token_embd.weight"
    path = write(tmp_path / "m.gguf", keys, types={name: GGMLQuantizationType.Q8_0})
    with GGUFFile.open(path) as file:
        size = file.tensors[name].nbytes
    family: Any = Model.load(path, 1).family
    embedding = family.per_layer.embedding
    assert (embedding.rows, embedding.columns) == (VOCAB, 128)
    assert embedding.nbytes <= 1.3 * size < VOCAB * 128 * 4
