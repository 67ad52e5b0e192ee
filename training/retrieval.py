"""What the embedding model has learnt: is the nearest of many spans the one of the same text?"""

from collections import Counter

import numpy as np
import torch
from tokenizers import Tokenizer

from training.bert import Bert
from training.evaluate import EVALUATION_SEED
from training.pairs import STORIES, padded, sentences, span
from training.texts import Text

DRAWS = 10  # of a query and a candidate from each held-out document
SPAN = 62  # tokens of these at most

Score = dict[str, dict[str, float]]  # top_1 and mean reciprocal rank, of stories and of books


class Retrieval:
    """Held-out documents: a query is a span of a document's first half, its candidate one of the
    second; the other candidates are those of all the other documents, stories and pieces of books.
    """

    def __init__(self, texts: list[Text], tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.trained_on = [d for text in texts for d in text.train]
        self.is_story = np.array([t.name == STORIES for t in texts for _ in t.held_out])
        held = [sentences(d, tokenizer) for text in texts for d in text.held_out]
        rng = np.random.default_rng(EVALUATION_SEED)
        self.draws = [
            (
                [span(d[: len(d) // 2], SPAN, rng) for d in held],
                [span(d[len(d) // 2 :], SPAN, rng) for d in held],
            )
            for _ in range(DRAWS)
        ]

    @torch.no_grad()
    def of_model(self, model: Bert) -> Score:
        """Of the cosines of the model's vectors."""

        def vectors(spans: list[list[int]]) -> np.ndarray:
            tokens, real = padded(spans, self.tokenizer)
            return model(torch.from_numpy(tokens), torch.from_numpy(real)).numpy()

        return self._score([_cosines(vectors(a), vectors(b)) for a, b in self.draws])

    def of_words(self, weighted: bool) -> Score:
        """Of the cosines of counts of words, each ``weighted`` by how few training documents
        have it (the logarithm of the share's inverse) or not."""
        seen = Counter(w for d in self.trained_on for w in set(self._words(self._ids(d))))
        total = len(self.trained_on)

        def cosines(a: list[list[int]], b: list[list[int]]) -> np.ndarray:
            counts = [Counter(self._words(ids)) for ids in (*a, *b)]
            columns = {word: i for i, word in enumerate({w: 0 for c in counts for w in c})}
            table = np.zeros((len(counts), len(columns)))
            for row, count in zip(table, counts, strict=True):
                for word, n in count.items():
                    rarity = np.log((total + 1) / (seen[word] + 1)) if weighted else 1.0
                    row[columns[word]] = n * rarity
            return _cosines(table[: len(a)], table[len(a) :])

        return self._score([cosines(a, b) for a, b in self.draws])

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def _words(self, ids: list[int]) -> list[str]:
        pieces = [self.tokenizer.id_to_token(i) for i in ids]
        return " ".join(pieces).replace(" ##", "").split()

    def _score(self, likeness: list[np.ndarray]) -> Score:
        """From a matrix [query, candidate] a draw."""
        own = np.stack([np.diag(one) for one in likeness])
        ranks = (np.stack(likeness) >= own[:, :, None]).sum(2)
        return {
            kind: {
                "top_1": round(float((ranks[:, chosen] == 1).mean()), 4),
                "mrr": round(float((1 / ranks[:, chosen]).mean()), 4),
            }
            for kind, chosen in (("stories", self.is_story), ("books", ~self.is_story))
        }


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    return a @ b.T / np.maximum(lengths, 1e-9)
