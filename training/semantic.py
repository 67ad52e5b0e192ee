"""Where the embedding model begins: word vectors by latent semantic analysis of its documents."""

import numpy as np

from training.pairs import Sentences

CHANCE = 0.3  # share of what is random in a vector


def word_vectors(
    documents: list[Sentences], n_vocab: int, size: int, rng: np.random.Generator
) -> np.ndarray:
    """float32 [n_vocab, size]: pieces that occur in the same documents point the same way, and a
    vector is as long as the logarithm of how few documents have its piece.

    Deerwester et al. 1990: the right singular vectors of the table of documents and weighted
    pieces. A random part is added, as rare pieces have little else.
    """
    counts = np.zeros((len(documents), n_vocab))
    for row, document in zip(counts, documents, strict=True):
        for sentence in document:
            np.add.at(row, sentence, 1)
    rarity = np.log((len(documents) + 1) / ((counts > 0).sum(0) + 1))
    table = np.log1p(counts) * rarity
    table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)
    *_, axes = np.linalg.svd(table, full_matrices=False)
    known = np.zeros((n_vocab, size))
    known[:, : len(axes)] = axes[:size].T
    known /= np.sqrt((known**2).mean())
    known /= np.sqrt((known**2).mean(1, keepdims=True)) + 0.05  # what is hardly known stays short
    vectors = (1 - CHANCE) * known + CHANCE * rng.normal(size=known.shape)
    return (vectors * rarity[:, None]).astype(np.float32)
