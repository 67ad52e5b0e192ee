"""The tokenizer of a Hugging Face directory, as the metadata of a GGUF file."""

from dataclasses import dataclass

import numpy as np

from motet.errors import TokenizerError, UnsupportedError, shown
from motet.huggingface.files import Directory
from motet.huggingface.tokenizer.added_tokens import AddedToken, read_added_tokens
from motet.huggingface.tokenizer.chat_templates import chat_template_keys
from motet.huggingface.tokenizer.description import Draft
from motet.huggingface.tokenizer.files import CONFIG, FAST, MODEL_CONFIG, TokenizerFiles
from motet.huggingface.tokenizer.post_processor import Around, read_post_processor
from motet.huggingface.tokenizer.ranks import KIMI, RANKS, read_ranks
from motet.huggingface.tokenizer.sentencepiece_model import as_draft, fairseq_order, read_model
from motet.huggingface.tokenizer.special_tokens import SpecialTokens, special_keys
from motet.huggingface.tokenizer.token_table import looks_special
from motet.huggingface.tokenizer.tokenizer_json import read_tokenizer_json
from motet.huggingface.tokenizer.wordlists import (
    MERGES,
    RWKV,
    VOCABULARY,
    WORDS,
    byte_level_json,
    read_rwkv,
    wordpiece_json,
)
from motet.weights.gguf_metadata import MetadataValue

_SENTENCEPIECE = "tokenizer.model", "tokenizer.model.v3", "spiece.model"
_FAIRSEQ = "sentencepiece.bpe.model"
"""XLM-RoBERTa's, whose ids are others."""
_JSON_FIRST = frozenset(
    (
        *("gpt2", "gptneox", "starcoder2", "mpt", "mamba", "olmo2", "deepseek2", "gpt-oss"),
        *("falcon-h1", "glm4", "glm4moe", "kimi-linear", "nemotron_h", "nemotron_h_moe"),
        *("modern-bert", "jina-bert-v2", "bert", "nomic-bert", "gemma4"),
    )
)
"""Families of which llama.cpp's converter never looks for a SentencePiece file, or only last."""
_OTHERS = "tekken.json", RANKS, "qwen.tiktoken", "vocab.bpe"
_TOKEN_TYPES = {"bert": 1, "nomic-bert": 1, "jina-bert-v2": 2}
"""Architectures with embeddings for kinds of tokens -> how many, where the file does not say."""
_FIRST_PIECE = b"\n"
"""How a SentencePiece model begins; OpenAI's tiktoken lists, of the same name, do not."""
_XLM_ROBERTA = Around((0,), (2,), (2, 2))
_ENDED = "t5", "bert"
"""Kinds of vocabularies in which EOS is added where the file does not say."""
_RWKV_KIND, _RWKV_END_OF_TURN, _RWKV_TEMPLATE = "rwkv", 261, "rwkv-world"
"""RWKV's turns end with an empty line."""
_TURNS_STRIP = "phi3", "phimoe"
"""Architectures whose added tokens take the spaces after them, as Motet does for these."""


def read_tokenizer(files: Directory, architecture: str, n_vocab: int) -> dict[str, MetadataValue]:
    """All ``tokenizer.*`` keys for a directory, as ``motet.tokenizer.from_gguf`` reads them.

    ``n_vocab``: rows of the model's embedding; ids that no token has become ``[PAD123]``, unused.

    Where several files are there, the first of these, as llama.cpp's converter has it:
    ``rwkv_vocab_v20230424.txt``; Kimi's ``tiktoken.model``; a SentencePiece model
    (``tokenizer.model``, ``spiece.model``, ``sentencepiece.bpe.model``); ``tokenizer.json``;
    ``vocab.txt``; ``vocab.json`` with ``merges.txt``. For families whose vocabularies are not
    SentencePiece's (GPT-2, MPT, Mamba, BERT, DeepSeek 2, ...) ``tokenizer.json`` comes before it. A
    directory without any of them has no vocabulary (``tokenizer.ggml.model`` is ``none``).

    No code of the directory is run. A tokenizer class of its own (``auto_map``) is refused, but for
    RWKV's and Kimi's, which do what Motet does.

    Raises TokenizerError for files that are damaged or contradict each other, ModelFileError for
    JSON that is none, UnsupportedError for a tokenizer that Motet would not do exactly.
    """
    try:
        return _keys(TokenizerFiles(files), architecture, n_vocab)
    except RecursionError:
        raise TokenizerError(
            f"{files.path}: the tokenizer's files are nested too deep",
            hint="fetch the directory again",
        ) from None


def _keys(reading: TokenizerFiles, architecture: str, n_vocab: int) -> dict[str, MetadataValue]:
    added = read_added_tokens(reading)
    found = _read(reading, architecture, n_vocab, added)
    if found is None:
        return {"tokenizer.ggml.model": "none"}
    draft, table = found.draft, found.draft.table
    table.add(added)
    _check_stripping(reading, added, architecture)
    special = SpecialTokens(reading, table.ids(), n_vocab, found.defaults)
    keys: dict[str, MetadataValue] = {"model": draft.kind, **draft.keys, "tokens": table.tokens}
    if draft.scored:
        keys["scores"] = np.asarray(table.scores, np.float32).tolist()
    keys["token_type"] = list(map(int, table.types))
    keys |= special_keys(special, found.around, found.adds, reading.where(CONFIG))
    keys |= _token_types(reading, architecture)
    templates = chat_template_keys(reading)
    if not templates and draft.kind == _RWKV_KIND:
        templates = {"chat_template": _RWKV_TEMPLATE}
    return {f"tokenizer.ggml.{key}": value for key, value in keys.items()} | {
        f"tokenizer.{key}": value for key, value in templates.items()
    }


