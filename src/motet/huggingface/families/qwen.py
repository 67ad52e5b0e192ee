"""Qwen 2, 2.5 and 3, their embeddings, and Qwen 3's rerankers."""

from pathlib import Path
from typing import Any

from motet.errors import ModelFileError, UnsupportedError
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import (
    BARE,
    EXPERTS_DOWN,
    EXPERTS_IN_ONE,
    SCORE,
    UNUSED_BUFFERS,
    Keys,
    all_full,
    attention,
    classifies,
    tied,
)
from motet.huggingface.families.rotary import rope, rope_of
from motet.huggingface.families.sentence import pooling, vectors
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from motet.huggingface.tensors import Change, picked, same

_README = "README.md"
_RERANKER = "qwen3-reranker"
_VOCABULARIES = "tokenizer.json", "vocab.json"
_ANSWERS = "yes", "no"
_PROMPT = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and"
    ' the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n<Instruct>: Given a web search query, retrieve relevant passages that answer"
    " the query\n<Query>: {query}\n<Document>: {document}<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
"""What its makers ask a reranker, from its README."""


def qwen2(config: ConfigReader, files: Directory) -> Plan:
    """The ``qwen2`` architecture."""
    keys = _keys(config)
    return Plan(
        "qwen2",
        keys["block_count"],
        keys | vectors(config, files),
        renamed=(BARE, SCORE),
        unused=UNUSED_BUFFERS,
        tied=tied(config, default=False),
    )


def qwen3(config: ConfigReader, files: Directory) -> Plan:
    """The ``qwen3`` architecture. A reranker's classifier is the head's rows of "yes" and "no"."""
    if classifies(config):
        raise UnsupportedError(
            f"{config.where}: is a Qwen 3 with a classifier of its own; those of GGUF answer with"
            " shares of yes and no",
            hint="use the reranker as its makers published it, Qwen3ForCausalLM",
        )
    config.assume(head_dim=128)
    keys = _keys(config)
    is_tied = tied(config, default=False)
    splits: dict[str, dict[str, Change]] = {}
    tokenizer: Keys = {}
    if _is_reranker(config, files):
        head = "model.embed_tokens.weight" if is_tied else "lm_head.weight"
        kept = {head: same} if is_tied else {}
        splits[head] = kept | {"cls.output.weight": picked(*_answers(files))}
        is_tied = is_tied or None  # nothing but the two rows is left of a head of its own
        keys |= {"pooling_type": 4, "classifier.output_labels": list(_ANSWERS)}
        tokenizer = {"chat_template.rerank": _PROMPT, "chat_templates": ["rerank"]}
    else:
        keys |= pooling(files)
    return Plan(
        "qwen3",
        keys["block_count"],
        keys,
        renamed=(BARE,),
        unused=UNUSED_BUFFERS,
        tied=is_tied,
        splits=splits,
        tokenizer=tokenizer,
    )


def qwen3_moe(config: ConfigReader, files: Directory) -> Plan:
    """The ``qwen3moe`` architecture."""
    config.assume(head_dim=128, num_experts_per_tok=8, norm_topk_prob=False)
    keys = _keys(config)
    keys["expert_count"] = config.integer("num_experts", "num_local_experts")
    keys["expert_used_count"] = config.integer("num_experts_per_tok")
    keys["expert_feed_forward_length"] = config.integer("moe_intermediate_size")
    config.only("norm_topk_prob", True, "weights of experts that are not shares of 1")
    config.only("decoder_sparse_step", 1, "layers without experts")
    config.only("mlp_only_layers", [], "layers without experts")
    return Plan(
        "qwen3moe",
        keys["block_count"],
        keys | pooling(files),
        renamed=(BARE, EXPERTS_DOWN),
        unused=UNUSED_BUFFERS,
        tied=tied(config, default=False),
        splits=EXPERTS_IN_ONE,
    )


def _keys(config: ConfigReader) -> Keys:
    """Refuses a window: GGUF does not say which of these layers slide."""
    keys = attention(config) | rope(rope_of(config))
    config.only("use_sliding_window", False, "layers that slide")
    config.ignore("sliding_window", "max_window_layers")  # of layers that would slide
    all_full(config, keys["block_count"])
    config.only("use_mrope", False, "positions of pictures")
    config.only("hidden_act", "silu", "another activation")
    config.ignore("attention_bias")  # biases show in the tensors
    return keys


def _is_reranker(config: ConfigReader, files: Directory) -> bool:
    """By what llama.cpp goes by too: its README's heading, or a name."""
    if files.has(_README) and f"# {_RERANKER}".encode() in files.data(_README).lower():
        return True
    path = Path(files.path).resolve()
    names = [path.name, str(config.value("_name_or_path", default=""))]
    if path.parent.name == "snapshots":  # of a hub cache: models--org--name/snapshots/commit
        names.append(path.parent.parent.name)
    return any(_RERANKER in name.lower() for name in names)


def _answers(files: Directory) -> list[int]:
    """The ids of "yes" and "no"."""
    name = next((name for name in _VOCABULARIES if files.has(name)), None)
    if name is None:
        raise ModelFileError(
            f"{files.path}: has no {_VOCABULARIES[0]}, to find a reranker's yes and no in",
            hint="fetch the whole directory again",
        )
    words: Any = files.json(name)
    if name == _VOCABULARIES[0]:
        model = words.get("model")
        words = model.get("vocab") if isinstance(model, dict) else None
    known = words if isinstance(words, dict) else {}
    ids = [i for word in _ANSWERS if type(i := known.get(word)) is int and i >= 0]
    if len(ids) < len(_ANSWERS):
        raise ModelFileError(
            f"{files.located(name)}: lacks one of {' and '.join(_ANSWERS)}, with which a reranker"
            " answers"
        )
    return ids
