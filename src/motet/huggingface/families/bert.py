"""BERT, RoBERTa and XLM-RoBERTa, and Jina's BERT, of which Hugging Face's name is BERT too."""

from motet.errors import UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import Keys, classifies, encoder
from motet.huggingface.families.sentence import vectors
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from motet.huggingface.tensors import cut, part

RENAMED = (
    (r"^(bert|roberta)\.", ""),
    (r"\.gamma$", ".weight"),  # of TensorFlow's checkpoints
    (r"\.beta$", ".bias"),
)
UNUSED = (r"embeddings\.position_ids", r"cls\..*", r"lm_head\..*")
"""Heads that guess words in the middle of a text; ``position_ids`` are 0, 1, 2 …"""
_POOLER = (r"pooler\..*",)
"""Of the next sentence's prediction: it takes no part in vectors, but in BERT's classifier."""
_CLASSIFIER = (
    (r"^classifier\.(weight|bias)$", r"classifier.out_proj.\1"),
    (r"^pooler\.dense\.", "classifier.dense."),
)


def bert(config: ConfigReader, files: Directory) -> Plan:
    """The ``bert`` architecture for model type bert, or ``jina-bert-v2`` where it has ALiBi."""
    if config.value("position_embedding_type", default=None) == "alibi":
        return _jina(config, files)
    types = config.integer("type_vocab_size", default=2)
    keys = _keys(config) | vectors(config, files)
    renamed, unused = (_CLASSIFIER, ()) if classifies(config) else ((), _POOLER)
    return Plan(
        "bert",
        keys["block_count"],
        keys,
        renamed=(*RENAMED, *renamed),
        unused=(*UNUSED, *unused),
        types_pairs=classifies(config) and types > 1,
    )


def roberta(config: ConfigReader, files: Directory) -> Plan:
    """The ``bert`` architecture for model types roberta and xlm-roberta.

    Positions are counted from the one after padding's: the rows before it are not used.
    """
    config.assume(pad_token_id=1)
    keys = _keys(config) | vectors(config, files)
    offset = config.integer("pad_token_id") + 1
    rows = keys["context_length"]
    if rows <= offset:
        raise config.wrong(("max_position_embeddings",), rows, f"a number above {offset}")
    keys["context_length"] = rows - offset
    return Plan(
        "bert",
        keys["block_count"],
        keys,
        renamed=RENAMED,
        unused=(*UNUSED, *_POOLER),
        changes={"position_embd.weight": cut(offset, rows)},
    )


def _keys(config: ConfigReader) -> Keys:
    config.assume(layer_norm_eps=1e-12)
    keys = encoder(config)
    config.only("hidden_act", "gelu", "another activation")
    config.only("position_embedding_type", "absolute", "other positions")
    config.only("is_decoder", False, "attention in one direction")
    config.only("add_cross_attention", False, "attention to another model")
    config.ignore("type_vocab_size")  # shows in the tensors
    config.ignore("sbert_ce_default_activation_function", "sentence_transformers")  # of scores
    _ignore_old(config)
    return keys


def _ignore_old(config: ConfigReader) -> None:
    """Keys of Google's first BERTs, which nothing has ever read."""
    config.ignore("directionality", "pooler_fc_size", "pooler_num_attention_heads")
    config.ignore("pooler_num_fc_layers", "pooler_size_per_head", "pooler_type")


def _jina(config: ConfigReader, files: Directory) -> Plan:
    """The ``jina-bert-v2`` architecture. Its gate and its other half stand in one matrix."""
    config.assume(layer_norm_eps=1e-12)
    keys = encoder(config)
    config.only("hidden_act", "gelu", "another activation")
    config.only("feed_forward_type", "geglu", "another feed-forward network")
    config.only("is_decoder", False, "attention in one direction")
    config.only("use_qk_norm", False, "norms on queries and keys")
    config.ignore("type_vocab_size", "model_max_length", "position_embedding_type")
    pooled = vectors(config, files)
    mode = config.text("emb_pooler", default=None)
    if mode not in (None, "mean"):
        raise UnsupportedError(f"{config.where}: emb_pooler is {shown(mode)}")
    if not pooled and mode == "mean":
        pooled = {"pooling_type": 1}
    halves = {".mlp.gated_layers_w.weight": part(0, 2), ".mlp.gated_layers_v.weight": part(1, 2)}
    return Plan(
        "jina-bert-v2",
        keys["block_count"],
        keys | pooled,
        renamed=RENAMED,
        unused=(*UNUSED, *_POOLER),
        splits={".mlp.gated_layers.weight": halves, ".mlp.up_gated_layer.weight": halves},
    )
