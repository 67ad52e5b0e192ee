"""The SentencePiece vocabulary of the tiny models."""

import io
from pathlib import Path

import sentencepiece as spm

from training.texts import Text

SIZE = 1024
# How often each text counts, so that the few pieces favour simple English.
WEIGHTS = {
    "tinystories.txt": 8,
    "wizard_of_oz.txt": 2,
    "frankenstein.txt": 1,
    "pride_and_prejudice.txt": 1,
    "tinyshakespeare.txt": 0,
}


def train_vocabulary(texts: list[Text], path: Path, size: int = SIZE) -> None:
    """Train a BPE vocabulary on the training documents and write the SentencePiece model.

    BPE because GGUF's ``llama`` tokenizer merges by score, as SentencePiece's BPE does. Digits
    are split so that a number is spelt one token a digit; unknown characters fall back to bytes.
    """
    lines = []
    for text in texts:
        document_lines = [line for document in text.train for line in document.split("\n") if line]
        lines += document_lines * WEIGHTS[text.name]
    model = io.BytesIO()
    spm.SentencePieceTrainer.Train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        character_coverage=0.9999,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        required_chars="0123456789",
        byte_fallback=True,
        max_sentence_length=20000,
        num_threads=1,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())


def load_vocabulary(path: Path) -> spm.SentencePieceProcessor:
    return spm.SentencePieceProcessor(model_file=str(path))
