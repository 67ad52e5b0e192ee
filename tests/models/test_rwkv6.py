"""RWKV-6's keys and tensors."""

from pathlib import Path
from typing import Any

import pytest

from motet.errors import ModelFileError, UnsupportedError
from motet.kernels import CPU
from motet.models.rwkv6 import Rwkv6Config
from motet.spec import Recurrent
from tests.models.running import open_family
from tests.models.test_config import caches, read
from tests.models.tiny import VOCAB, metadata, shapes, write


def test_settings() -> None:
    config = read("rwkv6", rescale_every_n_layers=6)
    assert isinstance(config, Rwkv6Config)
    assert (config.head_size, config.n_heads, config.d_ff) == (8, 2, 24)
    assert (config.mix_rank, config.decay_rank, config.rescale_every) == (3, 5, 6)
    assert caches(config) == (Recurrent(((16,), (16,), (2, 8, 8))),) * 2


def test_what_may_be_absent() -> None:
    config = read("rwkv6", attention__head_count=None)
    assert isinstance(config, Rwkv6Config)
    assert config.rescale_every == 0


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("wkv__head_size", None),
        ("wkv__head_size", 0),
        ("wkv__head_size", 5),  # not a divisor of the width
        ("time_mix_extra_dim", None),
        ("time_mix_extra_dim", -1),
        ("time_decay_extra_dim", None),
        ("time_decay_extra_dim", 2.0),
        ("feed_forward_length", None),
        ("feed_forward_length", 0),
        ("attention__layer_norm_epsilon", None),
        ("attention__layer_norm_epsilon", 0.0),
        ("rescale_every_n_layers", -1),
        ("vocab_size", VOCAB + 1),
    ],
)
def test_wrong_value_is_named(change: str, value: Any) -> None:
    with pytest.raises(ModelFileError, match="rwkv6." + change.replace("__", ".")):
        read("rwkv6", **{change: value})


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("attention__head_count", 2),
        ("attention__head_count_kv", 2),
        ("attention__layer_norm_rms_epsilon", 1e-5),
        ("token_shift_count", 1),
        ("expert_count", 4),
        ("rope__freq_base", 10000.0),
    ],
)
def test_what_would_change_the_arithmetic_is_refused(change: str, value: Any) -> None:
    with pytest.raises(UnsupportedError, match="rwkv6." + change.replace("__", ".")):
        read("rwkv6", **{change: value})


def test_lerps_in_one_tensor_and_apart_contradict(tmp_path: Path) -> None:
    keys = metadata("rwkv6", block_count=1)
    tensors = shapes(keys)
    tensors |= {f"blk.0.time_mix_lerp_{name}.weight": (16,) for name in "wkvrg"}
    tensors["blk.0.time_mix_lerp_fused.weight"] = (5, 1, 1, 16)
    with pytest.raises(UnsupportedError, match=r"blk\.0\.time_mix_lerp_w\.weight"):
        open_family(write(tmp_path / "m.gguf", keys, tensors), CPU(1))
