"""The keys of Qwen 3 Next, Qwen 3.5 and Kimi Linear, and what their layers remember."""

from typing import Any

import pytest

from motet.errors import ModelFileError, UnsupportedError
from motet.models.delta import DeltaSizes
from motet.models.kimi_linear import KimiLinearConfig
from motet.models.mla import LatentSizes
from motet.models.qwen_delta import QwenDeltaConfig
from motet.spec import FullAttention, Recurrent
from tests.models.test_config import caches, read

STATE = Recurrent(((3, 2 * 2 * 12 + 28), (4, 12, 7)))


def test_qwen3next() -> None:
    config = read("qwen3next")
    assert isinstance(config, QwenDeltaConfig) and config.mixture is not None
    assert config.delta == DeltaSizes(heads=4, key_heads=2, key_dim=12, value_dim=7, taps=4)
    assert caches(config) == (STATE, FullAttention(2, 4, 4)) * 2
    assert (config.mixture.d_ff, config.mixture.shared_d_ff) == (12, 8)
    assert config.mixture.shared_gate and config.mixture.routing.weights == "normalised"
    config = read("qwen3next", full_attention_interval=None)
    assert isinstance(config, QwenDeltaConfig)
    assert config.recurrent == (True, True, True, False)


def test_layers_by_a_list_and_layers_that_draft() -> None:
    config = read("qwen35", block_count=5, nextn_predict_layers=1, attention__recurrent_layers=[
        False, True, True, False, False,
    ])  # fmt: skip
    assert isinstance(config, QwenDeltaConfig)
    assert config.recurrent == (False, True, True, False) and config.draft_layers == 1
    assert caches(config) == (FullAttention(2, 4, 4), STATE, STATE, FullAttention(2, 4, 4))


def test_kimi_linear() -> None:
    config = read("kimi-linear")
    assert isinstance(config, KimiLinearConfig) and config.mixture is not None
    assert config.latent == LatentSizes(8, 4, 0, 1e-6)
    tail = 3, 24
    assert caches(config) == (
        Recurrent((tail, tail, tail, (4, 6, 6))), FullAttention(1, 12, 0),
    ) * 2  # fmt: skip
    assert config.mixture.routing.weights == "normalised"
    assert config.positional == "none"


@pytest.mark.parametrize(
    ("architecture", "change", "value"),
    [
        ("qwen3next", "ssm__group_count", 3),  # not a divisor of the heads
        ("qwen3next", "ssm__inner_size", 26),  # not a multiple of them
        ("qwen3next", "ssm__state_size", None),
        ("qwen3next", "ssm__conv_kernel", 1),
        ("qwen3next", "expert_count", 0),
        ("qwen3next", "expert_shared_feed_forward_length", None),
        ("qwen3next", "full_attention_interval", 0),
        ("qwen35", "attention__recurrent_layers", [True, False]),
        ("qwen35", "attention__recurrent_layers", [1, 0, 1, 0]),
        ("qwen35", "attention__value_length", 6),
        ("qwen35moe", "expert_feed_forward_length", None),
        ("kimi-linear", "attention__key_length", 13),
        ("kimi-linear", "rope__dimension_count", 10),
        ("kimi-linear", "attention__head_count_kv", [0, 1]),
        ("kimi-linear", "kda__head_dim", 0),
    ],
)
def test_what_cannot_be_is_refused(architecture: str, change: str, value: Any) -> None:
    with pytest.raises(ModelFileError, match=change.replace("__", ".").split(".")[-1]):
        read(architecture, **{change: value})


@pytest.mark.parametrize(
    ("architecture", "change", "value"),
    [
        ("qwen35", "expert_count", 4),
        ("qwen3next", "rope__dimension_sections", [1, 0, 0, 0]),
        ("qwen35", "kda__head_dim", 4),
        ("kimi-linear", "attention__head_count_kv", [0, 4, 0, 4]),
        ("kimi-linear", "rope__freq_base", 10000.0),
    ],
)
def test_what_is_not_known_is_refused(architecture: str, change: str, value: Any) -> None:
    with pytest.raises(UnsupportedError, match=change.replace("__", ".").split(".")[-1]):
        read(architecture, **{change: value})
