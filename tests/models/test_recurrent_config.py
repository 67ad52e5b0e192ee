"""The keys of Mamba, Mamba-2 and Jamba, and what their layers remember."""

import math
from typing import Any

import pytest

from motet.errors import ModelFileError, UnsupportedError
from motet.models.jamba import JambaConfig
from motet.models.mamba import MambaConfig
from motet.models.mamba2 import Mamba2Config
from motet.models.scans import Mamba2Sizes, MambaSizes
from motet.spec import FullAttention, Recurrent
from tests.models.test_config import caches, read


def test_mamba() -> None:
    config = read("mamba", ssm__conv_kernel=3)
    assert isinstance(config, MambaConfig)
    assert config.ssm == MambaSizes(d_inner=24, d_state=5, d_conv=3, dt_rank=3)
    assert config.dt_b_c_eps is None
    assert caches(config) == (Recurrent(((2, 24), (5, 24))),) * 2


def test_falcon_mamba() -> None:
    config = read("mamba", ssm__dt_b_c_rms=True)
    assert isinstance(config, MambaConfig)
    assert config.dt_b_c_eps == config.norm_eps
    config = read("mamba", ssm__dt_b_c_rms=True, ssm__dt_b_c_rms_eps=1e-2)
    assert isinstance(config, MambaConfig)
    assert config.dt_b_c_eps == 1e-2


def test_mamba2() -> None:
    config = read("mamba2")
    assert isinstance(config, Mamba2Config)
    assert config.ssm == Mamba2Sizes(d_inner=24, d_state=5, d_conv=4, n_heads=6, n_groups=2)
    assert config.ssm.head_dim == 4
    assert caches(config) == (Recurrent(((3, 24 + 2 * 2 * 5), (6, 5, 4))),) * 2


def test_jamba() -> None:
    config = read("jamba")
    assert isinstance(config, JambaConfig)
    state = Recurrent(((3, 24), (5, 24)))
    assert caches(config) == (
        state, FullAttention(2, 4, 4), state, FullAttention(1, 4, 4),
    )  # fmt: skip
    assert (config.n_experts, config.n_experts_used) == (4, 2)
    assert config.attention_scale == 1 / math.sqrt(4)


def test_jamba_with_one_number_for_all_layers() -> None:
    config = read("jamba", attention__head_count_kv=2, block_count=3, attention__key_length=6)
    assert caches(config) == (FullAttention(2, 6, 6),) * 3


def test_jamba_without_experts() -> None:
    config = read("jamba", expert_count=None, expert_used_count=None)
    assert (config.n_experts, config.n_experts_used) == (0, 0)


@pytest.mark.parametrize(
    ("architecture", "change", "value"),
    [
        ("mamba", "ssm__inner_size", 0),
        ("mamba", "ssm__inner_size", None),
        ("mamba", "ssm__state_size", -1),
        ("mamba", "ssm__conv_kernel", 1),
        ("mamba", "ssm__conv_kernel", 1 << 40),
        ("mamba", "ssm__time_step_rank", None),
        ("mamba", "ssm__dt_b_c_rms", 1),
        ("mamba", "attention__layer_norm_rms_epsilon", 0.0),
        ("mamba2", "ssm__group_count", None),
        ("mamba2", "ssm__group_count", 4),  # not a divisor of the heads
        ("mamba2", "ssm__time_step_rank", 5),  # not a divisor of the width
        ("jamba", "attention__head_count_kv", [0, 2, 0]),
        ("jamba", "attention__head_count_kv", [0, 3, 0, 0]),
        ("jamba", "attention__head_count_kv", [0, 2, 0, -1]),
        ("jamba", "attention__head_count_kv", [0, 2, 0, True]),
        ("jamba", "attention__head_count_kv", [0, 2, 0, 8]),
        ("jamba", "attention__head_count_kv", None),
        ("jamba", "attention__head_count", 0),
        ("jamba", "expert_used_count", 5),
        ("jamba", "expert_used_count", 0),
        ("jamba", "expert_used_count", None),
        ("jamba", "feed_forward_length", 0),
    ],
)
def test_wrong_value_is_named(architecture: str, change: str, value: Any) -> None:
    name = f"{architecture}." + change.replace("__", ".")
    with pytest.raises(ModelFileError) as caught:
        read(architecture, **{change: value})
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "change", "value"),
    [
        ("mamba", "attention__head_count", 4),
        ("mamba", "feed_forward_length", 24),
        ("mamba", "expert_count", 8),
        ("mamba", "ssm__group_count", 1),
        ("mamba2", "ssm__dt_b_c_rms", True),
        ("mamba2", "attention__head_count_kv", [0, 2]),
        ("mamba2", "rope__freq_base", 10000.0),
        ("jamba", "rope__freq_base", 10000.0),
        ("jamba", "ssm__dt_b_c_rms", True),
        ("jamba", "expert_shared_count", 1),
        ("jamba", "attention__sliding_window", 64),
    ],
)
def test_what_would_change_the_arithmetic_is_refused(
    architecture: str, change: str, value: Any
) -> None:
    with pytest.raises(UnsupportedError, match=f"{architecture}." + change.replace("__", ".")):
        read(architecture, **{change: value})


def test_experts_used_without_experts_contradict() -> None:
    with pytest.raises(UnsupportedError, match=r"jamba\.expert_used_count"):
        read("jamba", expert_count=None)
