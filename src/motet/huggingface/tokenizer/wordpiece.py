"""WordPiece of a ``tokenizer.json`` or ``vocab.txt``: GGUF's ``bert``."""

from motet.errors import shown
from motet.huggingface.tokenizer.description import Description, Draft
from motet.huggingface.tokenizer.pre_tokenizers import steps
from motet.tokenizer.spm import SPACE
from motet.tokenizer.types import TokenType
from motet.weights.gguf_metadata import MetadataValue

_USED = "type", "vocab", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word"
_GOES_ON = "##"
_LONGEST_WORD = 100


def read_wordpiece(description: Description) -> Draft:
    """The vocabulary. Raises TokenizerError and UnsupportedError, see ``read_tokenizer_json``.

    Where BERT's lists have ## before what goes on with a word, GGUF has a U+2581 before the others.
    """
    description.require_only(_USED)
    model = description.model
    for key, usual in (
        ("continuing_subword_prefix", _GOES_ON),
        ("max_input_chars_per_word", _LONGEST_WORD),
    ):
        if model.get(key, usual) != usual:
            raise description.refusal(f"{key} {shown(model[key])}")
    keys = _normalization(description)
    vocab = description.words()
    unknown = model.get("unk_token")
    if unknown is not None and (not isinstance(unknown, str) or unknown not in vocab):
        raise description.damaged(f"has the unknown token {shown(unknown)}, which is no token")
    added = {token.content for token in description.added.values()}
    for token in description.added.values():
        if token.normalized and not token.special and token.content != token.content.lower():
            raise description.refusal(f"the added token {shown(token.content)} in lower case")
    table = description.empty_table()
    table.fill(
        (index, text if text in added else _spelt(text), 0.0, TokenType.NORMAL)
        for text, index in vocab.items()
    )
    return Draft("bert", table, keys=keys)


def _spelt(text: str) -> str:
    goes_on = text.startswith(_GOES_ON) and len(text) > len(_GOES_ON)
    return text[len(_GOES_ON) :] if goes_on else SPACE + text


def _normalization(description: Description) -> dict[str, MetadataValue]:
    before = [*steps(description.normalizer, "normalizers")]
    after = [*steps(description.pre_tokenizer, "pretokenizers")]
    if [step.get("type") for step in after] != ["BertPreTokenizer"]:
        raise description.refusal(f"the pre-tokenizer {shown(description.pre_tokenizer)}")
    match before:
        case [
            {
                "type": "BertNormalizer",
                "clean_text": True,
                "handle_chinese_chars": True,
                "lowercase": bool(lowercase),
                "strip_accents": bool() | None as strip_accents,
            }
        ]:
            keys: dict[str, MetadataValue] = {"pre": "default", "normalizer.lowercase": lowercase}
            if strip_accents is not None:
                keys["normalizer.strip_accents"] = strip_accents
            return keys
        case _:
            raise description.refusal(f"the normalizer {shown(description.normalizer)}")
