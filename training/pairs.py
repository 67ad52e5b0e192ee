"""Pairs of spans of one document: what the embedding model learns from, and is judged by."""

import re
from dataclasses import replace

import numpy as np
from tokenizers import Tokenizer

from training.texts import Text

STORIES = "tinystories.txt"
PASSAGE = 1000  # characters of a passage of a book, at least: as long as a story
COMMON = 150  # of the commonest pieces, which Swaps leaves
BAND = 250  # pieces of about one frequency, which may stand for one another
_END = re.compile(r"""(?<=[.!?])\s+|(?<=[.!?]["'])\s+|\n+""")

Sentences = list[list[int]]  # token ids of each sentence, without [CLS] and [SEP]


def split_anew(texts: list[Text], stories: int = 50, passages: int = 50) -> list[Text]:
    """The texts in stories and passages, so many of either held out, spread evenly."""
    cut = [[p for d in t.train + t.held_out for p in _passages(t.name, d)] for t in texts]
    books = sum(len(cut[i]) for i, text in enumerate(texts) if text.name != STORIES)
    made = []
    for text, documents in zip(texts, cut, strict=True):
        size = len(documents)
        share = stories if text.name == STORIES else max(1, round(passages * size / books))
        held = {(2 * i + 1) * size // (2 * share) for i in range(share)}
        kept = [d for i, d in enumerate(documents) if i not in held]
        made.append(replace(text, train=kept, held_out=[documents[i] for i in sorted(held)]))
    return made


def _passages(name: str, document: str) -> list[str]:
    """A story is one; a piece of a book is cut at ends of sentences."""
    if name == STORIES:
        return [document]
    passages = [""]
    for sentence in _END.split(document):
        if len(passages[-1]) >= PASSAGE:
            passages.append("")
        passages[-1] += f" {sentence}"
    return [p.strip() for p in passages if len(p) >= PASSAGE]


def sentences(text: str, tokenizer: Tokenizer) -> Sentences:
    """Sentences of three words or more."""
    long = [sentence for sentence in _END.split(text) if len(sentence.split()) >= 3]
    return [e.ids for e in tokenizer.encode_batch(long, add_special_tokens=False)]


def documents(text: Text, tokenizer: Tokenizer) -> list[Sentences]:
    """The training documents with sentences enough for two spans."""
    made = [sentences(document, tokenizer) for document in text.train]
    return [document for document in made if len(document) >= 2]


def span(source: Sentences, longest: int, rng: np.random.Generator) -> list[int]:
    """Whole sentences in a row, from a random one on; the last is cut at ``longest`` tokens."""
    start = int(rng.integers(len(source)))
    wanted = int(rng.integers(longest // 4, longest + 1))
    ids: list[int] = []
    for sentence in source[start:]:
        if ids and len(ids) + len(sentence) > wanted:
            break
        ids += sentence
    return ids[:longest]


def pair(
    document: Sentences, longest: int, rng: np.random.Generator
) -> tuple[list[int], list[int]]:
    """A span from before a sentence's end and one from after it, at most ``longest`` tokens."""
    cut = int(rng.integers(1, len(document)))
    return span(document[:cut], longest, rng), span(document[cut:], longest, rng)


class Swaps:
    """Lets pieces of about one frequency stand for one another.

    A few hundred stories can be learnt by heart. With other words in each step, though the same
    in both spans of a pair, what is left to learn is how much a word that two spans share tells.
    """

    def __init__(self, source: list[list[Sentences]], tokenizer: Tokenizer) -> None:
        size = tokenizer.get_vocab_size()
        ids = [i for text in source for d in text for sentence in d for i in sentence]
        counts = np.bincount(ids, minlength=size)
        order = np.argsort(-counts, kind="stable")[COMMON:]
        order = order[counts[order] > 0]
        inner = np.array([tokenizer.id_to_token(i).startswith("##") for i in order])
        self.identity = np.arange(size)
        self.bands = [
            kind[start : start + BAND]
            for kind in (order[inner], order[~inner])
            for start in range(0, len(kind), BAND)
        ]

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """What each id becomes, int64 [n_vocab]."""
        becomes = self.identity.copy()
        for band in self.bands:
            becomes[band] = rng.permutation(band)
        return becomes


def padded(spans: list[list[int]], tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Tokens int64 [B, T] in [CLS] and [SEP], and which are no padding, bool [B, T]."""
    first, last, pad = (tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]", "[PAD]"))
    tokens = np.full((len(spans), max(map(len, spans)) + 2), pad, np.int64)
    for row, ids in zip(tokens, spans, strict=True):
        row[: len(ids) + 2] = [first, *ids, last]
    lengths = np.array([len(ids) + 2 for ids in spans])
    return tokens, np.arange(tokens.shape[1]) < lengths[:, None]
