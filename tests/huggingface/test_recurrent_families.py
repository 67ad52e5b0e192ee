"""Directories of Mamba, Falcon-Mamba, Mamba-2, Jamba and RWKV-6."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet import UnsupportedError
from motet.errors import ModelFileError, MotetError
from motet.huggingface import HuggingFaceDirectory
from motet.huggingface.config import ConfigReader
from motet.huggingface.families import plan_of
from motet.huggingface.families.mamba import negative_exp
from motet.huggingface.files import Directory
from motet.weights.gguf_writer import write as write_gguf
from tests.huggingface.making import write
from tests.huggingface.sources import differing, logits
from tests.parity import oracle_rwkv6
from tests.parity.common import KERNELS, tolerance
from tests.shared import SHARED, needs_shared

PARITY = SHARED / "parity"
TOKENS = np.random.default_rng(1).integers(0, 48, 130)


@needs_shared
@pytest.mark.parametrize("name", ["mamba", "mamba2", "falcon_mamba", "jamba"])
def test_a_directory_is_its_conversion(name: str, tmp_path: Path) -> None:
    """But for some last bits of A = -exp(A_log), which torch's float32 exp rounded wrongly."""
    spec = importlib.util.spec_from_file_location("hf_from_gguf", PARITY / "hf_from_gguf.py")
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.write(PARITY / name, tmp_path / name)
    keys, tensors = differing(tmp_path / name, PARITY / name / "model.gguf")
    assert not keys
    assert all(key.endswith("ssm_a") and share < 0.02 for key, share in tensors.items())
    with HuggingFaceDirectory.open(tmp_path / name) as source:
        (path,) = write_gguf(source, tmp_path / "m.gguf")
    tokens = np.load(PARITY / name / "tokens.npy")
    ours = logits(tmp_path / name, KERNELS["native"], tokens)
    assert np.array_equal(ours, logits(path, KERNELS["native"], tokens))
    theirs = np.load(PARITY / name / "logits_hf.npy")
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance(name))


def test_a_is_rounded_correctly() -> None:
    values = np.random.default_rng(1).normal(0, 2, 10_000).astype(np.float32)
    right = np.array([-np.float32(np.exp(np.longdouble(v))) for v in values])
    assert np.array_equal(negative_exp(values), right)


@pytest.mark.parametrize(
    "name",
    ["mamba", "mamba_no_bias", "falcon_mamba", "mamba2", "mamba2_groups", "jamba", "jamba_dense"],
)
def test_live(name: str, tmp_path: Path) -> None:
    """Saved as BF16, in several files, by transformers."""
    model, theirs = _saved(name, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    for kernels in KERNELS.values():
        ours = logits(tmp_path, kernels, TOKENS)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance(name))
    if model.config.model_type == "jamba" and model.config.num_experts > 1:
        # As transformers 5 holds experts: gate and up of all in one tensor.
        config = json.loads((tmp_path / "config.json").read_text())
        write(tmp_path / "5", config, _tensors(model))
        assert np.array_equal(logits(tmp_path / "5", kernels, TOKENS), ours)


def test_norms_within_a_falcon_mamba_have_an_epsilon_of_their_own(tmp_path: Path) -> None:
    _, theirs = _saved("falcon_mamba", tmp_path, mixer_rms_eps=0.3)
    ours = logits(tmp_path, KERNELS["native"], TOKENS)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["mamba", "mamba2", "codestral"])
