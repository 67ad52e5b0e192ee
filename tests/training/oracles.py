"""transformers' BERT and T5 with the weights of a GGUF file."""

from pathlib import Path

import torch
import transformers

from training.reference import Reference

_BERT = {
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "layer_output_norm": "output.LayerNorm",
}
_BERT_FIRST = {
    "token_embd": "word_embeddings",
    "position_embd": "position_embeddings",
    "token_types": "token_type_embeddings",
    "token_embd_norm": "LayerNorm",
}
_T5 = {
    "attn_norm": "0.layer_norm",
    "attn_rel_b": "0.SelfAttention.relative_attention_bias",
    "cross_attn_norm": "1.layer_norm",
    "ffn_norm": "layer_norm",
    "ffn_gate": "DenseReluDense.wi_0",
    "ffn_up": "DenseReluDense.wi_1",
    "ffn_down": "DenseReluDense.wo",
}


def bert(path: Path) -> transformers.BertModel:
    file = Reference(path)
    m = file.m
    config = transformers.BertConfig(
        vocab_size=len(file.metadata["tokenizer.ggml.tokens"]),
        hidden_size=m["embedding_length"],
        num_hidden_layers=m["block_count"],
        num_attention_heads=m["attention.head_count"],
        intermediate_size=m["feed_forward_length"],
        max_position_embeddings=m["context_length"],
        layer_norm_eps=m["attention.layer_norm_epsilon"],
    )
    model = transformers.BertModel(config, add_pooling_layer=False)

    def name(full: str) -> str:
        stem, _, kind = full.rpartition(".") if full.endswith(".bias") else (full, "", "weight")
        if not stem.startswith("blk."):
            return f"embeddings.{_BERT_FIRST[stem]}.{kind}"
        _, layer, part = stem.split(".")
        return f"encoder.layer.{layer}.{_BERT[part]}.{kind}"

    return _filled(model, {name(n): w for n, w in file.weights.items()})


def t5(path: Path) -> transformers.T5ForConditionalGeneration:
    file = Reference(path)
    m = file.m
    config = transformers.T5Config(
        vocab_size=len(file.metadata["tokenizer.ggml.tokens"]),
        d_model=m["embedding_length"],
        d_kv=m["attention.key_length"],
        d_ff=m["feed_forward_length"],
        num_layers=m["block_count"],
        num_decoder_layers=m["decoder_block_count"],
        num_heads=m["attention.head_count"],
        relative_attention_num_buckets=m["attention.relative_buckets_count"],
        layer_norm_epsilon=m["attention.layer_norm_rms_epsilon"],
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=True,
        decoder_start_token_id=m["decoder_start_token_id"],
    )
    model = transformers.T5ForConditionalGeneration(config)

    def name(full: str) -> str:
        if full == "token_embd":
            return "shared.weight"
        side, rest = full.split(".", 1)
        stack = {"enc": "encoder", "dec": "decoder"}[side]
        if rest == "output_norm":
            return f"{stack}.final_layer_norm.weight"
        _, layer, part = rest.split(".")
        if part.startswith("ffn"):
            place = f"{1 if side == 'enc' else 2}.{_T5[part]}"
        elif part in _T5:
            place = _T5[part]
        else:
            crosses = part.startswith("cross")
            place = f"1.EncDecAttention.{part[-1]}" if crosses else f"0.SelfAttention.{part[-1]}"
        return f"{stack}.block.{layer}.layer.{place}.weight"

    weights = {name(n): w for n, w in file.weights.items()}
    for other in ("encoder.embed_tokens", "decoder.embed_tokens", "lm_head"):
        weights[f"{other}.weight"] = weights["shared.weight"]
    return _filled(model, weights)


def _filled(model, weights):
    """Every weight that the model has and none else, so that nothing is left random."""
    state = {n: torch.from_numpy(w).float() for n, w in weights.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(n.endswith(("position_ids", "token_type_ids")) for n in missing), missing
    return model.eval()
