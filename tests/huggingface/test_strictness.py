"""Every key of config.json that changes the arithmetic is used or refused; so is every tensor."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet import Batch, Model, ModelFileError, MotetError, UnsupportedError
from motet.huggingface import HuggingFaceDirectory
from motet.huggingface.config import ConfigReader
from motet.huggingface.families import plan_of
from motet.huggingface.families.gemma import GELU
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from tests.huggingface.inverted import write_pooling
from tests.huggingface.making import write
from tests.models.tiny import VOCAB
from tests.parity import test_jina_bert
from tests.parity.common import KERNELS

_DECODER = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "head_dim": 8,
}
_ENCODER = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 256,
    "hidden_act": "gelu",
}
_SCALE = {"query_pre_attn_scalar": 8}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _DECODER,
    "mistral": _DECODER,
    "mixtral": _DECODER,
    "qwen2": _DECODER,
    "qwen3": _DECODER,
    "gemma": _DECODER,
    "gemma2": _DECODER | _SCALE,
    "gemma3_text": _DECODER | _SCALE,
    "gemma3": {"text_config": _DECODER | _SCALE},
    "starcoder2": {k: v for k, v in _DECODER.items() if k not in ("rms_norm_eps", "head_dim")},
    "gpt2": {"n_embd": 16, "n_head": 4, "n_layer": 2, "n_positions": 256},
    "mpt": {"d_model": 16, "n_heads": 4, "n_layers": 2, "max_seq_len": 256, "attn_config": {}},
    "openelm": {
        "model_dim": 16,
        "head_dim": 8,
        "num_transformer_layers": 2,
        "max_context_length": 256,
        "num_query_heads": [2, 4],
        "num_kv_heads": [1, 2],
        "ffn_multipliers": [1.0, 2.0],
        "ffn_dim_divisor": 8,
    },
    "bert": _ENCODER,
    "roberta": _ENCODER,
    "xlm-roberta": _ENCODER,
    "nomic_bert": _ENCODER | {"hidden_act": "silu"},
    "modernbert": {k: v for k, v in _ENCODER.items() if k != "hidden_act"},
}


def plan(kind: str, folder: Path, **changes: Any) -> Plan:
    config = {"model_type": kind} | CONFIGS[kind] | changes
    return plan_of(ConfigReader(config, "config.json"), Directory(str(folder)))


@pytest.mark.parametrize("kind", CONFIGS)
def test_unknown_keys_are_refused(kind: str, tmp_path: Path) -> None:
    plan(kind, tmp_path)
    with pytest.raises(UnsupportedError, match=r"new_trick = 0\.5"):
        plan(kind, tmp_path, new_trick=0.5)
    # Those of training change nothing.
    plan(kind, tmp_path, initializer_range=0.1, use_cache=False, attention_dropout=0.1)


_ROPE = {"rope_theta": 10000.0, "rope_scaling": None}
PUBLISHED: dict[str, dict[str, Any]] = {
    "llama": _ROPE
    | {"pretraining_tp": 1, "attention_bias": False, "is_llama_config": True}
    | {"rope_interleaved": False, "transformers.js_config": {"dtype": "q4"}, "mlp_bias": False},
    "mistral": {"rope_theta": 1e6, "sliding_window": None, "torch_dtype": "bfloat16"},
    "mixtral": {"output_router_logits": False, "router_aux_loss_coef": 0.02},
    "qwen2": _ROPE
    | {"use_mrope": False, "max_window_layers": 28, "sliding_window": 32768}
    | {"use_sliding_window": False, "tie_word_embeddings": True},
    "gemma": {"hidden_act": "gelu", "hidden_activation": None, "attention_bias": False},
    "gemma2": {"cache_implementation": "hybrid", "sliding_window_size": 4096, "hidden_act": GELU},
    "gemma3": {"boi_token_index": 255999, "eoi_token_index": 256000, "image_token_index": 262144}
    | {"mm_tokens_per_image": 256, "vision_config": {"hidden_size": 8}, "eos_token_id": [1, 106]},
    "starcoder2": {"mlp_type": "default", "norm_type": "layer_norm", "use_bias": True},
    "gpt2": {"n_ctx": 256, "summary_type": "cls_index", "summary_use_proj": True}
    | {"summary_first_dropout": 0.1, "task_specific_params": {"text-generation": {}}}
    | {"activation_function": "gelu_new", "_num_labels": 1, "summary_activation": None},
    "mpt": {"init_config": {"name": "kaiming_normal_"}, "verbose": 0, "tokenizer_name": "neox"}
    | {"embedding_fraction": 1.0, "no_bias": True, "norm_type": "low_precision_layernorm"},
    "openelm": {"qkv_multipliers": [0.5, 1.0], "num_gqa_groups": 4, "rope_max_length": 4096},
    "bert": {"position_embedding_type": "absolute", "type_vocab_size": 2, "pruned_heads": {}}
    | {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}
    | {"directionality": "bidi", "pooler_fc_size": 768, "gradient_checkpointing": False},
    "xlm-roberta": {"output_past": True, "classifier_dropout": None, "pad_token_id": 1},
    "nomic_bert": {"fused_bias_fc": True, "use_flash_attn": True, "rotary_scaling_factor": None}
    | {"max_trained_positions": 2048, "dense_seq_output": True, "rotary_emb_base": 1000}
    | {"pad_vocab_size_multiple": 64, "parallel_block": False, "use_xentropy": True},
    "modernbert": {"position_embedding_type": "absolute", "reference_compile": False}
    | {"repad_logits_with_grad": False, "global_rope_theta": 160000.0, "norm_bias": False}
    | {"global_attn_every_n_layers": 3, "classifier_pooling": "mean", "layer_norm_eps": 1e-5},
}
"""Of the best known models' files, beyond their sizes."""