def test_the_authors_own_checkpoints(name: str, tmp_path: Path) -> None:
    """Bare configurations, with the authors' names; a vocabulary padded to a multiple of 8."""
    kind = "mamba2_groups" if name == "codestral" else name
    model, theirs = _saved(kind, tmp_path / "transformers", layer_norm_epsilon=1e-5)
    config, tensors = model.config, _tensors(model)
    start = "model." if name == "codestral" else ""
    original = {
        start + key.replace("backbone.embeddings", "backbone.embedding"): value
        for key, value in tensors.items()
    }
    head = original.setdefault(f"{start}lm_head.weight", tensors["backbone.embeddings.weight"])
    layer = {"d_state": config.state_size, "d_conv": config.conv_kernel}
    if name == "mamba":
        layer |= {"dt_rank": config.time_step_rank}
    else:
        layer |= {"layer": "Mamba2", "headdim": config.head_dim, "chunk_size": 64}
    bare: dict[str, Any] = {
        "d_model": config.hidden_size,
        "n_layer": config.num_hidden_layers,
        "vocab_size": 45,
        "ssm_cfg": layer,
        "rms_norm": True,
        "residual_in_fp32": True,
        "fused_add_norm": True,
        "pad_vocab_size_multiple": 8,
        "tie_embeddings": head is tensors["backbone.embeddings.weight"],
    }
    if name == "codestral":
        bare["dim"], bare["n_layers"] = bare.pop("d_model"), bare.pop("n_layer")
        bare |= {"n_groups": config.n_groups, "model_type": "mamba"}
    path = write(tmp_path / "original", bare, original)
    ours = logits(path, KERNELS["native"], TOKENS)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    bare |= {"attn_layer_idx": [1]}
    with pytest.raises(UnsupportedError, match="attn_layer_idx"):
        HuggingFaceDirectory.open(write(path, bare, original))


@pytest.mark.parametrize("name", oracle_rwkv6.CASES)
def test_rwkv6(name: str, tmp_path: Path) -> None:
    sizes = oracle_rwkv6.CASES[name]
    weights = oracle_rwkv6.random_weights(sizes, 1)
    path = rwkv6(name, tmp_path)
    right = oracle_rwkv6.logits(weights, sizes, TOKENS)
    for kernels in KERNELS.values():
        ours = logits(path, kernels, TOKENS)
        np.testing.assert_allclose(ours, right, rtol=0, atol=1e-4)
    oracle_rwkv6.write_gguf(weights, sizes, tmp_path / "m.gguf")
    keys, tensors = differing(path, tmp_path / "m.gguf")
    assert keys == {"general.type"}
    assert all("time_mix_lerp_" in key for key in tensors)  # fused, or not
    assert np.array_equal(ours, logits(tmp_path / "m.gguf", kernels, TOKENS))


_MAMBA = {
    "model_type": "mamba",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "state_size": 4,
    "vocab_size": 16,
}
_JAMBA = {
    "model_type": "jamba",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "intermediate_size": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 32,
}
_RWKV = {"model_type": "rwkv6", "hidden_size": 64, "num_hidden_layers": 1, "head_size": 64}


_MAMBA2 = _MAMBA | {"model_type": "mamba2", "head_dim": 4, "n_groups": 1}
_BARE = {"d_model": 8, "n_layer": 1, "vocab_size": 16, "ssm_cfg": {}}
_BARE2 = {"layer": "Mamba2", "headdim": 4}


