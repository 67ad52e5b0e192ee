"""The WordPiece vocabulary of the embedding model."""

from __future__ import annotations

import io
import string
from typing import TYPE_CHECKING

import sentencepiece as spm
from gguf import TokenType
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing

from training.texts import Text
from training.vocabulary import WEIGHTS

if TYPE_CHECKING:
    from gguf import GGUFWriter

SIZE = 3072
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = string.ascii_lowercase + string.digits + string.punctuation
NORMALIZER = BertNormalizer(lowercase=True)


def train_wordpiece(texts: list[Text], size: int = SIZE) -> list[str]:
    """Pieces of the training documents, at most ``size``; those within a word begin with ##.

    SentencePiece's BPE finds them, in words as BERT cuts them: it gives the same pieces each time,
    as the trainer of ``tokenizers`` does not.
    """
    lines = []
    for text in texts:
        for document in text.train:
            words = BertPreTokenizer().pre_tokenize_str(NORMALIZER.normalize_str(document))
            lines += [" ".join(word for word, _ in words)] * WEIGHTS[text.name]
    model = io.BytesIO()
    spm.SentencePieceTrainer.Train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=size - len(LETTERS),
        character_coverage=1.0,
        normalization_rule_name="identity",
        required_chars=LETTERS,
        max_sentence_length=20000,
        num_threads=1,
        minloglevel=2,
    )
    trained = spm.SentencePieceProcessor(model_proto=model.getvalue())
    found = [trained.id_to_piece(i) for i in range(3, trained.vocab_size())]  # from <unk> <s> </s>
    opening = [piece[1:] for piece in found if piece.startswith("▁") and len(piece) > 1]
    inner = [f"##{piece}" for piece in found if piece[0] not in "▁" + string.punctuation]
    return list(dict.fromkeys([*SPECIAL, *LETTERS, *opening, *inner]))


def make_tokenizer(pieces: list[str]) -> Tokenizer:
    """A tokenizer like BERT's uncased ones; encoding puts [CLS] first and [SEP] last."""
    ids = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = NORMALIZER
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    return tokenizer


def add_wordpiece(writer: GGUFWriter, pieces: list[str]) -> None:
    """The pieces as GGUF's ``bert`` tokenizer: those that open a word carry the mark of a space."""
    stored, types = [], []
    for piece in pieces:
        control = piece in SPECIAL and piece != "[UNK]"
        stored.append(piece if control else piece[2:] if piece.startswith("##") else "▁" + piece)
        unknown = TokenType.UNKNOWN if piece == "[UNK]" else TokenType.NORMAL
        types.append(TokenType.CONTROL if control else unknown)
    writer.add_token_type_count(2)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(stored)
    writer.add_token_types(types)
    writer.add_unk_token_id(pieces.index("[UNK]"))
    writer.add_sep_token_id(pieces.index("[SEP]"))
    writer.add_pad_token_id(pieces.index("[PAD]"))
    writer.add_bos_token_id(pieces.index("[CLS]"))
    writer.add_mask_token_id(pieces.index("[MASK]"))