@pytest.mark.parametrize("kind", PUBLISHED)
def test_published_keys_are_known(kind: str, tmp_path: Path) -> None:
    plan(kind, tmp_path, **PUBLISHED[kind])


def scaling(**values: Any) -> dict[str, Any]:
    return {"rope_scaling": values}


YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize(
    ("kind", "changes", "match"),
    [
        ("llama", {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ("llama", {"layer_types": ["full_attention", "sliding_attention"]}, "sliding_attention"),
        ("llama", {"layer_types": ["full_attention", "linear_attention"]}, "linear_attention"),
        ("llama", {"layer_types": ["full_attention"]}, "each of 2 layers"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
        ("llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ("llama", scaling(type="dynamic", factor=2.0), "rope_type is 'dynamic'"),
        ("llama", scaling(rope_type="longrope", long_factor=[1.0]), "rope_type is 'longrope'"),
        ("llama", scaling(rope_type="linear", factor=2.0, turn=1), "turn = 1"),
        ("llama", scaling(**YARN, mscale=0.7), "mscale = 0.7"),
        ("llama", scaling(**YARN, truncate=False), "truncate is False"),
        ("llama", {"rope_scaling": YARN, "rope_parameters": YARN | {"factor": 2.0}}, "says 4.0"),
        ("llama", {"rope_parameters": {"full_attention": {}, "other": {}}}, "other is {}"),
        ("llama", {"num_attention_heads": "four"}, "num_attention_heads is 'four'"),
        ("llama", {"hidden_size": None}, "hidden_size .* is missing"),
        ("llama", {"id2label": {"5": "x"}, "architectures": ["AForSequenceClassification"]}, "id2"),
        ("mistral", {"layer_types": ["sliding_attention"] * 2}, "sliding_attention"),
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window is True"),
        ("qwen2", {"is_causal": False}, "is_causal = False"),
        ("qwen3", {"architectures": ["Qwen3ForSequenceClassification"]}, "a classifier of its own"),
        ("gemma", {"hidden_act": "silu"}, "hidden_activation is 'silu'"),
        ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ("gemma2", {"query_pre_attn_scalar": 9}, "query_pre_attn_scalar is 9"),
        ("gemma2", {"attn_logit_softcapping": None}, "attn_logit_softcapping is missing"),
        ("gemma2", {"hidden_activation": "gelu"}, "hidden_activation is 'gelu'"),
        ("gemma3_text", {"query_pre_attn_scalar": 9}, "query_pre_attn_scalar is 9"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is 50.0"),
        (
            "gemma3_text",
            {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
            "other layers",
        ),
        ("gemma3", {"text_config": _DECODER | _SCALE | {"trick": 1}}, "text_config.*trick = 1"),
        ("starcoder2", {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ("gpt2", {"activation_function": "relu"}, "activation_function is 'relu'"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights is False"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention is True"),
        ("mpt", {"attn_config": {"alibi": False}}, "alibi is False"),
        ("mpt", {"attn_config": {"qk_ln": True}}, "qk_ln is True"),
        ("mpt", {"attn_config": {"softmax_scale": 1.0}}, "softmax_scale is 1.0"),
        ("mpt", {"attn_config": {"rope": True}}, "rope = True"),
        ("mpt", {"logit_scale": "inv_sqrt_d_model"}, "logit_scale"),
        ("mpt", {"expansion_ratio": 3}, "expansion_ratio is 3"),
        ("openelm", {"normalize_qk_projections": False}, "normalize_qk_projections"),
        ("openelm", {"share_input_output_layers": False}, "share_input_output_layers"),
        ("openelm", {"num_kv_heads": [1]}, "num_kv_heads"),
        ("bert", {"is_decoder": True}, "is_decoder is True"),
        ("bert", {"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'"),
        ("bert", {"position_embedding_type": "relative_key"}, "relative_key"),
        ("bert", {"position_embedding_type": "alibi", "feed_forward_type": "reglu"}, "reglu"),
        ("bert", {"position_embedding_type": "alibi", "use_qk_norm": True}, "use_qk_norm"),
        ("roberta", {"max_position_embeddings": 2}, "max_position_embeddings is 2"),
        ("nomic_bert", {"num_experts": 8}, "num_experts is 8"),
        ("nomic_bert", {"activation_function": "gelu"}, "activation_function is 'gelu'"),
        ("nomic_bert", {"rotary_emb_fraction": 0.5}, "rotary_emb_fraction is 0.5"),
        ("nomic_bert", {"prenorm": True}, "prenorm is True"),
        (
            "modernbert",
            {"architectures": ["XForSequenceClassification"], "classifier_pooling": "mean"},
            "classifier_pooling is 'mean'",
        ),
        (
            "modernbert",
            {"architectures": ["XForSequenceClassification"], "classifier_activation": "relu"},
            "classifier_activation is 'relu'",
        ),
        (
            "modernbert",
            {"global_attn_every_n_layers": 2, "layer_types": ["full_attention"] * 3},
            "global_attn_every_n_layers is 2",
        ),
    ],
)
def test_refused(kind: str, changes: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(MotetError, match=match):
        plan(kind, tmp_path, **changes)


def test_what_the_class_means_where_the_file_is_silent(tmp_path: Path) -> None:
    """An absent key is transformers' default; null is none."""
    window = "attention.sliding_window"
    assert plan("mistral", tmp_path).keys[window] == 4096
    assert window not in plan("mistral", tmp_path, sliding_window=None).keys
    assert plan("mixtral", tmp_path).keys["rope.freq_base"] == 1e6
    config = {k: v for k, v in CONFIGS["qwen3"].items() if k != "head_dim"}
    silent = plan_of(
        ConfigReader(config | {"model_type": "qwen3"}, "config.json"), Directory(str(tmp_path))
    )
    assert silent.keys["attention.key_length"] == 128
    keys = plan("gemma3_text", tmp_path).keys
    assert (keys["rope.freq_base"], keys["rope.freq_base_swa"]) == (1e6, 1e4)
    assert plan("gemma", tmp_path, rope_theta=500.0).keys["rope.freq_base"] == 500.0


def test_which_layers_slide(tmp_path: Path) -> None:
    def pattern(kind: str, layers: str, **changes: Any) -> Any:
        kinds = [{"s": "sliding_attention", "f": "full_attention"}[layer] for layer in layers]
        sizes = {"num_hidden_layers": len(layers), "layer_types": kinds}
        keys = plan(kind, tmp_path, **sizes, **changes).keys
        return keys.get("attention.sliding_window_pattern")

    assert pattern("gemma2", "sfsf") is None
    assert pattern("gemma2", "ssfssf") == 3
    assert pattern("gemma3_text", "sssssfs") is None
    assert pattern("gemma3_text", "sfffs") == [True, False, False, False, True]
    assert pattern("modernbert", "fssfss") == 3
    assert pattern("modernbert", "fsfs") == 2
    everything = plan("gemma3_text", tmp_path, sliding_window_pattern=1).keys
    assert "attention.sliding_window" not in everything


@pytest.mark.parametrize(
    ("pooling", "match"),
    [
        ({"pooling_mode": "max"}, "pooling_mode is 'max'"),
        ({"pooling_mode_weightedmean_tokens": True}, "weightedmean_tokens is True"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "of several kinds"),
        ({}, "pooling_mode is 'none'"),
        ({"pooling_mode": "mean", "new": 1}, "new = 1"),
    ],
)
def test_poolings_are_refused(pooling: dict[str, Any], match: str, tmp_path: Path) -> None:
    write_pooling(tmp_path, "cls")
    assert plan("bert", tmp_path).keys["pooling_type"] == 2
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    with pytest.raises(UnsupportedError, match=match):
        plan("bert", tmp_path)


@pytest.mark.parametrize(
    "modules", [{}, [1], [{"type": 3, "path": ""}], [{"type": "a.Dense", "path": "2_Dense"}]]
)
def test_modules_are_refused(modules: Any, tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(MotetError, match=r"modules\.json"):
        plan("bert", tmp_path)


def test_a_reranker_without_answers(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Qwen3-Reranker-0.6B")
    with pytest.raises(ModelFileError, match=r"has no tokenizer\.json"):
        plan("qwen3", tmp_path)
    (tmp_path / "vocab.json").write_text('{"yes": 1}')
    with pytest.raises(ModelFileError, match="lacks one of yes and no"):
        plan("qwen3", tmp_path)
    (tmp_path / "vocab.json").write_text('{"yes": 1, "no": 2}')
    assert plan("qwen3", tmp_path).keys["classifier.output_labels"] == ["yes", "no"]


@pytest.mark.parametrize("kernels", KERNELS)
def test_jinas_bert(kernels: str, tmp_path: Path) -> None:
    """Its gate and its other half stand in one matrix; ALiBi says which BERT it is."""
    d, ff = test_jina_bert.WIDTH, 20
    random = np.random.default_rng(4)
    shapes = {
        "embeddings.word_embeddings.weight": (VOCAB, d),
        "embeddings.token_type_embeddings.weight": (2, d),
        "embeddings.LayerNorm": (d,),
        "pooler.dense": (d, d),
    }
    for i in range(2):
        layer = f"encoder.layer.{i}."
        shapes |= {f"{layer}attention.self.{name}": (d, d) for name in ("query", "key", "value")}
        shapes |= {f"{layer}attention.output.dense": (d, d), f"{layer}mlp.wo": (d, ff)}
        shapes |= {f"{layer}{n}": (d,) for n in ("attention.output.LayerNorm", "mlp.layernorm")}
        shapes[f"{layer}mlp.gated_layers.weight"] = (2 * ff, d)
    tensors = {}
    for name, shape in shapes.items():
        values = random.normal(0, shape[-1] ** -0.5, shape).astype(np.float32)
        if name.endswith("weight"):
            tensors[name] = values
        else:
            tensors[name + ".weight"] = values + (len(shape) == 1)
            tensors[name + ".bias"] = random.normal(0, 0.3, shape[0]).astype(np.float32)
    config = CONFIGS["bert"] | {
        "model_type": "bert",
        "hidden_size": d,
        "num_attention_heads": test_jina_bert.HEADS,
        "num_hidden_layers": 2,
        "intermediate_size": ff,
        "position_embedding_type": "alibi",
        "feed_forward_type": "geglu",
        "emb_pooler": "mean",
        "model_max_length": 256,
        "layer_norm_eps": test_jina_bert.EPS,
        "auto_map": {"AutoModel": "x--y.JinaBertModel"},
    }
    with HuggingFaceDirectory.open(write(tmp_path, config, tensors)) as source:
        named = {
            name: source.raw(name).view(np.float32).reshape(info.shape).astype(np.float64)
            for name, info in source.tensors.items()
        }
        model = Model(source, KERNELS[kernels]())
    gated = tensors["encoder.layer.1.mlp.gated_layers.weight"]
    assert np.array_equal(named["blk.1.ffn_gate.weight"], gated[:ff])
    assert np.array_equal(named["blk.1.ffn_up.weight"], gated[ff:])
    tokens, batch = random.integers(0, VOCAB, 90), Batch()
    batch.extend(tokens, 0, logits="all")
    states = test_jina_bert.expected(named, tokens)
    pooled = model.context().encode(batch).pooled[0]
    np.testing.assert_allclose(pooled, states.mean(axis=0), rtol=0, atol=3e-5)