@pytest.mark.parametrize(
    ("config", "changes", "named"),
    [
        (_MAMBA, {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        (_MAMBA, {"rms_norm": False}, "rms_norm is False"),
        (_MAMBA, {"conv_kernel": "4"}, "conv_kernel is '4'"),
        (_MAMBA, {"expand": float("nan")}, "expand is nan"),
        (_MAMBA, {"layer_norm_epsilon": 10**400}, "layer_norm_epsilon is 10000"),
        (_MAMBA, {"some_new_key": 1}, "some_new_key = 1"),
        (_MAMBA, {"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        (_MAMBA, {"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        (_MAMBA2, {"time_step_limit": [0.01, 0.1]}, "time_step_limit is [0.01, 0.1]"),
        (_MAMBA2, {"n_groups": 3}, "4 heads are not 3 groups"),
        (_MAMBA2, {"head_dim": 0}, "16 channels are not heads of 0"),
        (_MAMBA2, {"num_heads": 7}, "num_heads is 7"),
        (_JAMBA, {"sliding_window": 8}, "sliding_window is 8"),
        (_JAMBA, {"attn_layer_period": 0}, "attn_layer_offset 4 is not below 0"),
        (_JAMBA, {"mamba_inner_layernorms": False}, "mamba_inner_layernorms is False"),
        (_RWKV, {"head_size_divisor": 4}, "head_size_divisor is 4"),
        (_RWKV, {"attention_hidden_size": 32}, "of which 32 in time mixing"),
        (_RWKV, {"head_size": 0}, "heads of 0"),
        (_BARE, {"rms_norm": False}, "rms_norm is False"),
        (_BARE, {"d_intermediate": 8}, "d_intermediate is 8"),
        (_BARE, {"ssm_cfg": {"layer": "Mamba3"}}, "layer is 'Mamba3'"),
        (_BARE, {"ssm_cfg": _BARE2 | {"norm_before_gate": True}}, "norm_before_gate is True"),
        (_BARE, {"ssm_cfg": _BARE2 | {"d_ssm": 8}}, "d_ssm is 8"),
    ],
)
def test_keys_that_change_the_arithmetic_are_refused_by_name(
    config: dict[str, Any], changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    path = write(tmp_path, config | changes, {"x.weight": np.zeros((2, 2), np.float32)})
    with pytest.raises(MotetError, match=re.escape(named)):
        HuggingFaceDirectory.open(path)


_TRAINING = {
    "initializer_range": 0.1,
    "rescale_prenorm_residual": False,
    "residual_in_fp32": True,
    "time_step_floor": 1e-4,
    "time_step_init_scheme": "random",
    "time_step_max": 0.1,
    "time_step_min": 0.001,
    "time_step_scale": 1.0,
    "use_bias": False,
    "use_cache": True,
    "use_conv_bias": True,
}
PUBLISHED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "state-spaces/mamba-130m-hf": (
        _MAMBA | _TRAINING,
        {"d_inner": 16, "d_model": 8, "n_layer": 1, "ssm_cfg": {}, "time_step_rank": 1, "expand": 2}
        | {"fused_add_norm": True, "rms_norm": True, "pad_vocab_size_multiple": 8},
    ),
    "tiiuae/falcon-mamba-7b": (
        _MAMBA | _TRAINING | {"model_type": "falcon_mamba"},
        {"expand": 16, "intermediate_size": 16, "mixer_rms_eps": 1e-6, "use_mambapy": False},
    ),
    "mistralai/Mamba-Codestral-7B-v0.1": (
        _MAMBA2 | _TRAINING,
        {"norm_before_gate": True, "rms_norm": True, "num_heads": 4, "intermediate_size": 16}
        | {"time_step_rank": 256, "time_step_limit": [0.0, float("inf")], "chunk_size": 256},
    ),
    "state-spaces/mamba-130m": (
        _BARE,
        {"rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True}
        | {"pad_vocab_size_multiple": 8},
    ),
    "state-spaces/mamba2-130m": (
        _BARE | {"ssm_cfg": {"layer": "Mamba2"}, "d_model": 64},
        {"d_intermediate": 0, "attn_layer_idx": [], "attn_cfg": {}, "tie_embeddings": True}
        | {"pad_vocab_size_multiple": 16},
    ),
    "ai21labs/Jamba-v0.1": (
        _JAMBA,
        {"attn_layer_offset": 4, "attn_layer_period": 8, "calc_logits_for_entire_prompt": False}
        | {"mamba_inner_layernorms": True, "n_ctx": 262144, "num_logits_to_keep": 1}
        | {"use_mamba_kernels": True, "sliding_window": None, "mamba_dt_rank": "auto"}
        | {"mamba_conv_bias": True, "mamba_proj_bias": False, "router_aux_loss_coef": 0.001},
    ),
    "RWKV/v6-Finch-1B6-HF": (
        _RWKV,
        {"attention_hidden_size": 64, "head_size_divisor": 8, "num_attention_heads": 64}
        | {"rescale_every": 6, "auto_map": {"AutoConfig": "configuration_rwkv6.Rwkv6Config"}},
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_keys_are_known(name: str, tmp_path: Path) -> None:
    config, more = PUBLISHED[name]
    plan_of(ConfigReader(config | more, "config.json"), Directory(str(tmp_path)))


def _saved(name: str, folder: Path, **changes: Any) -> tuple[Any, np.ndarray]:
    """A random model of BF16 weights, saved by transformers, and its logits in float32."""
    torch = pytest.importorskip("torch", reason="needs torch, the oracle")
    pytest.importorskip("transformers", reason="needs transformers, the oracle")
    from tests.parity.oracle import CASES, oracle_logits, random_model

    config = CASES[name]()
    for key, value in changes.items():
        setattr(config, key, value)
    model = random_model(config, 1).to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="8KB")
    return model, oracle_logits(model.float(), TOKENS)


def _tensors(model: Any) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy() for name, p in model.named_parameters()}


def _rwkv6_config(sizes: oracle_rwkv6.Sizes) -> dict[str, Any]:
    return {
        "model_type": "rwkv6",
        "architectures": ["Rwkv6ForCausalLM"],
        "auto_map": {"AutoModelForCausalLM": "modeling_rwkv6.Rwkv6ForCausalLM"},
        "hidden_size": sizes.d,
        "attention_hidden_size": sizes.d,
        "head_size": sizes.head,
        "head_size_divisor": 8,
        "num_hidden_layers": sizes.n_layers,
        "num_attention_heads": sizes.head,
        "intermediate_size": sizes.ff,
        "layer_norm_epsilon": sizes.eps,
        "rescale_every": sizes.rescale_every,
        "time_mix_extra_dim": sizes.mix_rank,
        "time_decay_extra_dim": sizes.decay_rank,
        "vocab_size": sizes.n_vocab,
        "tie_word_embeddings": False,
        "use_cache": True,
    }


def rwkv6(name: str, folder: Path) -> Path:
    """A directory of random weights, in two files."""
    sizes = oracle_rwkv6.CASES[name]
    tensors = _rwkv6_tensors(oracle_rwkv6.random_weights(sizes, 1))
    return write(folder, _rwkv6_config(sizes), tensors, shards=2)


_RWKV_NAMES = {
    "r": "receptance",
    "k": "key",
    "v": "value",
    "g": "gate",
    "o": "output",
    "decay": "time_decay",
    "decay_w1": "time_decay_w1",
    "decay_w2": "time_decay_w2",
    "faaaa": "time_faaaa",
}


def _rwkv6_tensors(weights: oracle_rwkv6.Weights) -> dict[str, np.ndarray]:
    """By the names that transformers' RWKV-6 has, of the authors' repositories."""
    tensors: dict[str, np.ndarray] = {}
    for full, value in weights.items():
        layer, _, name = full.partition(".") if full[0].isdigit() else ("", "", full)
        part, _, own = name.partition(".")
        if own.startswith(("maa_", "decay", "faaaa")):
            flat = own not in ("maa_w1", "maa_w2", "decay_w1", "decay_w2", "faaaa")
            value = value.reshape(1, 1, -1) if flat else value
            own = _RWKV_NAMES.get(own, f"time_{own}")
        elif part in ("att", "ffn") and not own.startswith("ln"):
            own = _RWKV_NAMES[own] + ".weight"
        outside = {"emb": "rwkv.embeddings.weight", "head": "head.weight"}
        outside |= {f"ln0.{end}": f"rwkv.blocks.0.pre_ln.{end}" for end in ("weight", "bias")}
        outside |= {f"ln_out.{end}": f"rwkv.ln_out.{end}" for end in ("weight", "bias")}
        part = {"att": "attention", "ffn": "feed_forward"}.get(part, part)
        name = outside.get(full) or f"rwkv.blocks.{layer}.{part}.{own}"
        tensors[name] = value.astype(np.float32)
    return tensors


def test_tensors_are_used_or_refused(tmp_path: Path) -> None:
    weights = oracle_rwkv6.random_weights(oracle_rwkv6.CASES["rwkv6"], 1)
    tensors = _rwkv6_tensors(weights)
    config = _rwkv6_config(oracle_rwkv6.CASES["rwkv6"])
    extra = tensors | {"rwkv.blocks.0.attention.gate.lora": np.zeros((2, 2), np.float32)}
    with pytest.raises(UnsupportedError, match="lora"):
        HuggingFaceDirectory.open(write(tmp_path, config, extra))
    del tensors["rwkv.blocks.1.attention.gate.weight"]
    with pytest.raises(ModelFileError, match=r"blk.1.time_mix_gate.weight"):
        logits(write(tmp_path, config, tensors), KERNELS["reference"], TOKENS)
