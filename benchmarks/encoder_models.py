"""Write encoders with the shapes of real ones and random weights, as every engine wants them.

    PEER-PYTHON -m benchmarks.encoder_models minilm bert.vocab.txt OUT

For a Python with torch, transformers, onnx, onnxruntime and gguf: a folder for
sentence-transformers (with the ONNX files of FastEmbed, float32 and int8, in `onnx/`), and GGUF
files in F32, F16 and Q8_0, all of the same weights. The same arguments give the same model.
"""

import argparse
import json
from pathlib import Path
from typing import Any

SHAPES = {
    # width, layers, heads, feed-forward, pooling
    "minilm": (384, 6, 12, 1536, "mean"),
    "bge-small": (384, 12, 12, 1536, "cls"),
    "bge-base": (768, 12, 12, 3072, "cls"),
}
CONTEXT = 512
_NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}
_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def write(name: str, vocabulary: Path, out: Path) -> None:
    """All files of one shape."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    width, layers, heads, inner, pooling = SHAPES[name]
    torch.manual_seed(0)
    words = vocabulary.read_text(encoding="utf-8").splitlines()
    tokenizer = BertWordPieceTokenizer({word: i for i, word in enumerate(words)})
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=CONTEXT,
    )
    config._attn_implementation = "eager"  # which the optimizer knows how to fuse
    model = BertModel(config, add_pooling_layer=False).eval()
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer,
        model_max_length=CONTEXT,
        unk_token="[UNK]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        mask_token="[MASK]",
    ).save_pretrained(out)
    _describe(out, width, pooling)
    _write_onnx(model, out)
    for type in ("F32", "F16", "Q8_0"):
        _write_gguf(model, words, pooling, type, out / f"model-{type}.gguf")


def _describe(out: Path, width: int, pooling: str) -> None:
    """What sentence-transformers wants to know."""
    parts = ("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(parts)
    ]
    (out / "modules.json").write_text(json.dumps(modules))
    (out / "1_Pooling").mkdir(exist_ok=True)
    settings = {
        "word_embedding_dimension": width,
        "pooling_mode_cls_token": pooling == "cls",
        "pooling_mode_mean_tokens": pooling == "mean",
    }
    (out / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    (out / "2_Normalize").mkdir(exist_ok=True)
    limit = {"max_seq_length": CONTEXT, "do_lower_case": False}
    (out / "sentence_bert_config.json").write_text(json.dumps(limit))


def _write_onnx(model: Any, out: Path) -> None:
    import onnx
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model

    folder = out / "onnx"
    folder.mkdir(exist_ok=True)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    ids = torch.ones(2, 8, dtype=torch.int64)
    axes = {name: {0: "batch", 1: "tokens"} for name in [*names, "last_hidden_state"]}

    class Positional(torch.nn.Module):
        """With inputs in order, and one output."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, mask: Any, types: Any) -> Any:
            out = self.model(input_ids=ids, attention_mask=mask, token_type_ids=types)
            return out.last_hidden_state

    torch.onnx.export(
        Positional(),
        (ids, ids, torch.zeros_like(ids)),
        str(folder / "model.onnx"),
        input_names=names,
        output_names=["last_hidden_state"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    full, small = folder / "model.onnx", folder / "model_int8.onnx"
    heads, width = model.config.num_attention_heads, model.config.hidden_size
    fused = optimize_model(str(full), "bert", num_heads=heads, hidden_size=width)
    fused.save_model_to_file(str(full))
    print(fused.get_fused_operator_statistics())
    options = {"DefaultTensorType": onnx.TensorProto.FLOAT}
    quantize_dynamic(full, small, weight_type=QuantType.QInt8, extra_options=options)


def _write_gguf(model: Any, words: list[str], pooling: str, type: str, path: Path) -> None:
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_causal_attention(False)
    kind = gguf.PoolingType.CLS if pooling == "cls" else gguf.PoolingType.MEAN
    writer.add_pooling_type(kind)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_type_count(2)
    special = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "bos": "[CLS]", "mask": "[MASK]"}
    control = set(special.values())
    writer.add_token_list(
        [w[2:] if w.startswith("##") else w if w in control else "▁" + w for w in words]
    )
    writer.add_token_types([3 if w in control else 1 for w in words])
    for what, word in special.items():
        getattr(writer, f"add_{what}_token_id")(words.index(word))
    wanted = gguf.GGMLQuantizationType[type]
    for name, tensor in model.state_dict().items():
        stem, _, part = name.rpartition(".")
        if stem in _NAMES:
            target = f"{_NAMES[stem]}.{part}"
        elif stem.startswith("encoder.layer."):
            number, _, rest = stem.removeprefix("encoder.layer.").partition(".")
            target = f"blk.{number}.{_LAYER[rest]}.{part}"
        else:
            continue
        values = tensor.float().numpy()
        small = values.ndim == 1 or target.startswith(("position", "token_types"))
        stored = gguf.GGMLQuantizationType.F32 if small else wanted
        writer.add_tensor(target, gguf.quants.quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("vocabulary", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    write(given.shape, given.vocabulary, given.out)