@dataclass
class _Found:
    """A vocabulary with what its files say of special tokens.

    ``around``: the post-processor's, None if it says nothing; then ``adds``: whether "bos" and
    "eos" are added, None if no file says it. ``defaults``: ids where no other file names a part.
    """

    draft: Draft
    around: Around | None
    adds: dict[str, bool | None]
    defaults: dict[str, int]


def _read(
    files: TokenizerFiles, architecture: str, n_vocab: int, added: dict[int, AddedToken]
) -> _Found | None:
    """The vocabulary of the first file that there is; None where there is none."""
    if files.has(RWKV):
        defaults = {"bos": 0, "eos": 0, "eot": _RWKV_END_OF_TURN}
        return _Found(read_rwkv(files, n_vocab), None, {"bos": False, "eos": False}, defaults)
    if files.has(RANKS) and files.json(CONFIG).get("tokenizer_class") == KIMI:
        draft = read_ranks(files, n_vocab, added)
        return _Found(draft, None, {"bos": False, "eos": False}, {})
    _check_class(files)
    around = read_post_processor(files.json(FAST).get("post_processor"), files.where(FAST))
    adds = {part: files.flag(CONFIG, f"add_{part}_token") for part in ("bos", "eos")}
    if not (files.has(FAST) and architecture in _JSON_FIRST):
        name = next(filter(files.has, _SENTENCEPIECE), None)
        data = files.directory.data(name) if name else b""
        if name and (data[:1] == _FIRST_PIECE or not files.has(FAST)):
            gemma = architecture.startswith("gemma")
            return _sentencepiece(files, name, data, n_vocab, gemma, around, adds)
    if files.has(_FAIRSEQ):
        model = fairseq_order(read_model(files.directory.data(_FAIRSEQ), files.where(_FAIRSEQ)))
        draft = as_draft(model, files.where(_FAIRSEQ), n_vocab)
        return _Found(draft, around or _XLM_ROBERTA, adds, {"bos": 0, "eos": 2, "pad": 1})
    if files.has(FAST):
        name, content = FAST, files.json(FAST)
    elif files.has(WORDS):
        name, content = WORDS, wordpiece_json(files)
    elif files.has(VOCABULARY) and files.has(MERGES):
        name, content = VOCABULARY, byte_level_json(files, architecture)
    else:
        _check_others(files)
        return None
    draft = read_tokenizer_json(content, files.where(name), architecture, n_vocab, added)
    around = read_post_processor(content.get("post_processor"), files.where(name))
    adds["bos"] = adds["bos"] or False
    if draft.kind in _ENDED:
        adds["eos"] = adds["eos"] or False
    return _Found(draft, around, adds, {})


def _sentencepiece(
    files: TokenizerFiles,
    name: str,
    data: bytes,
    n_vocab: int,
    gemma: bool,
    around: Around | None,
    adds: dict[str, bool | None],
) -> _Found:
    """``gemma``: transformers never puts a space before text for these, whatever the model says."""
    model = read_model(data, files.where(name))
    draft = as_draft(model, files.where(name), n_vocab)
    prefix = False if gemma else files.flag(CONFIG, "add_prefix_space")
    if prefix is not None:
        draft.keys["add_space_prefix"] = prefix
    named = {"bos": model.bos, "eos": model.eos}
    defaults = {part: index for part, index in named.items() if index is not None}
    return _Found(draft, around, adds, defaults)


def _check_class(files: TokenizerFiles) -> None:
    own = files.table(CONFIG, "auto_map").get("AutoTokenizer")
    if own:
        raise UnsupportedError(
            f"{files.where(CONFIG)}: the tokenizer is code of the model's own ({shown(own)}), "
            "which is not run",
            hint="use a GGUF file of the model, or a copy whose tokenizer.json says all",
        )


def _check_others(files: TokenizerFiles) -> None:
    other = next(filter(files.has, _OTHERS), None)
    if other is not None:
        raise UnsupportedError(
            f"{files.where(other)}: a vocabulary of this kind is not supported",
            hint="save the tokenizer with transformers as tokenizer.json",
        )


def _check_stripping(
    files: TokenizerFiles, added: dict[int, AddedToken], architecture: str
) -> None:
    """Tokens found in any text must not take the spaces around them: GGUF can't say it."""
    for token in added.values():
        hidden = token.special or looks_special(token.content) or architecture in _TURNS_STRIP
        if (token.lstrip or token.rstrip) and not hidden:
            raise UnsupportedError(
                f"{files.where(FAST)}: the added token {shown(token.content)} takes the spaces "
                "beside it (lstrip, rstrip), which is not supported"
            )


def _token_types(files: TokenizerFiles, architecture: str) -> dict[str, MetadataValue]:
    """How many kinds of tokens have embeddings, which the format counts with the vocabulary."""
    if architecture not in _TOKEN_TYPES:
        return {}
    count = files.json(MODEL_CONFIG).get("type_vocab_size", _TOKEN_TYPES[architecture])
    if type(count) is not int or count < 0:
        raise files.error(MODEL_CONFIG, f"has type_vocab_size {shown(count)}, must be a count")
    return {"token_type_count": count}
