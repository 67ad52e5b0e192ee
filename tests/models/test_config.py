"""Keys: each is used with its range checked, or refused by name."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.errors import ModelFileError, MotetError, UnsupportedError
from motet.kernels.routing import Routing
from motet.models.keys import Keys
from motet.models.mla import LatentSizes
from motet.models.registry import FAMILIES, family_of
from motet.models.rope import make_rope
from motet.spec import CacheSpec, FullAttention, Recurrent, SlidingAttention
from tests.models.tiny import ARCHITECTURES, VOCAB, declare, metadata


def read(architecture: str, **changes: Any) -> Any:
    keys = Keys(metadata(architecture, **changes), architecture)
    config = family_of(architecture).read_config(keys, VOCAB)
    keys.refuse_unread()
    return config


def caches(config: Any) -> tuple[CacheSpec, ...]:
    """Of each layer, where all have one."""
    return tuple(spec for (spec,) in declare(config)[0].caches)


def test_every_family_has_a_tiny_model() -> None:
    assert set(ARCHITECTURES) == set(FAMILIES)


def test_sizes() -> None:
    config = read("llama", attention__key_length=6, attention__value_length=5, vocab_size=VOCAB)
    assert (config.architecture, config.n_layers, config.d_model) == ("llama", 2, 16)
    assert (config.n_heads, config.n_kv_heads, config.head_dim, config.value_dim) == (4, 2, 6, 5)
    assert (config.n_vocab, config.context_length, config.d_ff) == (VOCAB, 256, 24)
    assert config.attention_scale == 1 / math.sqrt(6)
    assert caches(config) == (FullAttention(2, 6, 5),) * 2


def test_defaults() -> None:
    config = read("llama", attention__head_count_kv=None, rope__freq_base=None)
    assert (config.n_kv_heads, config.head_dim, config.value_dim) == (4, 4, 4)
    assert (config.rope.base, config.rope.dimension, config.rope.scaling) == (10000.0, 4, "none")


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("block_count", 0),
        ("block_count", 10**9),
        ("embedding_length", 0),
        ("embedding_length", 17),  # not a multiple of the heads
        ("feed_forward_length", -1),
        ("context_length", 1 << 40),
        ("context_length", "long"),
        ("attention__head_count", 0),
        ("attention__head_count", 4.0),
        ("attention__head_count", True),
        ("attention__head_count_kv", 3),
        ("attention__head_count_kv", 0),
        ("attention__key_length", 1 << 30),
        ("attention__layer_norm_rms_epsilon", math.nan),
        ("attention__layer_norm_rms_epsilon", math.inf),
        ("attention__layer_norm_rms_epsilon", 0.0),
        ("attention__layer_norm_rms_epsilon", None),
        ("attention__layer_norm_rms_epsilon", "small"),
        ("rope__freq_base", -1.0),
        ("rope__freq_base", 1.0),
        ("rope__dimension_count", 3),
        ("rope__dimension_count", 6),  # more than a head has
        ("rope__scaling__factor", -2.0),
        ("rope__scaling__factor", 1e-300),  # beyond float32, in which it would be 0
        ("rope__scaling__attn_factor", 1e39),
        ("attention__layer_norm_rms_epsilon", 1e-45),
        ("rope__scaling__type", 3),
        ("vocab_size", VOCAB + 1),
        ("pooling_type", 5),
        ("classifier__output_labels", [1]),
    ],
)
def test_wrong_value_is_named(change: str, value: Any) -> None:
    name = "llama." + change.replace("__", ".")
    with pytest.raises(ModelFileError) as caught:
        read("llama", **{change: value})
    assert name in str(caught.value)
    if value is not None:
        assert str(value) in str(caught.value)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_unknown_key_is_refused_with_its_value(architecture: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"{architecture}\.unknown_scale = 0\.0625"):
        read(architecture, unknown_scale=0.0625)


def test_mpt() -> None:
    config = read("mpt", attention__head_count_kv=2)
    assert (config.positional, config.most_bias, config.clamp) == ("alibi", 8.0, 1.5)
    assert (config.n_heads, config.n_kv_heads) == (4, 2)
    assert caches(config) == (FullAttention(2, 4, 4),) * 2
    assert read("mpt", attention__clamp_kqv=None).clamp == 0
    for name, wrong in (
        ("attention__max_alibi_bias", None),
        ("attention__max_alibi_bias", 0.0),  # learned positions, which no published model has
        ("attention__clamp_kqv", -1.0),
        ("attention__layer_norm_epsilon", None),
    ):
        with pytest.raises(ModelFileError, match=rf"mpt\.{name.replace('__', '.')}"):
            read("mpt", **{name: wrong})


def test_gpt2() -> None:
    config = read("gpt2", attention__head_count_kv=4)
    assert config == read("gpt2")
    assert config.positional == "learned"
    assert declare(config)[1]["position_embd.weight"] == (256, 16)
    with pytest.raises(UnsupportedError, match=r"gpt2\.attention\.head_count_kv is 2"):
        read("gpt2", attention__head_count_kv=2)


def test_starcoder2() -> None:
    assert caches(read("starcoder2")) == (FullAttention(2, 4, 4),) * 2
    config = read("starcoder2", attention__sliding_window=9)
    assert caches(config) == (SlidingAttention(2, 4, 4, 9),) * 2


def test_deepseek2() -> None:
    config = read("deepseek2")
    assert caches(config) == (FullAttention(1, 12, 0),) * 3
    assert (config.head_dim, config.value_dim, config.d_ff, config.mixture.d_ff) == (10, 6, 24, 12)
    assert config.latent == LatentSizes(kv=8, rotary=4, q=6, eps=config.norm_eps)
    assert config.attention_scale == 1 / math.sqrt(10)
    assert config.mixture.routing == Routing(
        3, "sigmoid", 4, 2, 2, "normalised", epsilon=1e-20, scale=2.5
    )
    v2 = read("deepseek2", expert_gating_func=None, expert_weights_norm=None)
    assert v2.mixture.routing == Routing(3, "softmax", 4, 2, 1, epsilon=1e-20, scale=2.5)
    names = [k.partition(".")[2] for k in metadata("deepseek2") if ".expert_" in k]
    dense = read("deepseek2", **dict.fromkeys(names), leading_dense_block_count=None)
    assert (dense.mixture, dense.n_experts) == (None, 0)
    one = dict.fromkeys(("expert_group_count", "expert_group_used_count"))
    lite = read("deepseek2", attention__q_lora_rank=None, **one)
    assert (lite.latent.q, lite.mixture.routing.groups) == (0, 1)


def test_deepseek2_yarn_scales_scores() -> None:
    scaling = {"type": "yarn", "factor": 40.0, "original_context_length": 64}
    scaling = {f"rope__scaling__{name}": value for name, value in scaling.items()}
    config = read("deepseek2", **scaling, rope__scaling__yarn_log_multiplier=0.0707)
    magnitude = 1 + 0.0707 * math.log(40)
    assert config.attention_scale == pytest.approx(magnitude**2 / math.sqrt(10), rel=1e-12)
    assert config.rope.magnitude == 1
    plain = read("deepseek2", **scaling)
    assert plain.attention_scale == 1 / math.sqrt(10)
    assert plain.rope.magnitude == pytest.approx(1 + 0.1 * math.log(40), rel=1e-12)


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("attention__key_length", 13),
        ("attention__value_length", 6),
        ("attention__kv_lora_rank", None),
        ("attention__value_length_mla", None),
        ("rope__dimension_count", 10),  # nothing would be left unrotated
        ("leading_dense_block_count", 4),
        ("expert_feed_forward_length", None),
        ("expert_group_count", 3),
        ("expert_group_used_count", 5),
        ("expert_used_count", 9),
        ("expert_weights_norm", 1),
        ("expert_weights_scale", -1.0),
        ("nextn_predict_layers", 3),
    ],
)
def test_wrong_values_of_deepseek2(change: str, value: Any) -> None:
    with pytest.raises(ModelFileError, match="deepseek2." + change.replace("__", ".")):
        read("deepseek2", **{change: value})


def test_deepseek2_that_motet_does_not_run() -> None:
    for old in ({"attention__head_count_kv": 4}, {"attention__key_length_mla": None}):
        with pytest.raises(UnsupportedError, match="convert the model again"):
            read("deepseek2", **old)
    with pytest.raises(UnsupportedError, match="expert_gating_func is 3"):
        read("deepseek2", expert_gating_func=3)
    with pytest.raises(UnsupportedError, match=r"deepseek2\.expert_bias_scale = 2"):
        read("deepseek2", expert_bias_scale=2)


def test_openelm() -> None:
    config = read("openelm")
    assert [layer.n_heads for layer in config.layers] == [2, 4]
    assert [layer.d_ff for layer in config.layers] == [24, 32]
    assert caches(config) == (FullAttention(1, 8, 8), FullAttention(2, 8, 8))
    assert (config.positional, config.rope.dimension) == ("rotary", 8)
    for name, wrong in (
        ("attention__head_count", [2]),
        ("attention__head_count_kv", [2, 3]),
        ("attention__head_count_kv", [0, 2]),
        ("attention__key_length", None),
        ("feed_forward_length", [24, -1]),
        ("feed_forward_length", None),
    ):
        with pytest.raises(ModelFileError, match=rf"openelm\.{name.replace('__', '.')}"):
            read("openelm", **{name: wrong})


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("expert_used_count", 2),
        ("attention__causal", False),
        ("rope__scaling__type", "longrope"),
        ("feed_forward_length", [24, 32]),
        ("tensor_data_layout", "other"),
    ],
)
def test_unsupported_value_is_named(change: str, value: Any) -> None:
    with pytest.raises(UnsupportedError, match="llama." + change.replace("__", ".")):
        read("llama", **{change: value})


@pytest.mark.parametrize("architecture", ["gemma", "gemma2", "gemma3", "qwen2", "qwen3"])
def test_experts_are_refused_where_there_are_none(architecture: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"{architecture}\.expert_count is 8"):
        read(architecture, expert_count=8, expert_used_count=2)


def test_mixtral() -> None:
    config = read("llama", expert_count=8, expert_used_count=2)
    assert (config.n_experts, config.n_experts_used) == (8, 2)
    for wrong in (None, 0, 9):
        with pytest.raises(ModelFileError, match=r"llama\.expert_used_count"):
            read("llama", expert_count=8, expert_used_count=wrong)
    for scale in ("expert_weights_scale", "expert_shared_count"):
        with pytest.raises(UnsupportedError, match=rf"llama\.{scale}"):
            read("llama", expert_count=8, expert_used_count=2, **{scale: 2})


def test_values_that_change_nothing_are_accepted() -> None:
    plain = read("llama")
    assert plain == read(
        "llama",
        expert_count=0,
        expert_used_count=0,
        attention__causal=True,
        pooling_type=0,
        rope__scaling__finetuned=True,
        rope__scaling__type="none",
        rope__scaling__factor=0.0,
        tensor_data_layout="Meta AI original pth",
        attention__sliding_window=0,
    )


def test_linear_scaling_by_either_name() -> None:
    new = read("llama", rope__scaling__type="linear", rope__scaling__factor=4.0)
    old = read("llama", rope__scale_linear=4.0)
    assert new == old
    assert (new.rope.scaling, new.rope.factor) == ("linear", 4.0)


def test_a_factor_of_no_scaling_is_ignored() -> None:
    unscaled = read("llama", rope__scaling__type="none", rope__scaling__factor=4.0)
    assert unscaled == read("llama")
    assert unscaled == read("llama", rope__scaling__type="none", rope__scale_linear=0.5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_lists_of_one_value_for_each_layer(architecture: str) -> None:
    """As converters write them for architectures whose layers may differ."""
    keys = metadata(architecture)
    names = ["attention.head_count", "attention.head_count_kv", "feed_forward_length"]
    values = {name: keys[key] for name in names if (key := f"{architecture}.{name}") in keys}
    layers = keys[f"{architecture}.block_count"]
    lists = {
        name.replace(".", "__"): value if isinstance(value, list) else [value] * layers
        for name, value in values.items()
    }
    assert lists and read(architecture, **lists) == read(architecture)


@pytest.mark.parametrize(
    ("value", "error", "problem"),
    [
        ([24], ModelFileError, r"is \[24\], not one value, or one for each of 2 layers"),
        ([], ModelFileError, r"is \[\], not one value"),
        ([24] * 3, ModelFileError, r"is .*, or one for each of 2 layers"),
        ([True] * 2, ModelFileError, "is True, not a whole number"),
        ([[24]] * 2, ModelFileError, r"is \[24\], not a whole number"),
        ([24, 32], UnsupportedError, r"is a list, \[24, 32\]: layers differ"),
        ([24] * (1 << 20), ModelFileError, r"is \[24, 24, .*\.\.\., not one value"),
    ],
)
def test_lists_that_are_no_value(value: list, error: type[MotetError], problem: str) -> None:
    with pytest.raises(error, match=rf"llama\.feed_forward_length {problem}") as caught:
        read("llama", feed_forward_length=value)
    assert len(str(caught.value)) < 300


def yarn(**changes: Any) -> Any:
    scaling = {"type": "yarn", "factor": 4.0, "original_context_length": 64} | changes
    return read("llama", **{f"rope__scaling__{name}": value for name, value in scaling.items()})


def test_yarn() -> None:
    rope = yarn().rope
    assert (rope.scaling, rope.factor, rope.original_context) == ("yarn", 4.0, 64)
    assert (rope.beta_fast, rope.beta_slow) == (32.0, 1.0)
    assert rope.magnitude == pytest.approx(0.1 * math.log(4.0) + 1)
    assert yarn(yarn_log_multiplier=1.0).rope.magnitude == 1.0
    assert yarn(yarn_attn_factor=0.1 * math.log(4.0) + 1).rope == rope


@pytest.mark.parametrize(
    ("change", "value", "error"),
    [
        ("original_context_length", None, ModelFileError),
        ("yarn_beta_fast", 0.5, ModelFileError),
        ("yarn_beta_slow", math.nan, ModelFileError),
        ("yarn_ext_factor", 0.5, UnsupportedError),
        ("yarn_attn_factor", 1.0, UnsupportedError),
    ],
)
def test_yarn_refusals(change: str, value: float | None, error: type[MotetError]) -> None:
    with pytest.raises(error, match=f"llama.rope.scaling.{change}"):
        yarn(**{change: value})


def test_ramps_of_yarn_beyond_all_channels() -> None:
    """Where a logarithm divides by next to nothing."""
    for base in (1.0 + 2**-52, 3e38):
        for original in (1, (1 << 31) - 1):
            for beta_fast in (2e-38, 3e38):
                rope = yarn(
                    original_context_length=original,
                    yarn_beta_fast=beta_fast,
                    yarn_beta_slow=1.5e-38,
                ).rope
                rotation = make_rope(replace(rope, base=base, dimension=4096), "neox")
                assert np.isfinite(rotation.inv_freq).all()


def test_a_magnitude_beyond_float32() -> None:
    for changes in ({"attn_factor": 3e38}, {"yarn_log_multiplier": 3e38, "attn_factor": 1e-20}):
        with pytest.raises(ModelFileError, match=r"makes yarn's magnitude .*, beyond float32"):
            yarn(factor=1e30, **changes)


def test_many_unknown_keys_are_counted() -> None:
    unknown = {f"key_{i:05}": i for i in range(60_000)}
    with pytest.raises(UnsupportedError, match=r"llama\.key_00007 = 7 and 59992 more") as caught:
        read("llama", **unknown)
    assert len(str(caught.value)) < 500


def test_mistral_slides_on_every_layer() -> None:
    config = read("llama", attention__sliding_window=12)
    assert caches(config) == (SlidingAttention(2, 4, 4, 12),) * 2


def test_qwen2_refuses_a_window_whose_layers_are_unknown() -> None:
    with pytest.raises(UnsupportedError, match=r"qwen2\.attention\.sliding_window"):
        read("qwen2", attention__sliding_window=12)


def test_gemma2_pattern_caps_and_defaults() -> None:
    config = read("gemma2", block_count=5, attention__sliding_window=None)
    assert config.sliding == (True, False, True, False, True)
    assert (config.window, config.attention_softcap, config.logit_softcap) == (4096, 50.0, 30.0)
    config = read("gemma2", attn_logit_softcapping=5.0, final_logit_softcapping=8.0)
    assert (config.window, config.attention_softcap, config.logit_softcap) == (8, 5.0, 8.0)


@pytest.mark.parametrize(("architecture", "layers"), [("gemma2", 46), ("gemma3", 62)])
def test_27b_scale(architecture: str, layers: int) -> None:
    sizes = {"attention__key_length": 8, "attention__value_length": 8}
    assert read(architecture, block_count=layers, **sizes).attention_scale == 1 / math.sqrt(4)
    assert read(architecture, block_count=layers - 1, **sizes).attention_scale == 1 / math.sqrt(8)


@pytest.mark.parametrize(("architecture", "layers"), [("gemma2", 46), ("gemma3", 62)])
def test_27b_scale_of_more_heads_than_channels(architecture: str, layers: int) -> None:
    sizes = {"attention__head_count": 32, "attention__key_length": 8}
    with pytest.raises(ModelFileError, match=r"embedding_length is 16, less than .*head_count, 32"):
        read(architecture, block_count=layers, **sizes)


def test_gemma3_layers_and_bases() -> None:
    config = read("gemma3", block_count=13, rope__scaling__type="linear", rope__scaling__factor=8.0)
    assert [i for i, slides in enumerate(config.sliding) if not slides] == [5, 11]
    assert config.sliding_rope is not None
    assert (config.rope.base, config.rope.factor) == (1e6, 8.0)
    assert (config.sliding_rope.base, config.sliding_rope.scaling) == (10000.0, "none")


def test_gemma3_without_window_has_no_sliding_layer() -> None:
    config = read("gemma3", attention__sliding_window=None)
    assert config.sliding == (False, False)
    assert config.sliding_rope is None


def test_gemma3_needs_its_rope_base() -> None:
    with pytest.raises(ModelFileError, match=r"gemma3\.rope\.freq_base"):
        read("gemma3", rope__freq_base=None)


@pytest.mark.parametrize("architecture", ["gemma2", "gemma3"])
def test_sliding_pattern_key(architecture: str) -> None:
    config = read(architecture, block_count=4, attention__sliding_window_pattern=3)
    assert config.sliding == (True, True, False, True)
    flags = [False, True, True, False]
    config = read(architecture, block_count=4, attention__sliding_window_pattern=flags)
    assert config.sliding == tuple(flags)
    for wrong in (flags[:3], [1, 0, 1, 0], "every sixth", -1):
        with pytest.raises(ModelFileError, match=r"sliding_window_pattern"):
            read(architecture, block_count=4, attention__sliding_window_pattern=wrong)


def test_flags_of_layers_are_a_list() -> None:
    for wrong in (1.5, True, "all", [True], [1, 0], []):
        with pytest.raises(ModelFileError, match="recurrent_layers"):
            read("qwen35", attention__recurrent_layers=wrong)


def test_unknown_architecture_lists_the_known() -> None:
    with pytest.raises(UnsupportedError, match=r"'gpt5'.*gemma2.*llama"):
        family_of("gpt5")


VALUES = st.one_of(
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.floats(),
    st.booleans(),
    st.text(max_size=8),
    st.lists(st.integers(-1, 300), max_size=3),
    st.none(),
)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), architecture=st.sampled_from(ARCHITECTURES))
def test_any_value_gives_a_config_or_an_error(data: st.DataObject, architecture: str) -> None:
    prefix = architecture + "."
    names = [k[len(prefix) :] for k in metadata(architecture) if k.startswith(prefix)]
    extra = ["rope.scaling.type", "rope.scaling.factor", "rope.dimension_count", "vocab_size"]
    changes = data.draw(st.dictionaries(st.sampled_from(names + extra), VALUES, max_size=3))
    try:
        config = read(architecture, **{k.replace(".", "__"): v for k, v in changes.items()})
    except MotetError:
        return
    every = declare(config)[0].caches
    assert len(every) == config.n_layers
    for spec in (spec for specs in every for spec in specs):
        if isinstance(spec, Recurrent):
            assert all(size > 0 for shape in spec.shapes for size in shape)
        else:
            assert min(spec.kv_heads, spec.head_dim) > 0 <= spec.value_dim
