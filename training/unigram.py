"""The Unigram vocabulary of the tiny T5."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import sentencepiece as spm
from gguf import TokenType

from training.texts import Text
from training.vocabulary import WEIGHTS

if TYPE_CHECKING:
    from gguf import GGUFWriter

SIZE = 1024
PRINTABLE = "".join(chr(c) for c in range(33, 127))
PLAIN = {"\n": " ", "\r": " ", "\t": " ", "\xa0": " ", "“": '"', "”": '"', "‘": "'", "’": "'"}
"""What is read as something plainer; SentencePiece then makes one space of several."""


def train_unigram(texts: list[Text], size: int = SIZE) -> spm.SentencePieceProcessor:
    """At most so many pieces as T5 has them: <pad>, </s>, <unk>, then words; each digit is one."""
    lines = []
    for text in texts:
        lines += [x for d in text.train for x in d.split("\n") if x] * WEIGHTS[text.name]
    model = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder) / "plain.tsv"
        rules.write_text("".join(f"{ord(a):X}\t{ord(b):X}\n" for a, b in PLAIN.items()))
        spm.SentencePieceTrainer.Train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="unigram",
            vocab_size=size,
            hard_vocab_limit=False,
            character_coverage=1.0,
            normalization_rule_tsv=str(rules),
            split_digits=True,
            required_chars=PRINTABLE,
            max_sentence_length=20000,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    return spm.SentencePieceProcessor(model_proto=model.getvalue())


def add_unigram(writer: GGUFWriter, vocabulary: spm.SentencePieceProcessor) -> None:
    """The pieces as GGUF's ``t5`` tokenizer."""
    ids = range(vocabulary.vocab_size())

    def token_type(i: int) -> TokenType:
        if vocabulary.is_unknown(i):
            return TokenType.UNKNOWN
        return TokenType.CONTROL if vocabulary.is_control(i) else TokenType.NORMAL

    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([vocabulary.id_to_piece(i) for i in ids])
    writer.add_token_scores([vocabulary.get_score(i) for i in ids])
    writer.add_token_types([token_type(i) for i in ids])
    writer.add_add_space_prefix(True)
    writer.add_remove_extra_whitespaces(True)
    writer.add_precompiled_charsmap(_charsmap(vocabulary.serialized_model_proto()))
    writer.add_pad_token_id(vocabulary.pad_id())
    writer.add_eos_token_id(vocabulary.eos_id())
    writer.add_unk_token_id(vocabulary.unk_id())
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(True)


def _charsmap(model: bytes) -> bytes:
    """PLAIN as SentencePiece compiled it: field 2 of the model's normalizer_spec, its field 3
    (``sentencepiece_model.proto``)."""
    return _fields(_fields(model)[3])[2]


def _fields(message: bytes) -> dict[int, bytes]:
    """The last value of each field with a length, of a message in protobuf's wire format."""
    fields, at = {}, 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        field, kind = divmod(number(), 8)
        if kind == 0:
            number()
            continue
        size = number() if kind == 2 else {1: 8, 5: 4}[kind]
        fields[field] = message[at : at + size]
        at += size
    return fields
