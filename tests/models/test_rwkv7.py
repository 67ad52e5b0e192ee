"""RWKV-7's keys and tensors."""

from pathlib import Path
from typing import Any

import pytest

from motet.errors import ModelFileError, UnsupportedError
from motet.kernels import CPU
from motet.models.rwkv7 import Rwkv7Config
from motet.spec import Recurrent
from tests.models.running import open_family
from tests.models.test_config import caches, read
from tests.models.tiny import VOCAB, metadata, shapes, write


def test_settings() -> None:
    config = read("rwkv7")
    assert isinstance(config, Rwkv7Config)
    assert (config.head_size, config.n_heads, config.d_ff) == (8, 2, 24)
    ranks = config.decay_rank, config.rate_rank, config.value_rank, config.gate_rank
    assert ranks == (3, 4, 5, 6)
    assert caches(config) == (Recurrent(((16,), (16,), (2, 8, 8))),) * 2


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("wkv__head_size", None),
        ("wkv__head_size", 0),
        ("wkv__head_size", 5),  # not a divisor of the width
        *((f"attention__{name}_lora_rank", None) for name in ("decay", "iclr", "gate")),
        ("attention__value_residual_mix_lora_rank", 0),
        ("attention__decay_lora_rank", 2.0),
        ("feed_forward_length", None),
        ("attention__layer_norm_epsilon", None),
        ("vocab_size", VOCAB + 1),
    ],
)
def test_wrong_value_is_named(change: str, value: Any) -> None:
    with pytest.raises(ModelFileError, match="rwkv7." + change.replace("__", ".")):
        read("rwkv7", **{change: value})


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("attention__head_count", 2),
        ("attention__layer_norm_rms_epsilon", 1e-5),
        ("token_shift_count", 1),
        ("rescale_every_n_layers", 6),
        ("rope__freq_base", 10000.0),
    ],
)
def test_what_would_change_the_arithmetic_is_refused(change: str, value: Any) -> None:
    with pytest.raises(UnsupportedError, match="rwkv7." + change.replace("__", ".")):
        read("rwkv7", **{change: value})


def test_only_the_first_layer_may_lack_what_it_takes_of_the_first_values(tmp_path: Path) -> None:
    keys = metadata("rwkv7")
    tensors = shapes(keys)
    del tensors["blk.1.time_mix_v1.weight"]
    with pytest.raises(ModelFileError, match=r"blk\.1\.time_mix_v1\.weight"):
        open_family(write(tmp_path / "m.gguf", keys, tensors), CPU(1))
    assert "blk.0.time_mix_v1.weight" not in tensors
